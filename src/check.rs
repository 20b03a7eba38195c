//! `hiveway check`: what is wrong with a configuration, a services file or a stack file, before it
//! is deployed.
//!
//! Files are read, nothing else is asked: what depends on the Swarm, such as shared networks, is not
//! seen here.

mod conflicts;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::inventory::Replicas;
use crate::labels;
use crate::services_file::{self, Declaration, FileError};
use crate::source::{self, Position};
use crate::spec::RouteSpec;
use crate::stack_file;
use crate::{config, document};

/// Reads each file, writes what is wrong with it to `out` in the manner of rustc, and a summary.
/// Whether a file is a configuration, a services file or a stack file, its name and content tell.
///
/// The answer is whether no error was found; warnings do not count.
///
/// # Errors
/// If `out` cannot be written to. A file that cannot be read is no such error, but one that is
/// written to `out`.
pub fn check(paths: &[PathBuf], out: &mut dyn Write) -> io::Result<bool> {
    let mut total = Findings::default();
    for path in paths {
        let findings = match std::fs::read_to_string(path) {
            Ok(text) => examine(path, &text),
            Err(error) => Findings::of_failure(format!(
                "error: the file cannot be read: {error}\n  --> {}\n",
                path.display()
            )),
        };
        for message in &findings.messages {
            writeln!(out, "{message}")?;
        }
        total.add(&findings);
    }
    writeln!(
        out,
        "checked {}: {}, {}, {}, {}",
        counted(paths.len(), "file"),
        counted(total.services, "service"),
        counted(total.routes, "route"),
        counted(total.errors, "error"),
        counted(total.warnings, "warning")
    )?;
    Ok(total.errors == 0)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What was found in files.
#[derive(Debug, Default)]
struct Findings {
    messages: Vec<String>,
    services: usize,
    routes: usize,
    errors: usize,
    warnings: usize,
}

impl Findings {
    fn of_failure(message: String) -> Self {
        Self { messages: vec![message], errors: 1, ..Self::default() }
    }

    fn of_file_error(error: &FileError) -> Self {
        Self::of_failure(format!("error: {error}"))
    }

    fn push(&mut self, severity: Severity, message: String) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        self.messages.push(message);
    }

    fn add(&mut self, other: &Self) {
        self.services += other.services;
        self.routes += other.routes;
        self.errors += other.errors;
        self.warnings += other.warnings;
    }
}

/// What a file is.
enum Kind {
    Config,
    Services,
    Stack,
}

/// A YAML name makes a stack file. Of TOML files, the one with `services` is no configuration.
fn kind(path: &Path, text: &str) -> Kind {
    let extension = path.extension().unwrap_or_default();
    let is_toml = extension.eq_ignore_ascii_case("toml");
    if extension.eq_ignore_ascii_case("yml") || extension.eq_ignore_ascii_case("yaml") {
        return Kind::Stack;
    }
    match document::leaves(text) {
        Ok(leaves) => {
            let first =
                |leaf: &document::Leaf| leaf.path.first().map(String::as_str) == Some("services");
            if leaves.iter().any(first) { Kind::Services } else { Kind::Config }
        }
        Err(_) if is_toml && text.contains("[services.") => Kind::Services,
        Err(_) if is_toml => Kind::Config,
        Err(_) => Kind::Stack,
    }
}

fn examine(path: &Path, text: &str) -> Findings {
    let name = path.display().to_string();
    let declarations = match kind(path, text) {
        Kind::Config => return examine_config(path, text),
        Kind::Services => services_file::declarations(text, &name),
        Kind::Stack => stack_file::declarations(text, &name),
    };
    match declarations {
        Ok(declarations) => examine_services(&name, text, declarations),
        Err(error) => Findings::of_file_error(&error),
    }
}

fn examine_config(path: &Path, text: &str) -> Findings {
    let nothing = std::collections::BTreeMap::new();
    let complaints = match Config::read(Some((path, text)), &[], &nothing) {
        Ok((_, warnings)) => warnings,
        Err(config::ConfigErrors(complaints)) => complaints,
    };
    let mut findings = Findings::default();
    for complaint in complaints {
        findings.push(complaint.severity, complaint.to_string());
    }
    findings
}

/// A service with the routes that its labels make.
struct Examined {
    declaration: Declaration,
    routes: Vec<RouteSpec>,
}

impl Examined {
    fn new(mut declaration: Declaration) -> Self {
        let parsed = labels::parse(&declaration.service.name, &declaration.service.labels);
        for diagnostic in parsed.diagnostics {
            let at = diagnostic.label.as_ref().and_then(|label| declaration.labels_at.get(label));
            let at = at.copied().unwrap_or(declaration.at);
            declaration.diagnostics.push((diagnostic, at));
        }
        Self { declaration, routes: parsed.routes }
    }

    /// A service in a Swarm must say its port, or publish exactly one.
    fn check_port(&mut self) {
        let service = &self.declaration.service;
        let in_swarm = matches!(service.replicas, Replicas::Tasks { .. });
        let is_open = self.routes.iter().any(|route| route.target.port.is_none());
        let published = service.ports.len();
        if !in_swarm || !is_open || published == 1 || self.declaration.is_partial {
            return;
        }
        let at = self.declaration.at;
        let problem = match published {
            0 => "says no port, and publishes none".to_owned(),
            _ => format!("says no port, and publishes {published}"),
        };
        let help = "write the port the container listens on, for example `hiveway.port: 8080`";
        self.declaration.complain(Severity::Error, at, problem, help);
    }
}

fn examine_services(name: &str, text: &str, declarations: Vec<Declaration>) -> Findings {
    let mut services: Vec<Examined> = declarations.into_iter().map(Examined::new).collect();
    for service in &mut services {
        service.check_port();
    }
    conflicts::find(&mut services);
    let mut findings = Findings {
        services: services.iter().filter(|service| !service.routes.is_empty()).count(),
        routes: services.iter().map(|service| service.routes.len()).sum(),
        ..Findings::default()
    };
    let mut diagnostics: Vec<(Diagnostic, Position)> =
        services.into_iter().flat_map(|service| service.declaration.diagnostics).collect();
    diagnostics.sort_by_key(|(_, at)| *at);
    for (diagnostic, at) in diagnostics {
        findings.push(diagnostic.severity, message(name, text, &diagnostic, at));
    }
    findings
}

fn message(name: &str, text: &str, diagnostic: &Diagnostic, at: Position) -> String {
    let whole = diagnostic.to_string();
    // Its second part is the advice, which stands below the excerpt here.
    let headline = whole.strip_suffix(&format!("\n  help: {}", diagnostic.help)).unwrap_or(&whole);
    let headline: String =
        headline.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let excerpt = source::excerpt(name, text, at);
    format!("{headline}\n{excerpt}{}", source::help(at, &diagnostic.help))
}

#[cfg(test)]
mod tests;
