//! What is wrong with a label, where it stands, and what to write instead.
//!
//! Diagnostics are collected, never thrown: a mistake on one service costs no other its traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a mistake costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something was ignored or is doubtful; traffic flows.
    Warning,
    /// A route does not take traffic as written.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One complaint about one service, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What it costs.
    pub severity: Severity,
    /// Full name of the service, for example `shop_web`.
    pub service: String,
    /// The label as written, for example `hiveway.port`; none if the service as a whole is meant.
    pub label: Option<String>,
    /// The label's value as written.
    pub value: Option<String>,
    /// What is wrong, as the end of the sentence that names service and label.
    pub problem: String,
    /// What to write or do instead; a sentence without its first capital and its full stop.
    pub help: String,
}

impl Diagnostic {
    /// A complaint about the service as a whole.
    pub fn of_service(
        severity: Severity,
        service: &str,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            service: service.to_owned(),
            label: None,
            value: None,
            problem: problem.into(),
            help: help.into(),
        }
    }

    /// The same complaint, pinned to one label and the value that it has.
    #[must_use]
    pub fn at_label(mut self, label: &str, value: &str) -> Self {
        self.label = Some(label.to_owned());
        self.value = Some(value.to_owned());
        self
    }
}

/// Two lines: the complaint and the remedy.
///
/// ```text
/// error: service `shop_web`: label `hiveway.port=http` is not a port number
///   help: write the number the container listens on, 1 to 65535, for example `hiveway.port=8080`
/// ```
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: service `{}`: ", self.severity, self.service)?;
        if let Some(label) = &self.label {
            let value = self.value.as_deref().unwrap_or_default();
            write!(f, "label `{label}={value}` ")?;
        }
        write!(f, "{}\n  help: {}", self.problem, self.help)
    }
}
