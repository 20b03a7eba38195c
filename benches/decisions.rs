//! What a request's decisions cost, apart from moving bytes: finding its route, choosing its
//! endpoint, its line in the access log, and what a change of labels costs.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hiveway::access_line::{Arrived, Form, Line, Outcome};
use hiveway::affinity::{Key, Mark, Wish};
use hiveway::balance::{self, Search};
use hiveway::clock;
use hiveway::config::LogFormat;
use hiveway::inventory::{FixedReplica, Inventory, Network, Replicas, SwarmService, SwarmTask};
use hiveway::routing::Head;
use hiveway::snapshot::{Edge, EdgeListener, Snapshot};
use hiveway::spec::{Balance, HashBy};
use hiveway::telemetry::access::AccessLog;
use hiveway::timestamp::Timestamp;
use hiveway::upstream::Endpoint;
use http::{HeaderMap, Method};

fn edge() -> Edge {
    Edge {
        listeners: vec![EdgeListener {
            name: "web".to_owned(),
            default: true,
            address: ([127, 0, 0, 1], 80).into(),
        }],
        networks: vec![network()],
        cores: 2,
        ..Edge::default()
    }
}

fn network() -> Network {
    Network { id: "net".to_owned(), name: "hiveway".to_owned(), subnet: "10.0.0.0/8".parse().ok() }
}

/// A service as a stack makes it: two routes, five tasks.
fn service(number: usize) -> SwarmService {
    let labels = [
        ("hiveway.port", "8080".to_owned()),
        ("hiveway.host", format!("shop{number}.example.com")),
        ("hiveway.health.path", "/actuator/health".to_owned()),
        ("hiveway.routes.api.path", "/api".to_owned()),
        ("hiveway.routes.api.timeout.response-header", "30s".to_owned()),
        ("hiveway.retry.on", "reset,503".to_owned()),
    ];
    let task = |slot: u32| SwarmTask {
        id: format!("task-{number}-{slot}"),
        slot: slot.to_string(),
        running: true,
        ending: false,
        addresses: [("net".to_owned(), Ipv4Addr::from_bits(0x0a00_0000 + slot))].into(),
        ..SwarmTask::default()
    };
    SwarmService {
        id: format!("id{number}"),
        name: format!("stack{number}_web"),
        stack: Some(format!("stack{number}")),
        created_at: format!("{number:010}"),
        labels: labels.map(|(label, value)| (label.to_owned(), value)).into(),
        networks: vec![network()],
        replicas: Replicas::Tasks { desired: 5, tasks: (1..6).map(task).collect() },
        ..SwarmService::default()
    }
}

fn inventory(services: usize) -> Inventory {
    Inventory { services: (0..services).map(service).collect() }
}

/// One service with many routes on one host: the other way to have ten thousand.
fn one_host(routes: usize) -> Inventory {
    let mut services = Vec::new();
    for first in (0..routes).step_by(50) {
        let routes = first..routes.min(first + 50);
        let labels: BTreeMap<_, _> = routes
            .flat_map(|route| {
                [
                    (format!("hiveway.routes.r{route}.host"), "all.example.com".to_owned()),
                    (format!("hiveway.routes.r{route}.path"), format!("/team/app{route}")),
                ]
            })
            .collect();
        services.push(SwarmService {
            id: format!("id{first}"),
            name: format!("stack_{first:06}"),
            labels,
            replicas: Replicas::Fixed(vec![FixedReplica::Address(([127, 0, 0, 1], 1).into())]),
            ..SwarmService::default()
        });
    }
    Inventory { services }
}

