//! The table as the admin port's JSON tells it.
//!
//! `hiveway status` reads the same types. Field names are promises; fields may be added.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use crate::counters::{Histogram, PerCore, RouteCell, Tally};
use crate::diagnostic::Diagnostic;
use crate::health::State;
use crate::metrics::VERSION;
use crate::provider::AgentStanding;
use crate::snapshot::{Route as Routed, Snapshot, Source};
use crate::spec::Matches;
use crate::timestamp::Timestamp;
use crate::tls::selection::CertificateSet;
use crate::upstream::{Endpoint as Replica, Upstream as Replicas, UpstreamKey};

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// `<service>/<route>`.
    pub name: String,
    /// Full name of the service.
    pub service: String,
    /// Listeners that offer it.
    pub listeners: Vec<String>,
    /// Any of these hosts; `*` for all.
    pub hosts: Vec<String>,
    /// Any of these paths: a prefix, `= ` and an exact path, or `~ ` and a regular expression.
    pub paths: Vec<String>,
    /// What must hold beyond host and path, each in words.
    pub conditions: Vec<String>,
    /// Orders the routes within one host, highest first.
    pub priority: i32,
    /// Share of the traffic beside another service; none if it shares with nobody.
    pub weight: Option<u16>,
    /// Where its requests go.
    pub upstream: Upstream,
    /// Requests so far.
    pub requests: u64,
    /// What 99 of 100 requests took at most, in milliseconds, from the head to the response's last
    /// byte: the upper bound of a bucket of `hiveway_http_request_duration_seconds`, 10,000 also
    /// for what is beyond. None before the first request.
    pub p99_ms: Option<f64>,
}

/// Which replicas of a service, and how they are spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Port in the container; none where each address has its own.
    pub port: Option<u16>,
    /// Protocol as labels name it.
    pub protocol: String,
}

/// A service that has a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Full name.
    pub name: String,
    /// Replicas that it wants.
    pub desired: u64,
    /// Endpoints by state. A replica that is reached on two ports is two endpoints.
    pub endpoints: BTreeMap<String, u64>,
    /// Requests taken and not answered to the end.
    pub in_flight: u64,
    /// Requests that wait for a replica.
    pub queued: u64,
}

/// A replica on one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Full name of the service.
    pub service: String,
    /// What it is one of.
    pub upstream: Upstream,
    /// As in metrics: the task's slot or node.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// As in metrics.
    pub state: String,
    /// What came of its last health check: `ok`, or what was wrong. None before the first, or without
    /// any.
    pub check: Option<String>,
    /// Requests that it has and has not answered to the end.
    pub in_flight: u64,
    /// Connections to it.
    pub connections: u64,
    /// Requests sent to it, by outcome.
    pub requests: BTreeMap<String, u64>,
    /// What 99 of 100 response heads took at most, in milliseconds, since it joined: the upper
    /// bound of a bucket of `hiveway_upstream_response_duration_seconds`, 10,000 also for what is
    /// beyond. None before the first.
    pub p99_ms: Option<f64>,
}

/// What is wrong with a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Field by field.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
    /// As people read it, with the remedy.
    pub text: String,
}

/// A certificate that listeners serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The hosts that it is for.
    pub names: Vec<String>,
    /// Until when it is valid (RFC 3339).
    pub not_after: String,
    /// Whether that is over.
    pub expired: bool,
    /// The file that it was read from.
    pub file: String,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the machine or container.
    pub hostname: String,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Why it is not ready; none if it is.
    pub obstacle: Option<String>,
    /// Agents that it knows; none with other providers.
    #[serde(default)]
    pub agents: Vec<AgentStanding>,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its version.
    pub version: String,
}

/// All routes, oldest service first.
pub fn routes(snapshot: &Snapshot, default_listeners: &[String]) -> Vec<Route> {
    snapshot.routes.iter().map(|route| self::route(route, default_listeners)).collect()
}

fn route(route: &Routed, default_listeners: &[String]) -> Route {
    let matches = &route.spec.matches;
    let listeners = route.spec.listeners.as_deref().unwrap_or(default_listeners);
    let (requests, p99_ms) = counted(&route.counters);
    Route {
        name: route.name.clone(),
        service: route.upstream.service.clone(),
        listeners: listeners.to_vec(),
        hosts: matches.hosts.iter().map(ToString::to_string).collect(),
        paths: matches.paths.iter().map(ToString::to_string).collect(),
        conditions: conditions(matches),
        priority: matches.priority,
        weight: route.spec.weight,
        upstream: upstream(&route.upstream.key),
        requests,
        p99_ms,
    }
}

