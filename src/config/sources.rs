//! The static options as they were written, in a file, the environment and flags, and how they
//! become a [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::options::{self, Read, Setting, Written};
use crate::config::{Complaint, Config, ConfigErrors, Listener, Origin, ProviderKind};
use crate::diagnostic::Severity;
use crate::document;
use crate::source;
use crate::value::Mistake;

/// The file that is read when none is named; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/hiveway/hiveway.toml";

/// What the environment variables of options begin with.
const VARIABLE: &str = "HIVEWAY_";

/// The variable that names the file; it stands for the flag `--config` and is no option itself.
const FILE_VARIABLE: &str = "HIVEWAY_CONFIG";

/// Everything that options are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file; none for [`DEFAULT_FILE`] if it exists.
    pub file: Option<PathBuf>,
    /// The environment; variables of others are passed over.
    pub env: Vec<(String, String)>,
    /// Flags by the name of the option: `provider.kind`.
    pub flags: BTreeMap<String, String>,
}

impl Sources {
    /// The process's environment, with the flags of its command line. A file that no flag names may
    /// be named by `HIVEWAY_CONFIG`.
    pub fn of_process(file: Option<PathBuf>, flags: BTreeMap<String, String>) -> Self {
        let file = file.or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, env: std::env::vars_os().filter_map(text).collect(), flags }
    }
}

/// An option as it was written somewhere.
#[derive(Debug)]
struct Entry {
    path: Vec<String>,
    text: String,
    /// Of the value.
    origin: Origin,
    /// Of the option's name.
    name_origin: Origin,
}

impl Config {
    /// Reads the options from all their sources.
    ///
    /// # Errors
    /// All that is wrong at once, with the warnings beside it. A file that was named and cannot be
    /// read is an error too.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Complaint>), ConfigErrors> {
        let path = sources.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::read(Some((&path, &text)), &sources.env, &sources.flags),
            Err(_) if sources.file.is_none() && !path.exists() => {
                Self::read(None, &sources.env, &sources.flags)
            }
            Err(error) => Err(ConfigErrors(vec![Complaint {
                severity: Severity::Error,
                origin: Origin::Unread(path),
                problem: format!("the file cannot be read: {error}"),
                help: "name a file that exists and may be read with `--config`".to_owned(),
            }])),
        }
    }

    /// The same, with the file's text at hand.
    ///
    /// # Errors
    /// All that is wrong at once, with the warnings beside it.
    pub fn read(
        file: Option<(&Path, &str)>,
        env: &[(String, String)],
        flags: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<Complaint>), ConfigErrors> {
        let mut entries = match file {
            Some((path, text)) => from_file(path, text)?,
            None => Vec::new(),
        };
        entries.extend(from_environment(env, &entries));
        entries.extend(flags.iter().map(|(name, text)| {
            let origin = Origin::Flag(name.clone());
            let path = name.split('.').map(str::to_owned).collect();
            Entry { path, text: text.clone(), name_origin: origin.clone(), origin }
        }));
        let mut assembly = Assembly { config: Self::unwritten(), complaints: Vec::new() };
        assembly.apply(&entries);
        assembly.complete(&entries);
        let Assembly { config, complaints } = assembly;
        if complaints.iter().any(|complaint| complaint.severity == Severity::Error) {
            return Err(ConfigErrors(complaints));
        }
        Ok((config, complaints))
    }
}

