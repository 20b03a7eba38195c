//! Which route takes a request: by host, then priority, then path, then further conditions.

pub mod host;
pub mod path;
