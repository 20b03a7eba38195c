//! What Hiveway counts, as a real Prometheus reads it, against those who sent and answered: equal to
//! the last request and the last byte.
//!
//! Run by `./check`, with the release binary; needs Debian's `prometheus`. By hand:
//! `HIVEWAY=target/release/hiveway cargo test --test prometheus -- --nocapture`.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a client of the real thing: it waits for it, tells figures, and fails by a panic"
)]

mod client;
mod connection;
mod ledger;
mod programs;
mod replica;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::ledger::Ledger;
use crate::programs::{Directory, Edge, Prometheus};
use crate::replica::{Meetings, serve};

/// Requests in all.
const REQUESTS: u64 = 200_000;
/// Clients at once, each with a connection and one request after the other.
const CLIENTS: u64 = 32;
/// As long as Prometheus may take to have the last counts. It scrapes every second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked of Prometheus, by which label, and the page of the ledgers that must say the same.
const QUERIES: [(&str, &str, &str); 15] = [
    ("sum by (code) (hiveway_http_requests_total)", "code", "requests by code"),
    ("sum by (method) (hiveway_http_requests_total)", "method", "requests by method"),
    ("sum by (service) (NONE(hiveway_http_requests_total))", "service", "requests"),
    ("sum by (listener) (hiveway_http_requests_total)", "listener", "requests by listener"),
    ("sum by (service) (NONE(hiveway_http_request_duration_seconds_count))", "service", "requests"),
    (
        "sum by (service) (NONE(hiveway_http_request_duration_seconds_bucket{le=\"+Inf\"}))",
        "service",
        "requests",
    ),
    ("sum by (service) (hiveway_http_request_body_bytes_total)", "service", "request bytes"),
    ("sum by (service) (hiveway_http_response_body_bytes_total)", "service", "response bytes"),
    ("sum by (reason) (hiveway_http_requests_refused_total)", "reason", "refusals"),
    (
        "sum by (listener) (hiveway_downstream_connections_accepted_total)",
        "listener",
        "connections",
    ),
    (
        "sum by (service) (hiveway_upstream_response_duration_seconds_count{service!=\"hasty\"})",
        "service",
        "heads",
    ),
    (
        "sum by (service) (hiveway_upstream_requests_total{service!=\"hasty\",outcome=\"ok\"})",
        "service",
        "ok",
    ),
    (
        "sum by (service) (hiveway_upstream_requests_total{service!=\"hasty\",outcome=\"5xx\"})",
        "service",
        "5xx",
    ),
    (
        "sum by (service) (hiveway_upstream_requests_total{service!=\"hasty\",outcome=~\"reset|stale\"})",
        "service",
        "resets",
    ),
    (
        "sum by (service) (hiveway_upstream_requests_total{service!=\"hasty\",outcome=\"client\"})",
        "service",
        "left",
    ),
];

/// What is over is counted nowhere any more: each of these is 0 at the end.
const EMPTY: [&str; 5] = [
    "sum(hiveway_http_requests_in_flight)",
    "sum(hiveway_http_requests_queued)",
    "sum(hiveway_upstream_in_flight)",
    "sum(hiveway_downstream_connections_open)",
    "sum(hiveway_access_log_dropped_total)",
];

/// A client that leaves at once may do so before its request is looked at, which has no route then:
/// those of `hasty` are taken for such in any case.
fn or_none(query: &str) -> String {
    let Some((before, metric)) = query.split_once("NONE(") else {
        return query.to_owned();
    };
    let metric = metric.strip_suffix("))").expect("the end of a sum");
    format!("{before}label_replace({metric}, \"service\", \"none\", \"service\", \"hasty\"))")
}

