//! The one table of metrics: what each is called, what it counts, and by which labels.
//!
//! The scrape and the table in the README both come from it. Names and labels are promises to
//! dashboards. No label has a value that a client made up.

/// One row: everything there is to know about a metric.
#[derive(Debug)]
pub struct Metric {
    /// With base units, and `_total` for what only grows.
    pub name: &'static str,
    /// What can be done with its numbers.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it means; a sentence.
    pub help: &'static str,
}

/// What can be done with a metric's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until what counts it is gone.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// Prometheus's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! table {
    ($($row:ident: $kind:ident $name:literal [$($label:ident),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $row: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$(stringify!($label)),*],
                help: $help,
            };
        )*
        /// All rows, in the order of the README.
        pub static ALL: &[&Metric] = &[$(&$row),*];
    };
}

table! {
    REQUESTS: Counter "hiveway_http_requests_total" [listener, route, service, method, code]
        "Requests by status; 499 if the client left first. `route` is `none` if no route was found, or looked for.";
    REQUEST_DURATION: Histogram "hiveway_http_request_duration_seconds" [route, service]
        "Time from the request head to the last byte of the response.";
    REQUEST_BYTES: Counter "hiveway_http_request_body_bytes_total" [route, service]
        "Bytes of request bodies that clients sent.";
    RESPONSE_BYTES: Counter "hiveway_http_response_body_bytes_total" [route, service]
        "Bytes of response bodies that clients were sent.";
    IN_FLIGHT: Gauge "hiveway_http_requests_in_flight" [service]
        "Requests taken and not answered to the end.";
    QUEUED: Gauge "hiveway_http_requests_queued" [service]
        "Requests that wait for a replica.";
    REFUSED: Counter "hiveway_http_requests_refused_total" [listener, reason]
        "Requests that the edge answered itself, and connections that it closed unserved.";
    LOG_DROPPED: Counter "hiveway_access_log_dropped_total" []
        "Requests that are missing in the access log, since it could not be written fast enough.";
    CALLS: Counter "hiveway_grpc_responses_total" [route, service, grpc_code]
        "gRPC calls by how they ended: `OK`, `Unavailable`, ...; `Canceled` also if the client left.";
    UPSTREAM_REQUESTS: Counter "hiveway_upstream_requests_total" [service, endpoint, outcome]
        "Requests sent to a replica: `ok`, `5xx`, `unavailable` (gRPC), or why there was no answer.";
    UPSTREAM_DURATION: Histogram "hiveway_upstream_response_duration_seconds" [service, endpoint]
        "Time from the last byte of the request to the response head.";
    UPSTREAM_IN_FLIGHT: Gauge "hiveway_upstream_in_flight" [service, endpoint]
        "Requests that a replica has and has not answered to the end.";
    UPSTREAM_CONNECTIONS: Gauge "hiveway_upstream_connections" [service, endpoint]
        "Connections to a replica.";
    ENDPOINT_STATE: Gauge "hiveway_upstream_endpoint_state" [service, endpoint, state]
        "1 for the state that a replica is in, 0 for all others.";
    EJECTIONS: Counter "hiveway_upstream_ejections_total" [service, endpoint, reason]
        "Times that a replica was left out for failing.";
    CHECKS: Counter "hiveway_upstream_checks_total" [service, endpoint, result]
        "Health checks of a replica: `ok`, or why it failed: `status`, `timeout`, `connect`, ...";
    RETRIES: Counter "hiveway_upstream_retries_total" [service, endpoint, reason]
        "Requests that went to another replica after this one failed.";
    DISAGREEMENT: Gauge "hiveway_upstream_disagreement_seconds" [service]
        "For how long DNS and the task list have named different replicas.";
    CONNECTIONS_OPEN: Gauge "hiveway_downstream_connections_open" [listener]
        "Connections of clients.";
    CONNECTIONS_ACCEPTED: Counter "hiveway_downstream_connections_accepted_total" [listener]
        "Connections of clients so far.";
    HANDSHAKES: Counter "hiveway_tls_handshakes_total" [version, result]
        "TLS handshakes: `ok`, or why there was none; the version is `none` then.";
    MEMORY_PRESSURE: Gauge "hiveway_memory_pressure" []
        "0 with memory enough; 1 closes idle connections, 2 refuses requests too, 3 connections too.";
    CERTIFICATE_EXPIRY: Gauge "hiveway_certificate_expiry_timestamp_seconds" [name]
        "When the certificate for a name expires; of several the one that lasts longest.";
    SWAPS: Counter "hiveway_snapshot_swaps_total" [provider]
        "Times that the routing table was replaced.";
    LAST_SUCCESS: Gauge "hiveway_provider_last_success_timestamp_seconds" [provider]
        "When the provider last read the state of the Swarm; 0 if it never did.";
    PROVIDER_ERRORS: Counter "hiveway_provider_errors_total" [provider]
        "Reads of the Swarm's state, and event streams, that failed.";
    AGENT_FOLLOWERS: Gauge "hiveway_agent_followers" []
        "Edges that follow this agent.";
    AGENT_SENT_BYTES: Counter "hiveway_agent_sent_bytes_total" []
        "Bytes of messages that this agent sent to edges.";
    AGENT_REFUSED: Counter "hiveway_agent_connections_refused_total" [reason]
        "Connections that this agent closed: `handshake`, `limit`, or `stalled` edges.";
    DIAGNOSTICS: Gauge "hiveway_label_diagnostics" [service, severity]
        "Mistakes in the labels of a service.";
    BUILD_INFO: Gauge "hiveway_build_info" [version]
        "Always 1; the label names the version.";
}