fn route(criterion: &mut Criterion) {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let find = |snapshot: &Snapshot, host: &str, path: &str| {
        let head = Head { host, path, query: None, method: &method, headers: &headers };
        snapshot.find(0, black_box(&head)).map(|found| found.prefix.len())
    };
    let mut group = criterion.benchmark_group("route");
    for services in [1, 50, 5_000] {
        let snapshot = Snapshot::compile(&inventory(services), &edge(), &Snapshot::default());
        let host = format!("shop{}.example.com", services / 2);
        assert_eq!(snapshot.routes.len(), services * 2);
        group.bench_function(BenchmarkId::new("by host", snapshot.routes.len()), |bencher| {
            bencher.iter(|| find(&snapshot, &host, "/api/orders/17"));
        });
        group.bench_function(BenchmarkId::new("to none", snapshot.routes.len()), |bencher| {
            bencher.iter(|| find(&snapshot, "unknown.example.com", "/api/orders/17"));
        });
    }
    for routes in [1, 100, 10_000] {
        let snapshot = Snapshot::compile(&one_host(routes), &edge(), &Snapshot::default());
        let path = format!("/team/app{}/orders/17", routes / 2);
        assert!(find(&snapshot, "all.example.com", &path).is_some_and(|length| length > 0));
        group.bench_function(BenchmarkId::new("by path", routes), |bencher| {
            bencher.iter(|| find(&snapshot, "all.example.com", &path));
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let inventory = inventory(1_000);
    let first = Snapshot::compile(&inventory, &edge(), &Snapshot::default());
    assert!(first.diagnostics.len() <= inventory.services.len(), "{:?}", first.diagnostics.first());
    criterion.bench_function("compile 1000 services", |bencher| {
        bencher.iter(|| Snapshot::compile(black_box(&inventory), &edge(), &first));
    });
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for count in [2, 16, 200] {
        let endpoint = |_| Arc::new(Endpoint::new(([127, 0, 0, 1], 1).into(), "e", 2));
        let endpoints: Vec<_> = (0..count).map(endpoint).collect();
        for endpoint in &endpoints {
            let _ = endpoint.health.connected();
        }
        for (number, endpoint) in endpoints.iter().enumerate() {
            endpoint.set_mark(Mark::of_slot("id", "shop_web", &number.to_string()));
            endpoint.latency.observe(Duration::from_micros(900), Timestamp::START);
        }
        for (name, balance, slow_start) in [
            ("least request", Balance::LeastRequest, Duration::ZERO),
            ("least request with slow start", Balance::LeastRequest, Duration::from_mins(1)),
            ("round robin", Balance::RoundRobin, Duration::ZERO),
            ("ewma", Balance::Ewma, Duration::ZERO),
            ("hash", Balance::Hash(HashBy::ClientIp), Duration::ZERO),
        ] {
            let key = matches!(balance, Balance::Hash(_)).then(|| Key::of(b"203.0.113.7"));
            let now = Timestamp::from_micros(100_000_000);
            group.bench_function(BenchmarkId::new(format!("{name} of"), count), |bencher| {
                let (mut rng, mut turn) = (fastrand::Rng::with_seed(1), 0_usize);
                bencher.iter(|| {
                    let wish = Wish { key, ..Wish::default() };
                    turn = turn.wrapping_add(1);
                    let search = Search { wish, slow_start, ..Search::by(&balance, now) };
                    balance::pick(&endpoints, black_box(&search), || turn, &mut rng)
                        .map(|endpoint| endpoint.id)
                });
            });
        }
    }
    group.finish();
}

fn arrived() -> Arrived<'static> {
    Arrived {
        unix_micros: 1_795_243_418_123_456,
        client: b"203.0.113.7",
        listener: "web",
        method: "GET",
        host: b"shop.example.com",
        path: "/api/orders/17/items/4711",
        protocol: "HTTP/1.1",
        tls: Some("1.3"),
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"),
    }
}

fn outcome() -> Outcome<'static> {
    Outcome {
        status: 200,
        route: Some(("stack_web/default", "stack_web")),
        endpoint: Some("stack_web.3"),
        duration: Duration::from_micros(3210),
        upstream: Some(Duration::from_micros(2950)),
        response_bytes: 5120,
        ..Outcome::default()
    }
}

const REQUEST_ID: &[u8] = b"4f0d0aa1b2c3d4e50100000000000017";

/// The same fields, as serde would write them.
#[derive(serde::Serialize)]
struct BySerde<'a> {
    time: &'a str,
    client: std::borrow::Cow<'a, str>,
    listener: &'a str,
    method: &'a str,
    host: std::borrow::Cow<'a, str>,
    path: &'a str,
    protocol: &'a str,
    tls: Option<&'a str>,
    user_agent: Option<std::borrow::Cow<'a, str>>,
    request_id: std::borrow::Cow<'a, str>,
    status: u16,
    route: Option<&'a str>,
    service: Option<&'a str>,
    endpoint: Option<&'a str>,
    duration_ms: f64,
    upstream_ms: Option<f64>,
    request_bytes: u64,
    response_bytes: u64,
}

fn write_by_serde(line: &mut Vec<u8>, arrived: &Arrived<'_>, outcome: &Outcome<'_>) -> usize {
    line.clear();
    let fields = BySerde {
        time: "2026-11-21T06:43:38.123Z",
        client: String::from_utf8_lossy(arrived.client),
        listener: arrived.listener,
        method: arrived.method,
        host: String::from_utf8_lossy(arrived.host),
        path: arrived.path,
        protocol: arrived.protocol,
        tls: arrived.tls,
        user_agent: arrived.user_agent.map(String::from_utf8_lossy),
        request_id: String::from_utf8_lossy(REQUEST_ID),
        status: outcome.status,
        route: outcome.route.map(|(route, _)| route),
        service: outcome.route.map(|(_, service)| service),
        endpoint: outcome.endpoint,
        duration_ms: outcome.duration.as_secs_f64() * 1e3,
        upstream_ms: outcome.upstream.map(|took| took.as_secs_f64() * 1e3),
        request_bytes: outcome.request_bytes,
        response_bytes: outcome.response_bytes,
    };
    serde_json::to_writer(&mut *line, &fields).map_or(0, |()| line.len())
}

fn access_log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access log");
    for (name, form) in [("JSON", Form::Json), ("text", Form::Text)] {
        let mut line = Line::new(form);
        group.bench_function(BenchmarkId::new("line of", name), |bencher| {
            bencher.iter(|| {
                line.begin(black_box(&arrived()));
                line.identify(black_box(REQUEST_ID));
                line.end(black_box(&outcome()));
                line.as_bytes().len()
            });
        });
    }
    let mut line = Vec::new();
    group.bench_function("line of JSON by serde, without its time", |bencher| {
        bencher.iter(|| write_by_serde(&mut line, &black_box(arrived()), &black_box(outcome())));
    });
    group.finish();
}

/// With what the log costs a core beside the formatting.
fn entry(criterion: &mut Criterion) {
    let Ok(log) = AccessLog::start(LogFormat::Json, 1, std::io::sink()) else {
        return;
    };
    let endpoint = Arc::new(Endpoint::new(([127, 0, 0, 1], 1).into(), "stack_web.3", 1));
    criterion.bench_function("access log/entry, from the head to the buffer", |bencher| {
        bencher.iter(|| {
            let mut entry = log.shelf(0).open(|line| line.begin(black_box(&arrived())));
            entry.identify(black_box(REQUEST_ID));
            entry.tried(&endpoint, Timestamp::START);
            entry.answered(Duration::from_micros(2950));
            entry.settle(black_box(outcome()), clock::now());
        });
    });
}

criterion_group!(benches, route, compile, pick, access_log, entry);
criterion_main!(benches);
