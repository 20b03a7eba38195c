//! Two readings of an edge, put together.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::client::{AdminPort, StatusError};
use super::table::{Column, write_table};
use crate::admin::view::{Complaint, Endpoint, Node, Route, Service};
use crate::clock;
use crate::provider::AgentStanding;
use crate::timestamp::Timestamp;

/// For one list of the admin port.
const WITHIN: Duration = Duration::from_secs(10);

/// What an edge said at one time.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Reading {
    /// When the first list was there.
    #[serde(skip)]
    pub at: Timestamp,
    pub nodes: Vec<Node>,
    pub routes: Vec<Route>,
    pub services: Vec<Service>,
    pub endpoints: Vec<Endpoint>,
    pub diagnostics: Vec<Complaint>,
}

impl Reading {
    /// What the edge says now.
    ///
    /// # Errors
    /// If it does not answer, or with something else.
    pub(super) async fn of(admin: &AdminPort) -> Result<Self, StatusError> {
        Ok(Self {
            routes: list(admin, "routes").await?,
            endpoints: list(admin, "endpoints").await?,
            at: clock::now(),
            nodes: list(admin, "nodes").await?,
            services: list(admin, "services").await?,
            diagnostics: list(admin, "diagnostics").await?,
        })
    }
}

async fn list<T: DeserializeOwned>(admin: &AdminPort, name: &str) -> Result<Vec<T>, StatusError> {
    let path = format!("/api/v1/{name}");
    let (status, text) = admin.get(&path, WITHIN).await?;
    let unexpected = |problem| StatusError::Unexpected { admin: admin.to_string(), path, problem };
    if !status.is_success() {
        return Err(unexpected(format!("{status}: {}", text.trim())));
    }
    serde_json::from_str(&text).map_err(|error| unexpected(format!("something else ({error})")))
}

/// What an edge does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    nodes: Vec<Node>,
    routes: Vec<Rated<Route>>,
    services: Vec<Service>,
    endpoints: Vec<Rated<Endpoint>>,
    diagnostics: Vec<Complaint>,
}

/// Something that takes requests, and how many a second.
#[derive(Clone, Debug, Serialize)]
struct Rated<T> {
    #[serde(flatten)]
    of: T,
    rate: f64,
}

impl Report {
    /// The later reading, with rates since the earlier one.
    pub(super) fn between(before: &Reading, after: &Reading) -> Self {
        let took = after.at.since(before.at);
        let key = |endpoint: &Endpoint| {
            let Endpoint { service, upstream, address, .. } = endpoint;
            (service.clone(), upstream.protocol.clone(), address.clone())
        };
        Self {
            nodes: after.nodes.clone(),
            routes: rate(
                &before.routes,
                &after.routes,
                took,
                |it| it.name.clone(),
                |it| it.requests,
            ),
            services: after.services.clone(),
            endpoints: rate(&before.endpoints, &after.endpoints, took, key, |endpoint| {
                endpoint.requests.values().sum()
            }),
            diagnostics: after.diagnostics.clone(),
        }
    }

    /// The report as people read it. Labels are written by others: what would steer a terminal is
    /// not passed on.
    pub(super) fn text(&self) -> io::Result<String> {
        let mut written = Vec::new();
        self.write(&mut written)?;
        let steers = |letter: char| letter.is_control() && letter != '\n';
        Ok(String::from_utf8_lossy(&written).replace(steers, "\u{fffd}"))
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for Node { hostname, version, uptime_seconds, obstacle, agents } in &self.nodes {
            let up = uptime(*uptime_seconds);
            let ready =
                obstacle.as_ref().map_or("ready".to_owned(), |why| format!("not ready: {why}"));
            writeln!(out, "hiveway {version} on {hostname}, up {up}, {ready}")?;
            for AgentStanding { address, followed, trouble } in agents {
                let word = if *followed { ", followed" } else { "" };
                let trouble = trouble.as_ref().map_or(String::new(), |why| format!(": {why}"));
                writeln!(out, "agent {address}{word}{trouble}")?;
            }
        }
        if self.routes.is_empty() {
            writeln!(out, "\nno routes: no service has a label that begins with `hiveway.`")?;
        } else {
            writeln!(out)?;
            write_table(out, &ROUTES, self.routes.iter().map(route_cells))?;
            writeln!(out)?;
            write_table(out, &SERVICES, self.services.iter().map(service_cells))?;
            writeln!(out)?;
            write_table(out, &ENDPOINTS, self.endpoints.iter().map(endpoint_cells))?;
        }
        for complaint in &self.diagnostics {
            writeln!(out, "\n{}", complaint.text)?;
        }
        Ok(())
    }
}