fn conditions(matches: &Matches) -> Vec<String> {
    let methods: Vec<_> = matches.methods.iter().map(ToString::to_string).collect();
    let method = (!methods.is_empty()).then(|| format!("method {}", methods.join(" or ")));
    let headers = matches.headers.iter().map(|(name, value)| format!("header {name}={value}"));
    let queries = matches.queries.iter().map(|(name, value)| format!("query {name}={value}"));
    method.into_iter().chain(headers).chain(queries).collect()
}

fn counted(cells: &PerCore<RouteCell>) -> (u64, Option<f64>) {
    let (mut requests, mut duration) = (0, Histogram::default());
    for cell in cells.each() {
        requests += cell.requests.iter().map(|(_, count)| count).sum::<u64>();
        duration.add(&cell.duration);
    }
    (requests, p99_ms(&duration))
}

fn p99_ms(histogram: &Histogram) -> Option<f64> {
    histogram.percentile(99).map(|seconds| seconds * 1e3)
}

fn upstream(key: &UpstreamKey) -> Upstream {
    let protocol = key.protocol.word().to_owned();
    Upstream { port: (key.port != 0).then_some(key.port), protocol }
}

/// All services that have a route, by name.
pub fn services(snapshot: &Snapshot, now: Timestamp) -> Vec<Service> {
    let mut services: BTreeMap<&str, Service> = BTreeMap::new();
    for (upstream, source) in snapshot.upstreams.values() {
        let service = services.entry(&upstream.service).or_default();
        service.name.clone_from(&upstream.service);
        add_upstream(service, upstream, source, now);
    }
    services.into_values().collect()
}

fn add_upstream(service: &mut Service, upstream: &Replicas, source: &Source, now: Timestamp) {
    service.desired = service.desired.max(source.desired());
    service.in_flight += upstream.in_flight.load(Relaxed);
    service.queued += upstream.waiting.load(Relaxed);
    for state in State::ALL {
        let endpoints = upstream.endpoints();
        let count = endpoints.iter().filter(|at| at.health.state(now) == state).count();
        if count > 0 {
            *service.endpoints.entry(state.word().to_owned()).or_default() += count as u64;
        }
    }
}

/// All endpoints, by service and address.
pub fn endpoints(snapshot: &Snapshot, now: Timestamp) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (upstream, _) in snapshot.upstreams.values() {
        endpoints.extend(upstream.endpoints().iter().map(|at| endpoint(upstream, at, now)));
    }
    endpoints.sort_by(|one, other| one.service.cmp(&other.service));
    endpoints
}

fn endpoint(replicas: &Replicas, endpoint: &Replica, now: Timestamp) -> Endpoint {
    let (mut requests, mut response) = (Tally::default(), Histogram::default());
    for cell in endpoint.counters.each() {
        requests.add(&cell.requests);
        response.add(&cell.response);
    }
    Endpoint {
        service: replicas.service.clone(),
        upstream: upstream(&replicas.key),
        name: endpoint.name.load().to_string(),
        address: endpoint.address.to_string(),
        state: endpoint.health.state(now).word().to_owned(),
        check: endpoint.last_check.load().as_deref().cloned(),
        in_flight: endpoint.in_flight() as u64,
        connections: endpoint.connections.load(Relaxed) as u64,
        requests: requests.iter().map(|(word, count)| (word.to_owned(), count)).collect(),
        p99_ms: p99_ms(&response),
    }
}

/// What is wrong with labels, by service.
pub fn diagnostics(snapshot: &Snapshot) -> Vec<Complaint> {
    let complaint = |diagnostic: &Diagnostic| {
        let text = diagnostic.to_string();
        Complaint { diagnostic: diagnostic.clone(), text }
    };
    let mut complaints: Vec<_> = snapshot.diagnostics.iter().map(complaint).collect();
    complaints.sort_by(|one, other| one.diagnostic.service.cmp(&other.diagnostic.service));
    complaints
}

/// The certificates in force at a second since 1970, by file.
pub fn certificates(set: &CertificateSet, now: i64) -> Vec<Certificate> {
    let certificates = set.all().iter().map(|certificate| Certificate {
        names: certificate.names.clone(),
        not_after: certificate.expires.clone(),
        expired: certificate.not_after < now,
        file: certificate.file.display().to_string(),
    });
    let mut certificates: Vec<_> = certificates.collect();
    certificates.sort_by(|one, other| one.file.cmp(&other.file));
    certificates
}

/// This edge.
pub fn node(
    hostname: &str,
    obstacle: Option<&str>,
    agents: Vec<AgentStanding>,
    now: Timestamp,
) -> Node {
    Node {
        hostname: hostname.to_owned(),
        version: VERSION.to_owned(),
        uptime_seconds: now.since(Timestamp::START).as_secs(),
        obstacle: obstacle.map(ToOwned::to_owned),
        agents,
    }
}

/// This program.
pub fn version() -> Version {
    Version { version: VERSION.to_owned() }
}
