//! The one table of static options.
//!
//! Names of environment variables, "did you mean" and `config/hiveway.toml` all come from it.

mod edge;
mod listener;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, Listener};
use crate::suggest;
use crate::value::{self, Mistake};

/// One row: everything there is to know about an option.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file with that of its table: `limits.head-size`. A part that is `*` stands
    /// for a name that the writer gives: `listeners.*.address`.
    pub name: &'static str,
    /// How it is written in the file if it is to be as it is anyway; or an example, if no value
    /// says the same as none.
    pub written: Sample,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// Reads the value.
    pub read: Read,
}

/// A value for `config/hiveway.toml`, as TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The default.
    Default(&'static str),
    /// There is no default that could be written.
    Example(&'static str),
}

/// Into what an option is read.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// Into the configuration of the edge.
    Edge(fn(&mut Config, Written<'_>) -> Result<(), Mistake>),
    /// Into that of one listener.
    Listener(fn(&mut Listener, Written<'_>) -> Result<(), Mistake>),
}

/// An option as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'o> {
    /// What stands for the `*` of the row's name; empty if it has none.
    pub name: &'o str,
    /// The value; lists have commas.
    pub text: &'o str,
    /// What relative paths start from.
    pub base: &'o Path,
}

impl Written<'_> {
    fn path(&self) -> Result<PathBuf, Mistake> {
        if self.text.is_empty() {
            return Err(Mistake::new("is empty", "write a path", ""));
        }
        Ok(self.base.join(self.text))
    }

    /// A list that may have no entries.
    fn list<T>(&self, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<Vec<T>, Mistake> {
        if self.text.is_empty() { Ok(Vec::new()) } else { value::list(self.text, read) }
    }
}

impl Setting {
    const fn edge(
        name: &'static str,
        written: Sample,
        meaning: &'static str,
        read: fn(&mut Config, Written<'_>) -> Result<(), Mistake>,
    ) -> Self {
        Self { name, written, meaning, read: Read::Edge(read) }
    }

    const fn listener(
        name: &'static str,
        written: Sample,
        meaning: &'static str,
        read: fn(&mut Listener, Written<'_>) -> Result<(), Mistake>,
    ) -> Self {
        Self { name, written, meaning, read: Read::Listener(read) }
    }

    /// What stands for the `*` if the row is the one for this path; empty if it has none.
    fn matches<'p>(&self, path: &'p [String]) -> Option<&'p str> {
        let parts: Vec<&str> = self.name.split('.').collect();
        if parts.len() != path.len() {
            return None;
        }
        let mut name = "";
        for (part, written) in parts.iter().zip(path) {
            if *part == "*" {
                name = written;
            } else if part != written {
                return None;
            }
        }
        Some(name)
    }
}

/// Every option, in the order of `config/hiveway.toml`.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    edge::FIRST.iter().chain(listener::SETTINGS).chain(edge::SETTINGS)
}

/// The row for the names of tables and option, and what stands for its `*`.
pub fn find(path: &[String]) -> Option<(&'static Setting, &str)> {
    settings().find_map(|setting| setting.matches(path).map(|name| (setting, name)))
}

/// The option that the writer of an unknown one may have meant, under the names that he gave.
pub fn closest(path: &[String]) -> Option<String> {
    let named = settings().map(|setting| {
        let given = |(index, part): (usize, &str)| match part {
            "*" => path.get(index).map_or("<name>", String::as_str).to_owned(),
            part => part.to_owned(),
        };
        setting.name.split('.').enumerate().map(given).collect::<Vec<_>>().join(".")
    });
    let candidates: Vec<String> = named.collect();
    let written = path.join(".");
    suggest::closest(&written, candidates.iter().map(String::as_str)).map(str::to_owned)
}

/// `config/hiveway.toml`: every option with its meaning and default, each behind a comment mark.
pub fn reference() -> String {
    let mut file = String::from(
        "# Every static option of Hiveway. What stands behind `#` is the default: remove the mark\n\
         # to write something else. Each can also be given as an environment variable:\n\
         # `head-size` of `[limits]` is HIVEWAY_LIMITS_HEAD_SIZE, `address` of `[listeners.web]`\n\
         # is HIVEWAY_LISTENERS_WEB_ADDRESS. Durations are written 500ms, 10s, 5m, 1h, 365d; sizes\n\
         # 64KiB, 10MB. Relative paths are relative to this file.\n",
    );
    let mut table = String::new();
    for setting in settings() {
        let (section, key) = setting.name.rsplit_once('.').unwrap_or_default();
        if section != table {
            section.clone_into(&mut table);
            let _ = writeln!(file, "\n[{}]", section.replace('*', "web"));
        }
        let _ = writeln!(file, "# {}", setting.meaning);
        let _ = match setting.written {
            Sample::Default(value) => writeln!(file, "#{key} = {value}"),
            Sample::Example(value) if key == "*" => writeln!(file, "#   {value}"),
            Sample::Example(value) => writeln!(file, "# No default, for example: {key} = {value}"),
        };
    }
    file
}

/// Puts what was read where it belongs.
fn put<T>(place: &mut T, read: Result<T, Mistake>) -> Result<(), Mistake> {
    *place = read?;
    Ok(())
}

/// An IP address and a port.
fn address(text: &str) -> Result<std::net::SocketAddr, Mistake> {
    text.parse().map_err(|_| {
        let help = "write an IP address and a port; an IPv6 address stands in brackets, and \
                    `[::]` is every address";
        Mistake::new("is not an address with a port", help, "[::]:80")
    })
}
