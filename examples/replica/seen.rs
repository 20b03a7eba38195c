//! Which requests this replica has seen, so that a test can tell a repeated one from a lost one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
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
pub(crate) struct Seen(Mutex<Counts>);

impl Seen {
    /// Counts one request, before it is answered.
    pub(crate) fn record(&self, headers: &HeaderMap) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        let id = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(id) = id("x-request-id") {
            *counts.request_ids.entry(id).or_default() += 1;
        }
        if let Some(id) = id("x-client-id") {
            *counts.client_ids.entry(id).or_default() += 1;
        }
    }

    /// The counts as JSON.
    pub(crate) fn to_json(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&*counts).unwrap_or_default()
    }
}
