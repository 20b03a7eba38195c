//! The services of a Compose or stack file (YAML), as far as Hiveway's labels go.
//!
//! Labels count where Swarm puts them on the service: under `deploy:`. All else in the file is
//! passed over; whether it is a valid stack, `docker stack deploy` says. Variables are filled in
//! with the defaults that the file gives; the environment of a later deployment is not known here.

mod interpolation;
mod yaml;

use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, Severity};
use crate::inventory::PublishedPort;
use crate::labels;
use crate::services_file::{Declaration, FileError};
use crate::source::{self, Position};
use crate::stack_file::interpolation::{Filled, interpolate};
use crate::stack_file::yaml::{Labels, Port, Service};

/// The services of the file in its order, with where everything stands.
///
/// `name` is the file's, for messages. Names are as the file has them, without a stack's prefix.
///
/// # Errors
/// If the file is not YAML, or its services are not written like services.
pub fn declarations(text: &str, name: &str) -> Result<Vec<Declaration>, FileError> {
    let stack: yaml::Stack = serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map_or(START, |location| position(text, location));
        let problem = error.without_snippet().to_string();
        // The place is said by the excerpt, and the parser's settings are nobody's business.
        let problem = problem.split(" at line ").next().unwrap_or_default();
        let problem = problem.split(", set ").next().unwrap_or_default();
        FileError {
            problem: format!("the file is not a stack file: {problem}"),
            at,
            excerpt: source::excerpt(name, text, at),
            help: "see the reference of Compose files for how services are written".to_owned(),
        }
    })?;
    let services = stack.services.unwrap_or_default().0.into_iter().enumerate();
    let declarations = services.map(|(index, (name, service))| {
        let at = position(text, name.defined);
        let mut declaration = Declaration::new(&name.value, index, at);
        Reader { text, declaration: &mut declaration }.read(service.unwrap_or_default());
        declaration
    });
    Ok(declarations.collect())
}

const START: Position = Position { line: 1, column: 1, width: 1 };

fn position(text: &str, location: Location) -> Position {
    Position::of_bytes(text, bytes(location))
}

fn bytes(location: Location) -> std::ops::Range<usize> {
    let span = location.span();
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let start = span.byte_offset().map_or(0, number);
    start..start.saturating_add(span.byte_len().map_or(0, number))
}

/// One label as the file has it.
struct Label {
    name: String,
    text: String,
    at: Position,
}

struct Reader<'r> {
    text: &'r str,
    declaration: &'r mut Declaration,
}

impl Reader<'_> {
    fn read(&mut self, service: Service) {
        for port in service.ports.unwrap_or_default() {
            self.port(&port);
        }
        for label in self.ours(service.labels) {
            let help = "move it under `deploy:` into `labels:`, where Swarm puts it on the service";
            let problem = "is on the containers, where it does nothing";
            self.complain(Severity::Error, &label, problem, help);
            self.declaration.service.container_labels.insert(label.name, label.text);
        }
        for label in self.ours(service.deploy.and_then(|deploy| deploy.labels)) {
            self.label(label);
        }
    }

    /// The labels that are ours, from either form in which they can be written.
    fn ours(&self, labels: Option<Labels>) -> Vec<Label> {
        let labels: Vec<Label> = match labels {
            None => Vec::new(),
            Some(Labels::Map(pairs)) => pairs
                .into_iter()
                .map(|(name, value)| Label {
                    name: name.value,
                    at: position(self.text, value.defined),
                    text: value.value.unwrap_or_default(),
                })
                .collect(),
            Some(Labels::List(lines)) => lines.iter().map(|line| self.in_list(line)).collect(),
        };
        labels.into_iter().filter(|label| labels::is_ours(&label.name)).collect()
    }

    /// A label of the form `name=value`; its position is that of the value.
    fn in_list(&self, line: &Spanned<String>) -> Label {
        let (name, text) = line.value.split_once('=').unwrap_or((&line.value, ""));
        let mut range = bytes(line.defined);
        let written = self.text.get(range.clone()).unwrap_or_default();
        if let Some(equals) = written.find('=').filter(|at| at + 1 < written.len()) {
            let closing = usize::from(written.ends_with(['"', '\'']));
            range = range.start + equals + 1..range.end - closing;
        }
        let at = Position::of_bytes(self.text, range);
        Label { name: name.to_owned(), text: text.to_owned(), at }
    }

    fn label(&mut self, label: Label) {
        match interpolate(&label.text) {
            Filled::Whole(text) => {
                let declaration = &mut *self.declaration;
                declaration.labels_at.insert(label.name.clone(), label.at);
                declaration.service.labels.insert(label.name, text);
            }
            Filled::Unknown(variable) => {
                self.declaration.is_partial = true;
                let problem = format!("cannot be checked: it depends on the variable `{variable}`");
                let help = format!("write a default, as in `${{{variable}:-value}}`");
                self.complain(Severity::Warning, &label, &problem, &help);
            }
            Filled::Broken => {
                self.declaration.is_partial = true;
                let problem = "has a `$` that begins no variable";
                self.complain(Severity::Error, &label, problem, "write `$$` for a plain `$`");
            }
        }
    }

    fn complain(&mut self, severity: Severity, label: &Label, problem: &str, help: &str) {
        let name = &self.declaration.service.name;
        let diagnostic = Diagnostic::of_service(severity, name, problem, help);
        let diagnostic = diagnostic.at_label(&label.name, &label.text);
        self.declaration.diagnostics.push((diagnostic, label.at));
    }

    fn port(&mut self, port: &Port) {
        let read = match port {
            Port::Short(text) => match interpolate(text) {
                Filled::Whole(text) if text.ends_with("/udp") => return,
                Filled::Whole(text) => short_port(&text),
                Filled::Unknown(_) | Filled::Broken => None,
            },
            Port::Long(long) if long.protocol.as_deref() == Some("udp") => return,
            Port::Long(long) => {
                long.target.as_deref().and_then(|target| target.parse().ok()).map(|target| {
                    let published = long.published.as_deref().and_then(|text| text.parse().ok());
                    PublishedPort { target, published, mesh: long.mode.as_deref() != Some("host") }
                })
            }
        };
        match read {
            Some(port) => self.declaration.service.ports.push(port),
            // A range or a variable: how many ports it is, only the deployment shows.
            None => self.declaration.is_partial = true,
        }
    }
}

/// `[[address:]published:]target[/tcp]`, none for a range.
fn short_port(text: &str) -> Option<PublishedPort> {
    let text = text.strip_suffix("/tcp").unwrap_or(text);
    let mut parts = text.rsplit(':');
    let target = parts.next()?.parse().ok()?;
    let published = parts.next().filter(|part| !part.is_empty());
    let published = match published {
        Some(part) => Some(part.parse().ok()?),
        None => None,
    };
    Some(PublishedPort { target, published, mesh: true })
}

#[cfg(test)]
mod tests;
