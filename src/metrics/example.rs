//! An edge whose every count is known, for tests of what is told about it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Sources;
use crate::inventory::{FixedReplica, Inventory, Replicas, SwarmService};
use crate::provider::file;
use crate::proxy::activity::{Connections, Seats};
use crate::proxy::{ListenerPolicy, Proxy};
use crate::snapshot::{Edge, EdgeListener, Snapshot};
use crate::tls;
use crate::upstream::{Endpoint, Upstream};

fn service(name: &str, labels: &[(&str, &str)], replicas: &[&str]) -> SwarmService {
    let replicas = replicas.iter().map(|at| FixedReplica::Address(at.parse().unwrap()));
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
    SwarmService {
        id: name.to_owned(),
        name: name.to_owned(),
        labels: labels.collect(),
        replicas: Replicas::Fixed(replicas.collect()),
        ..SwarmService::default()
    }
}

/// `shop_web` with one replica that answered a request, one that failed, and two of one name;
/// `shop_old` with a label that does not parse.
pub fn inventory() -> Inventory {
    let web = [
        ("hiveway.host", "shop.example.com"),
        ("hiveway.path", "/cart"),
        ("hiveway.method", "GET,POST"),
    ];
    let replicas = ["10.0.1.5:80", "10.0.1.6:80", "10.0.1.7:80", "10.0.1.8:80"];
    Inventory {
        services: vec![
            service("shop_old", &[("hiveway.priority", "high")], &["10.0.2.1:80"]),
            service("shop_web", &web, &replicas),
        ],
    }
}

/// An edge of two cores that has not seen an inventory.
pub fn waiting() -> Sources {
    let policy = ListenerPolicy { name: "web".to_owned(), ..ListenerPolicy::default() };
    let (provider, _driver) = file::follow(Path::new(""), file::POLL, |_| Ok(Vec::new()));
    Sources {
        proxy: Arc::new(Proxy::new(vec![policy], 2, &Arc::default())),
        connections: vec![Arc::new(Connections::new(&Arc::new(Seats::new(1))))],
        certificates: Arc::default(),
        provider,
        provider_kind: "file",
        swaps: Arc::default(),
    }
}

/// An edge of two cores with [`inventory`] that has served some requests.
pub fn serving() -> Sources {
    let sources = Sources { certificates: tls::example::certificates(), ..waiting() };
    let snapshot = Snapshot::compile(&inventory(), &edge(), &Snapshot::default());
    for route in &snapshot.routes {
        route.upstream.disagreement.store(1_500_000, Relaxed);
        route.upstream.in_flight.store(2, Relaxed);
        fill(&route.upstream);
        for core in 0..2 {
            let mut cell = route.counters.of(core);
            cell.requests.count((0, "GET", 200));
            cell.calls.count("OK");
            cell.duration.observe(Duration::from_millis(3));
            cell.request_bytes = 10;
            cell.response_bytes = 500;
        }
    }
    sources.proxy.snapshot.store(Arc::new(snapshot));
    sources.proxy.unrouted.of(1).requests.count((0, "OTHER", 404));
    sources.proxy.refused.of(1).count((0, "no_route"));
    for core in 0..2 {
        sources.proxy.handshakes.of(core).count(("1.3", "ok"));
    }
    for connections in &sources.connections {
        connections.open.store(3, Relaxed);
        connections.accepted.store(7, Relaxed);
    }
    sources.swaps.store(1, Relaxed);
    sources
}

/// The table of that many services, each with as many replicas that nobody has asked for anything.
pub fn idle(services: u16, replicas: u16) -> Snapshot {
    let service = |number: u16| {
        let name = format!("stack{number}_web");
        let labels = [("hiveway.host", &*format!("shop{number}.example.com"))];
        service(&name, &labels, &["10.0.0.1:80"])
    };
    let inventory = Inventory { services: (0..services).map(service).collect() };
    let snapshot = Snapshot::compile(&inventory, &edge(), &Snapshot::default());
    for (upstream, _) in snapshot.upstreams.values() {
        let name = |slot| format!("{}.{slot}", upstream.service);
        let endpoint = |slot| Endpoint::new(([10, 0, 0, 1], slot).into(), &name(slot), 2);
        upstream.set_endpoints((0..replicas).map(|slot| Arc::new(endpoint(slot))).collect());
    }
    snapshot
}

fn edge() -> Edge {
    let listener =
        EdgeListener { name: "web".to_owned(), default: true, address: ([0; 16], 80).into() };
    Edge { listeners: vec![listener], cores: 2, ..Edge::default() }
}

fn fill(upstream: &Upstream) {
    let endpoint = |address: &str, name: &str| {
        let endpoint = Endpoint::new(address.parse().unwrap(), name, 2);
        endpoint.connections.store(1, Relaxed);
        Arc::new(endpoint)
    };
    let good = endpoint("10.0.1.5:80", "shop_web.1");
    good.health.connected();
    // Forgotten on purpose: the request stays in flight for as long as anyone looks.
    std::mem::forget(good.start_request());
    for core in 0..2 {
        let mut cell = good.counters.of(core);
        cell.requests.count("ok");
        cell.response.observe(Duration::from_millis(2));
    }
    let failing = endpoint("10.0.1.6:80", "shop_web.2");
    failing.counters.of(0).requests.count("reset");
    failing.counters.of(0).retries.count("reset");
    failing.counters.of(1).ejections.count("reset");
    failing.counters.of(0).checks.count("timeout");
    let (twin, other_twin) = (endpoint("10.0.1.7:80", "twin"), endpoint("10.0.1.8:80", "twin"));
    twin.health.connected();
    for twin in [&twin, &other_twin] {
        twin.counters.of(0).requests.count("ok");
    }
    upstream.set_endpoints(vec![good, failing, twin, other_twin]);
}