fn from_file(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigErrors> {
    let name = path.display().to_string();
    let origin =
        |at| Origin::File { path: path.to_owned(), at, excerpt: source::excerpt(&name, text, at) };
    let leaves = document::leaves(text).map_err(|error| {
        ConfigErrors(vec![Complaint {
            severity: Severity::Error,
            origin: origin(error.at),
            problem: format!("the file is not TOML: {}", error.problem),
            help: String::new(),
        }])
    })?;
    let entry = |leaf: document::Leaf| {
        let name_origin = origin(leaf.name_at);
        match leaf.text {
            Some(text) => {
                Some(Entry { path: leaf.path, text, origin: origin(leaf.value_at), name_origin })
            }
            // An empty table of a known name says nothing.
            None if is_table(&leaf.path) => None,
            None => Some(Entry {
                path: leaf.path,
                text: String::new(),
                origin: name_origin.clone(),
                name_origin,
            }),
        }
    };
    Ok(leaves.into_iter().filter_map(entry).collect())
}

/// Whether options can stand in a table of this name.
fn is_table(path: &[String]) -> bool {
    options::settings().any(|setting| {
        let parts: Vec<&str> = setting.name.split('.').collect();
        let same = |(part, written): (&&str, &String)| *part == "*" || part == written;
        path.len() < parts.len() && parts.iter().zip(path).all(same)
    })
}

fn from_environment(env: &[(String, String)], file: &[Entry]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(VARIABLE).filter(|_| name != FILE_VARIABLE) else {
            continue;
        };
        let origin = Origin::Variable(name.clone());
        let mut push = |path: Vec<String>, text: &str| {
            let (origin, name_origin) = (origin.clone(), origin.clone());
            entries.push(Entry { path, text: text.to_owned(), origin, name_origin });
        };
        if rest == "PROVIDER_HOSTS" {
            for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                let (host, stack) = pair.split_once('=').unwrap_or((pair, ""));
                push(vec!["provider".to_owned(), "hosts".to_owned(), host.to_owned()], stack);
            }
            continue;
        }
        push(variable_path(rest, file), text);
    }
    entries
}

/// The option that a variable stands for, as the names of its tables and its own; what is no option
/// comes back in a form that is none either.
fn variable_path(rest: &str, file: &[Entry]) -> Vec<String> {
    let in_variable = |name: &str| name.replace(['-', '.'], "_").to_uppercase();
    let named = options::settings().find_map(|setting| {
        let Some((before, after)) = setting.name.split_once('*') else {
            let same = in_variable(setting.name) == rest;
            return same.then(|| setting.name.split('.').map(str::to_owned).collect());
        };
        let inner = rest.strip_prefix(&in_variable(before))?.strip_suffix(&in_variable(after))?;
        // A listener of the file keeps its name, whichever of `-` and `_` it has.
        let known = file.iter().filter_map(|entry| match entry.path.as_slice() {
            [table, name, ..] if table == "listeners" => Some(name),
            _ => None,
        });
        let name = known
            .into_iter()
            .find(|name| in_variable(name) == inner)
            .cloned()
            .unwrap_or_else(|| inner.to_lowercase().replace('_', "-"));
        let after = after.trim_start_matches('.');
        (!inner.is_empty() && !after.is_empty())
            .then(|| vec![before.trim_end_matches('.').to_owned(), name, after.to_owned()])
    });
    named.unwrap_or_else(|| {
        let lower = rest.to_lowercase();
        match lower.split_once('_') {
            Some((table, name)) => vec![table.to_owned(), name.replace('_', "-")],
            None => vec![lower],
        }
    })
}

struct Assembly {
    config: Config,
    complaints: Vec<Complaint>,
}

impl Assembly {
    /// Reads each option from the strongest source that has it.
    fn apply(&mut self, entries: &[Entry]) {
        let mut strongest: BTreeMap<&[String], &Entry> = BTreeMap::new();
        for entry in entries {
            strongest.insert(&entry.path, entry);
        }
        // In the order in which they were written, so that complaints come in that order too.
        for entry in entries {
            if strongest.get(entry.path.as_slice()).is_some_and(|best| std::ptr::eq(*best, entry)) {
                self.apply_one(entry);
            }
        }
    }

    fn apply_one(&mut self, entry: &Entry) {
        let Some((setting, name)) = options::find(&entry.path) else {
            return self.unknown(entry);
        };
        let base = match &entry.origin {
            Origin::File { path, .. } => path.parent().unwrap_or(Path::new("")),
            Origin::Nowhere | Origin::Unread(_) | Origin::Variable(_) | Origin::Flag(_) => {
                Path::new("")
            }
        };
        let written = Written { name, text: entry.text.trim(), base };
        match self.read(setting, written) {
            Ok(()) => {}
            Err(Mistake { problem, help, example }) => {
                let problem = format!("`{}` {problem}", shown(&entry.path));
                let help = if example.is_empty() {
                    help
                } else {
                    format!("{help}, for example `{example}`")
                };
                self.complain(Severity::Error, &entry.origin, problem, help);
            }
        }
    }

