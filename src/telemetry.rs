//! The log: one line an event, as text for people or as JSON for collectors. That of requests is
//! apart, in [`access`].

pub mod access;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Sends the log to standard error, from this level on. Does nothing if there is a log already.
pub fn start(options: &Log) {
    let level = match options.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // h2 warns of every client that goes too far: attackers could fill the log.
    let of_h2 = if level > LevelFilter::INFO { level } else { level.min(LevelFilter::ERROR) };
    let filter = EnvFilter::new(format!("{level},h2={of_h2}"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // To complain about a standard error that is closed would end the thread.
    let log = log.log_internal_errors(false);
    // A log that is there already has been asked for by whoever runs us in their own process.
    let _ = match options.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
    };
}
