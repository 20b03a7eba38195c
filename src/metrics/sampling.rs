//! One look at everything that counts.
//!
//! Histograms and counts of a route or replica begin with its first request: most of many hundreds
//! of replicas have none on one edge, and fifteen lines of zeros each would be most of a scrape.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::series::Samples;
use super::{Sources, VERSION, table};
use crate::agent::Agent;
use crate::config::ProviderKind;
use crate::counters::{EndpointCell, PerCore, RouteCell, Tally};
use crate::health::State;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use crate::telemetry::access::AccessLog;
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, Upstream};

/// Route and service of requests that no route takes.
const NONE: &str = "none";

/// All samples at a time.
pub(super) fn sample(sources: &Sources, now: Timestamp) -> Samples {
    let mut samples = Samples::default();
    let proxy = &*sources.proxy;
    let snapshot = proxy.snapshot.load();
    add_routed(&mut samples, proxy, [NONE, NONE], &proxy.unrouted);
    for route in &snapshot.routes {
        let labels = [route.name.as_str(), route.upstream.service.as_str()];
        add_routed(&mut samples, proxy, labels, &route.counters);
    }
    for (upstream, _) in snapshot.upstreams.values() {
        add_upstream(&mut samples, upstream);
        for endpoint in upstream.endpoints().iter() {
            add_endpoint(&mut samples, &upstream.service, endpoint, now);
        }
    }
    add_refused(&mut samples, proxy);
    let dropped = proxy.access_log.get().map_or(0, AccessLog::dropped);
    samples.count(&table::LOG_DROPPED, &[], dropped);
    add_connections(&mut samples, sources);
    add_tls(&mut samples, sources);
    add_provider(&mut samples, sources);
    add_diagnostics(&mut samples, &snapshot);
    samples.add(&table::MEMORY_PRESSURE, &[], f64::from(proxy.memory.pressure().level()));
    samples.add(&table::BUILD_INFO, &[VERSION], 1.0);
    samples
}

/// All samples of an agent, now.
pub(super) fn sample_agent(agent: &Agent) -> Samples {
    let mut samples = Samples::default();
    let counts = agent.counts();
    samples.count(&table::AGENT_FOLLOWERS, &[], counts.followers.load(Relaxed));
    samples.count(&table::AGENT_SENT_BYTES, &[], counts.sent_bytes.load(Relaxed));
    for (reason, count) in counts.refused() {
        samples.count(&table::AGENT_REFUSED, &[reason], count);
    }
    // An agent reads an engine like an edge of that provider.
    let labels = [ProviderKind::Docker.word()];
    samples.add(&table::LAST_SUCCESS, &labels, agent.knowledge().listed_unix);
    samples.count(&table::PROVIDER_ERRORS, &labels, counts.errors.load(Relaxed));
    samples.add(&table::BUILD_INFO, &[VERSION], 1.0);
    samples
}

fn listener(proxy: &Proxy, index: usize) -> &str {
    proxy.listeners.get(index).map_or(NONE, |listener| &listener.name)
}

fn add_routed(samples: &mut Samples, proxy: &Proxy, labels: [&str; 2], cells: &PerCore<RouteCell>) {
    let [route, service] = labels;
    for cell in cells.each() {
        for ((index, method, code), count) in cell.requests.iter() {
            let listener = listener(proxy, index);
            let labels = [listener, route, service, method, &code.to_string()];
            samples.count(&table::REQUESTS, &labels, count);
        }
        for (code, count) in cell.calls.iter() {
            samples.count(&table::CALLS, &[route, service, code], count);
        }
        if cell.duration.count() > 0 {
            samples.observe(&table::REQUEST_DURATION, &labels, &cell.duration);
            samples.count(&table::REQUEST_BYTES, &labels, cell.request_bytes);
            samples.count(&table::RESPONSE_BYTES, &labels, cell.response_bytes);
        }
    }
}

fn add_upstream(samples: &mut Samples, upstream: &Upstream) {
    let labels = [upstream.service.as_str()];
    samples.count(&table::IN_FLIGHT, &labels, upstream.in_flight.load(Relaxed));
    samples.count(&table::QUEUED, &labels, upstream.waiting.load(Relaxed));
    let disagreement = Duration::from_micros(upstream.disagreement.load(Relaxed));
    samples.raise(&table::DISAGREEMENT, &labels, disagreement.as_secs_f64());
}

fn add_endpoint(samples: &mut Samples, service: &str, endpoint: &Endpoint, now: Timestamp) {
    let name = endpoint.name.load();
    let labels = [service, name.as_str()];
    samples.count(&table::UPSTREAM_IN_FLIGHT, &labels, endpoint.in_flight() as u64);
    let connections = endpoint.connections.load(Relaxed) as u64;
    samples.count(&table::UPSTREAM_CONNECTIONS, &labels, connections);
    let present = endpoint.health.state(now);
    for state in State::ALL {
        let holds = if state == present { 1.0 } else { 0.0 };
        samples.raise(&table::ENDPOINT_STATE, &[service, &name, state.word()], holds);
    }
    for cell in endpoint.counters.each() {
        let EndpointCell { requests, response, retries, ejections, checks, .. } = &*cell;
        if response.count() > 0 {
            samples.observe(&table::UPSTREAM_DURATION, &labels, response);
        }
        let tallies = [
            (&table::UPSTREAM_REQUESTS, requests),
            (&table::RETRIES, retries),
            (&table::EJECTIONS, ejections),
            (&table::CHECKS, checks),
        ];
        for (metric, tally) in tallies {
            for (word, count) in tally.iter() {
                samples.count(metric, &[service, &name, word], count);
            }
        }
    }
}

fn add_refused(samples: &mut Samples, proxy: &Proxy) {
    let mut refused = Tally::default();
    proxy.refused.each().for_each(|cell| refused.add(&cell));
    for ((index, reason), count) in refused.iter() {
        samples.count(&table::REFUSED, &[listener(proxy, index), reason], count);
    }
}

fn add_connections(samples: &mut Samples, sources: &Sources) {
    for (policy, connections) in sources.proxy.listeners.iter().zip(&sources.connections) {
        let labels = [policy.name.as_str()];
        let open = connections.open.load(Relaxed) as u64;
        samples.count(&table::CONNECTIONS_OPEN, &labels, open);
        let accepted = connections.accepted.load(Relaxed);
        samples.count(&table::CONNECTIONS_ACCEPTED, &labels, accepted);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format knows floats; exact up to 2^53")]
fn add_tls(samples: &mut Samples, sources: &Sources) {
    for cell in sources.proxy.handshakes.each() {
        for ((version, result), count) in cell.iter() {
            samples.count(&table::HANDSHAKES, &[version, result], count);
        }
    }
    for certificate in sources.certificates.load().all() {
        for name in &certificate.names {
            let expiry = certificate.not_after as f64;
            samples.raise(&table::CERTIFICATE_EXPIRY, &[name], expiry);
        }
    }
}

fn add_provider(samples: &mut Samples, sources: &Sources) {
    let labels = [sources.provider_kind];
    samples.count(&table::SWAPS, &labels, sources.swaps.load(Relaxed));
    samples.add(&table::LAST_SUCCESS, &labels, sources.provider.last_success_unix_seconds());
    samples.count(&table::PROVIDER_ERRORS, &labels, sources.provider.errors_total());
}

fn add_diagnostics(samples: &mut Samples, snapshot: &Snapshot) {
    for diagnostic in &snapshot.diagnostics {
        let severity = diagnostic.severity.to_string();
        samples.add(&table::DIAGNOSTICS, &[&diagnostic.service, &severity], 1.0);
    }
}