/// Each thing with its rate. What was not there before has counted from nothing.
fn rate<T: Clone, K: std::hash::Hash + Eq>(
    before: &[T],
    after: &[T],
    took: Duration,
    key: impl Fn(&T) -> K,
    requests: impl Fn(&T) -> u64,
) -> Vec<Rated<T>> {
    let counted: HashMap<K, u64> = before.iter().map(|it| (key(it), requests(it))).collect();
    let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX).max(1);
    let rated = after.iter().map(|it| {
        let earlier = counted.get(&key(it)).copied().unwrap_or_default();
        let more = requests(it).saturating_sub(earlier);
        let more = f64::from(u32::try_from(more).unwrap_or(u32::MAX));
        Rated { of: it.clone(), rate: more * 1000.0 / f64::from(millis) }
    });
    rated.collect()
}

use Column::{Number, Text};

const ROUTES: [Column; 7] = [
    Text("ROUTE"),
    Text("LISTENERS"),
    Text("HOSTS"),
    Text("PATHS"),
    Text("CONDITIONS"),
    Number("REQ/S"),
    Number("P99"),
];

fn route_cells(route: &Rated<Route>) -> [String; 7] {
    let Rated { of, rate } = route;
    [
        of.name.clone(),
        of.listeners.join(","),
        of.hosts.join(","),
        of.paths.join(","),
        of.conditions.join(", "),
        format!("{rate:.1}"),
        milliseconds(of.p99_ms),
    ]
}

const SERVICES: [Column; 5] =
    [Text("SERVICE"), Number("DESIRED"), Text("ENDPOINTS"), Number("IN FLIGHT"), Number("QUEUED")];

fn service_cells(service: &Service) -> [String; 5] {
    let states = service.endpoints.iter().map(|(state, count)| format!("{count} {state}"));
    let states: Vec<_> = states.collect();
    [
        service.name.clone(),
        service.desired.to_string(),
        if states.is_empty() { "none".to_owned() } else { states.join(", ") },
        service.in_flight.to_string(),
        service.queued.to_string(),
    ]
}

const ENDPOINTS: [Column; 8] = [
    Text("ENDPOINT"),
    Text("SERVICE"),
    Text("ADDRESS"),
    Text("STATE"),
    Number("IN FLIGHT"),
    Number("CONNECTIONS"),
    Number("REQ/S"),
    Number("P99"),
];

fn endpoint_cells(endpoint: &Rated<Endpoint>) -> [String; 8] {
    let Rated { of, rate } = endpoint;
    [
        of.name.clone(),
        of.service.clone(),
        of.address.clone(),
        state(of),
        of.in_flight.to_string(),
        of.connections.to_string(),
        format!("{rate:.1}"),
        milliseconds(of.p99_ms),
    ]
}

/// Who fails its check is shown with what the last one got.
fn state(endpoint: &Endpoint) -> String {
    match &endpoint.check {
        Some(why) if matches!(&*endpoint.state, "unhealthy" | "pending") => {
            format!("{}: {why}", endpoint.state)
        }
        _ => endpoint.state.clone(),
    }
}

/// A bound as the admin port tells it. The largest one also stands for what is beyond: then only the
/// one before it is certain.
fn milliseconds(bound: Option<f64>) -> String {
    match bound {
        None => "-".to_owned(),
        Some(millis) if millis >= 10_000.0 => ">2500ms".to_owned(),
        Some(millis) => format!("{millis}ms"),
    }
}

/// The two largest units.
fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}
