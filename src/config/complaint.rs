//! What is wrong with the static options, and where it was written.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::diagnostic::Severity;
use crate::source::{self, Position};

/// Where an option was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is missing.
    Nowhere,
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        at: Position,
        /// The line with carets under it, see [`crate::source::excerpt`].
        excerpt: String,
    },
    /// A file as a whole, when it cannot be read.
    Unread(PathBuf),
    /// In the environment variable of that name.
    Variable(String),
    /// In a flag of the command line; the name of the option.
    Flag(String),
}

/// One complaint about the static options, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Errors keep the edge from starting, warnings do not.
    pub severity: Severity,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong: a sentence without its full stop.
    pub problem: String,
    /// What to write instead: a clause without its first capital and its full stop; may be empty.
    pub help: String,
}

/// In the manner of rustc.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity, self.problem)?;
        match &self.origin {
            Origin::File { excerpt, at, .. } => {
                return write!(f, "{excerpt}{}", source::help(*at, &self.help));
            }
            Origin::Nowhere => {}
            Origin::Unread(path) => writeln!(f, "  --> {}", path.display())?,
            Origin::Variable(name) => writeln!(f, "  --> environment variable {name}")?,
            Origin::Flag(name) => writeln!(f, "  --> flag for `{name}`")?,
        }
        if self.help.is_empty() { Ok(()) } else { writeln!(f, "  = help: {}", self.help) }
    }
}

/// Everything that keeps an edge from starting, and the warnings beside it; all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Complaint>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let complaints: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(complaints.join("\n").trim_end())
    }
}

impl Error for ConfigErrors {}
