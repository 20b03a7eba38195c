//! The commands `status` and `healthcheck`: what an edge says about itself, read from its admin port.
//!
//! Rates are the difference of two readings, so that an edge keeps no windows of time for it.

mod client;
mod report;
mod table;

use std::io::{self, Write};
use std::time::Duration;

use http::StatusCode;
use tokio::time::sleep;

use crate::status::client::AdminPort;
pub use crate::status::client::StatusError;
use crate::status::report::{Reading, Report};

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Puts the cursor of a terminal in the first place and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How `hiveway status` was called.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the admin port is: `http://127.0.0.1:9400`.
    pub admin: String,
    /// Whether to go on until interrupted, once a second.
    pub watch: bool,
    /// JSON instead of a table: one document, or one a line and second.
    pub json: bool,
    /// Whether the output is a terminal, where a table can be drawn over the last one.
    pub terminal: bool,
}

/// Reads an edge's state twice, a second apart, and writes it down; with `watch`, again and again.
///
/// # Errors
/// If the admin port gives no answer at the first reading, or nothing more can be written.
pub async fn run(options: &Options, out: &mut impl Write) -> Result<(), StatusError> {
    let admin = options.admin.parse::<AdminPort>()?;
    let mut before = Reading::of(&admin).await?;
    loop {
        sleep(INTERVAL).await;
        match Reading::of(&admin).await {
            Ok(after) => {
                write_report(&Report::between(&before, &after), options, out)?;
                before = after;
            }
            // The edge may be on its way to its next version: whoever watches wants to see that.
            Err(error) if options.watch => write_absence(&error, options, out)?,
            Err(error) => return Err(error),
        }
        if !options.watch {
            return Ok(());
        }
    }
}

fn write_report(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    if options.json {
        // Whoever reads a stream reads it line by line.
        let write =
            if options.watch { serde_json::to_string } else { serde_json::to_string_pretty };
        writeln!(out, "{}", write(report)?)?;
    } else {
        clear(options, out)?;
        out.write_all(report.text()?.as_bytes())?;
    }
    out.flush()
}

fn write_absence(error: &StatusError, options: &Options, out: &mut impl Write) -> io::Result<()> {
    if options.json {
        writeln!(out, "{}", serde_json::json!({ "error": error.to_string() }))?;
    } else {
        clear(options, out)?;
        writeln!(out, "{error}")?;
    }
    out.flush()
}

fn clear(options: &Options, out: &mut impl Write) -> io::Result<()> {
    if options.watch && options.terminal { out.write_all(CLEAR.as_bytes()) } else { Ok(()) }
}

/// Whether the edge is ready, for Docker's HEALTHCHECK: its word if it is.
///
/// # Errors
/// If it is not, or does not answer within 3 s.
pub async fn healthcheck(admin: &str) -> Result<String, StatusError> {
    let admin = admin.parse::<AdminPort>()?;
    let (status, text) = admin.get("/readyz", Duration::from_secs(3)).await?;
    let text = text.trim().to_owned();
    match status {
        StatusCode::OK => Ok(text),
        StatusCode::SERVICE_UNAVAILABLE => Err(StatusError::NotReady(text)),
        _ => Err(StatusError::Unexpected {
            admin: admin.to_string(),
            path: "/readyz".to_owned(),
            problem: format!("{status}: {text}"),
        }),
    }
}

#[cfg(test)]
mod tests;