    fn read(&mut self, setting: &Setting, written: Written<'_>) -> Result<(), Mistake> {
        match setting.read {
            Read::Edge(read) => read(&mut self.config, written),
            Read::Listener(read) => read(self.listener(written.name)?, written),
        }
    }

    /// The listener of that name, made when it is first named.
    fn listener(&mut self, name: &str) -> Result<&mut Listener, Mistake> {
        let name = crate::value::name(&name.to_lowercase()).map_err(|mistake| Mistake {
            problem: "is not in a listener's table: its name cannot be one".to_owned(),
            ..mistake
        })?;
        let listeners = &mut self.config.listeners;
        let index = listeners.iter().position(|listener| listener.name == name);
        let index = index.unwrap_or_else(|| {
            listeners.push(Listener::new(&name));
            listeners.len() - 1
        });
        let help = "give it another name";
        listeners.get_mut(index).ok_or_else(|| Mistake::new("is lost", help, ""))
    }

    fn unknown(&mut self, entry: &Entry) {
        let problem = format!("`{}` is not an option of this version", shown(&entry.path));
        let help = match options::closest(&entry.path) {
            Some(close) => match &entry.origin {
                Origin::Variable(_) => {
                    let variable = close.replace(['-', '.'], "_").to_uppercase();
                    format!("did you mean {VARIABLE}{variable}?")
                }
                Origin::Nowhere | Origin::Unread(_) | Origin::Flag(_) | Origin::File { .. } => {
                    format!("did you mean `{close}`?")
                }
            },
            None => "see config/hiveway.toml for every option".to_owned(),
        };
        self.complain(Severity::Error, &entry.name_origin, problem, help);
    }

    /// Fills in what depends on other options, and checks what no option shows alone.
    fn complete(&mut self, entries: &[Entry]) {
        self.complete_provider(entries);
        if self.config.listeners.is_empty() {
            self.config.listeners.push(Listener::new("web"));
        }
        self.config.listeners.sort_by(|a, b| a.name.cmp(&b.name));
        self.check_addresses(entries);
    }

    fn complete_provider(&mut self, entries: &[Entry]) {
        let is_written = |name: &str| entries.iter().any(|entry| shown(&entry.path) == name);
        match self.config.provider.kind {
            ProviderKind::File if !is_written("provider.path") => {
                let problem = "`provider.kind` is \"file\", but `provider.path` names none";
                let help = "write `path = \"services.toml\"` under `[provider]`";
                self.complain(Severity::Error, &Origin::Nowhere, problem.to_owned(), help);
            }
            ProviderKind::File => {}
            ProviderKind::Docker | ProviderKind::Agent => {
                let docker = std::net::SocketAddr::from(([127, 0, 0, 11], 53));
                self.config.dns.server.get_or_insert(docker);
            }
        }
    }

    fn check_addresses(&mut self, entries: &[Entry]) {
        let listeners = self.config.listeners.clone();
        for (index, listener) in listeners.iter().enumerate() {
            let path = ["listeners", &listener.name, "address"];
            let origin = entries
                .iter()
                .rev()
                .find(|entry| entry.path.iter().map(String::as_str).eq(path))
                .map_or(&Origin::Nowhere, |entry| &entry.origin);
            let name = &listener.name;
            if *origin == Origin::Nowhere && !matches!(name.as_str(), "web" | "websecure") {
                let problem = format!("listener `{name}` has no address");
                let help = format!("write `address = \"[::]:8080\"` under `[listeners.{name}]`");
                self.complain(Severity::Error, &Origin::Nowhere, problem, &help);
                continue;
            }
            let same = |other: &&Listener| other.address == listener.address;
            let earlier = listeners.iter().take(index).find(same);
            if let Some(other) = earlier.filter(|_| listener.address.port() != 0) {
                let problem = format!(
                    "listeners `{}` and `{name}` have the same address, {}",
                    other.name, listener.address
                );
                self.complain(Severity::Error, origin, problem, "give one of them another port");
            }
        }
    }

    fn complain(
        &mut self,
        severity: Severity,
        origin: &Origin,
        problem: String,
        help: impl Into<String>,
    ) {
        let origin = origin.clone();
        self.complaints.push(Complaint { severity, origin, problem, help: help.into() });
    }
}

fn shown(path: &[String]) -> String {
    path.join(".")
}