/// What differs between the ledgers and Prometheus, one line each.
fn differences(prometheus: &Prometheus, ledger: &Ledger) -> Vec<String> {
    let mut differences = Vec::new();
    for (query, label, page) in QUERIES {
        let told = prometheus.ask(&or_none(query), label);
        let expected = ledger.page(page);
        if told != expected {
            differences.push(format!("{query}: {told:?}, but {page} are {expected:?}"));
        }
    }
    for query in EMPTY {
        let told: f64 = prometheus.ask(query, "").into_values().sum();
        if told != 0.0 {
            differences.push(format!("{query}: {told}"));
        }
    }
    // Each try that was not the first is a retry of the one before.
    let tries = prometheus.ask("sum(hiveway_upstream_requests_total{service!=\"hasty\"})", "");
    let retries = prometheus.ask("sum(hiveway_upstream_retries_total{service!=\"hasty\"})", "");
    let first: f64 = ledger.page("passed on").into_values().sum();
    let all = |counts: BTreeMap<String, f64>| counts.into_values().sum::<f64>();
    let (tries, retries) = (all(tries), all(retries));
    if (tries - retries - first).abs() > 0.5 {
        differences.push(format!("{tries} tries, {retries} retries, but {first} passed on"));
    }
    differences
}

/// Waits until Prometheus says the same, and that it goes on to do so.
fn agree(prometheus: &Prometheus, ledger: &Ledger) {
    let started = Instant::now();
    let mut agreed = 0;
    while agreed < 3 {
        let differences = differences(prometheus, ledger);
        agreed = if differences.is_empty() { agreed + 1 } else { 0 };
        let waited_for_long = started.elapsed() > PATIENCE;
        assert!(agreed > 0 || !waited_for_long, "\n{}\n", differences.join("\n"));
        thread::sleep(Duration::from_secs(1));
    }
}

/// Each request has a line, with the same status and the same bytes.
fn check_log(lines: impl Iterator<Item = serde_json::Value>, ledger: &Ledger) {
    let mut log = Ledger::default();
    for line in lines {
        let service = line.get("service").and_then(|name| name.as_str());
        let service = service.filter(|name| *name != "hasty");
        let service = service.unwrap_or("none");
        log.count("requests", service, 1);
        log.count("requests by code", &line["status"].to_string(), 1);
        log.count("request bytes", service, line["request_bytes"].as_u64().unwrap());
        log.count("response bytes", service, line["response_bytes"].as_u64().unwrap());
        if let Some(reason) = line.get("reason") {
            log.count("refusals", reason.as_str().unwrap(), 1);
        }
    }
    for page in ["requests", "requests by code", "request bytes", "response bytes", "refusals"] {
        assert_eq!(log.page(page), ledger.page(page), "{page} in the access log");
    }
}

#[test]
fn what_prometheus_reads_is_what_clients_and_replicas_saw() {
    let meetings = Arc::new(Meetings::default());
    let replicas = Arc::new(std::sync::Mutex::new(Ledger::default()));
    // How far a request comes whose client does not wait, nobody can tell.
    let unknown = Arc::default();
    let mut services = String::new();
    for (name, count, more) in [
        ("shop", 3, "hiveway.limit.body = \"1MiB\""),
        ("faults", 2, ""),
        ("hasty", 2, ""),
        ("closed", 1, "hiveway.allow = \"10.0.0.0/8\""),
    ] {
        let ledger = if name == "hasty" { &unknown } else { &replicas };
        let addresses: Vec<_> =
            (0..count).map(|_| serve(name, ledger, &meetings).to_string()).collect();
        writeln!(services, "[services.{name}]\nendpoints = {addresses:?}").unwrap();
        writeln!(services, "hiveway.host = \"{name}.test\"\n{more}").unwrap();
    }
    let directory = Directory::new();
    let edge = Edge::start(&directory, &services);
    let prometheus = Prometheus::start(&directory, edge.admin);
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::new(number, edge.address, &meetings);
        let share = REQUESTS / CLIENTS;
        thread::spawn(move || client.run(share))
    });
    let clients: Vec<_> = clients.collect();
    let mut ledger = Ledger::default();
    for client in clients {
        ledger.add(&client.join().expect("a client that went through"));
    }
    let took = started.elapsed();
    ledger.add(&replicas.lock().unwrap());
    agree(&prometheus, &ledger);
    edge.check_scrape();
    check_log(edge.end().into_iter(), &ledger);
    let by_code = ledger.page("requests by code");
    eprintln!(
        "{REQUESTS} requests in {took:.1?}: counts, bytes and log lines are equal; {by_code:?}"
    );
}
