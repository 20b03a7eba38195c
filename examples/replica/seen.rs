//! Which requests this replica has seen, so that a test can tell a repeated one from a lost one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method};
use serde::Serialize;

/// Counts by `X-Request-ID` and by `X-Client-Id`; what `/log` answers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Requests without either are counted here alone.
    requests: u64,
    /// Requests by the id that the proxy gave or passed on.
    request_ids: BTreeMap<String, u64>,
    /// Requests by the id that the client gave; the proxy must not touch it.
    client_ids: BTreeMap<String, u64>,
}

/// The counts of all connections.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    counts: Mutex<Counts>,
    /// Ids of POSTs, one a line: they can be read when the replica has died.
    ran: Option<File>,
}

impl Seen {
    /// Nothing yet. POSTs are added to the file, if there is one.
    pub(crate) fn new(ran: Option<&Path>) -> io::Result<Self> {
        let append = |path| File::options().create(true).append(true).open(path);
        Ok(Self { counts: Mutex::default(), ran: ran.map(append).transpose()? })
    }

    /// Counts one request, before it is answered.
    pub(crate) fn record(&self, method: &Method, headers: &HeaderMap) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        let id = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(id) = id("x-request-id") {
            *counts.request_ids.entry(id).or_default() += 1;
        }
        if let Some(id) = id("x-client-id") {
            if let (Some(mut ran), true) = (self.ran.as_ref(), method == Method::POST) {
                // A disk that is full shows as ids that are missing.
                let _ = ran.write_all(format!("{id}\n").as_bytes());
            }
            *counts.client_ids.entry(id).or_default() += 1;
        }
    }

    /// The counts as JSON.
    pub(crate) fn to_json(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&*counts).unwrap_or_default()
    }
}
