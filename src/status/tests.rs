use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::AdminPort;
use super::report::{Reading, Report};
use super::{Options, healthcheck, run};
use crate::admin::{self, Admin};
use crate::metrics::{Sources, example};
use crate::timestamp::Timestamp;

/// What an edge said after so many milliseconds, with that many requests served by its one replica.
fn reading(millis: u64, requests: u64) -> Reading {
    let reading = serde_json::json!({
        "nodes": [{
            "hostname": "node-1", "version": "1.2.3", "uptime_seconds": 93_784, "obstacle": null,
        }],
        "routes": [{
            "name": "shop_web/default", "service": "shop_web", "listeners": ["web", "websecure"],
            "hosts": ["shop.example.com"], "paths": ["/cart", "= /"],
            "conditions": ["method GET"], "priority": 0, "weight": null,
            "upstream": {"port": 8080, "protocol": "http"}, "requests": requests, "p99_ms": 25.0,
        }],
        "services": [{
            "name": "shop_web", "desired": 3, "endpoints": {"healthy": 2, "draining": 1},
            "in_flight": 14, "queued": 0,
        }],
        "endpoints": [{
            "service": "shop_web", "upstream": {"port": 8080, "protocol": "http"},
            "name": "shop_web.1", "address": "10.0.1.5:8080", "state": "healthy",
            "in_flight": 2, "connections": 13, "requests": {"ok": requests, "reset": 1},
            "p99_ms": 2.5,
        }, {
            "service": "shop_web", "upstream": {"port": 8080, "protocol": "http"},
            "name": "shop_web.22", "address": "10.0.1.60:8080", "state": "draining",
            "in_flight": 12, "connections": 0, "requests": {}, "p99_ms": null,
        }, {
            "service": "shop_web", "upstream": {"port": 8080, "protocol": "http"},
            "name": "shop_web.3", "address": "10.0.1.7:8080", "state": "unhealthy",
            "check": "status 503", "in_flight": 0, "connections": 1, "requests": {},
            "p99_ms": null,
        }],
        "diagnostics": [{
            "severity": "warning", "service": "shop_old", "label": null, "value": null,
            "problem": "", "help": "", "text": "warning: service `shop_old`: odd\n  help: \u{1b}[2J",
        }],
    });
    let reading: Reading = serde_json::from_value(reading).unwrap();
    Reading { at: Timestamp::from_micros(millis * 1000), ..reading }
}

fn check(before: &Reading, after: &Reading, expected: &str) {
    let text = Report::between(before, after).text().unwrap();
    assert_eq!(text.trim(), expected.trim(), "\n{text}");
}

#[test]
fn the_table_shows_routes_services_and_endpoints_with_rates_between_two_readings() {
    check(
        &reading(1000, 500),
        &reading(3000, 525),
        "
hiveway 1.2.3 on node-1, up 1d 2h, ready

ROUTE             LISTENERS      HOSTS             PATHS      CONDITIONS  REQ/S   P99
shop_web/default  web,websecure  shop.example.com  /cart,= /  method GET   12.5  25ms

SERVICE   DESIRED  ENDPOINTS              IN FLIGHT  QUEUED
shop_web        3  1 draining, 2 healthy         14       0

ENDPOINT     SERVICE   ADDRESS         STATE                  IN FLIGHT  CONNECTIONS  REQ/S    P99
shop_web.1   shop_web  10.0.1.5:8080   healthy                        2           13   12.5  2.5ms
shop_web.22  shop_web  10.0.1.60:8080  draining                      12            0    0.0      -
shop_web.3   shop_web  10.0.1.7:8080   unhealthy: status 503          0            1    0.0      -

warning: service `shop_old`: odd
  help: \u{fffd}[2J
",
    );
}

#[test]
fn an_edge_that_was_started_anew_has_no_negative_rate() {
    let text = Report::between(&reading(0, 1_000_000), &reading(1000, 3)).text().unwrap();
    assert!(text.contains("  0.0  25ms"), "{text}");
}

#[test]
fn an_edge_without_routes_says_what_makes_one() {
    let empty = Reading::default();
    check(&empty, &empty, "no routes: no service has a label that begins with `hiveway.`");
}

#[test]
fn an_address_is_host_and_port_with_or_without_scheme() {
    for (text, read) in [
        ("http://127.0.0.1:9400", Some("http://127.0.0.1:9400")),
        ("http://127.0.0.1:9400/", Some("http://127.0.0.1:9400")),
        ("tasks.hiveway_edge:9400", Some("http://tasks.hiveway_edge:9400")),
        ("http://[::1]:9400", Some("http://[::1]:9400")),
        ("https://127.0.0.1:9400", None),
        ("http://127.0.0.1", None),
        ("http://127.0.0.1:9400/metrics", None),
        ("http://me@127.0.0.1:9400", None),
        ("9400", None),
        ("", None),
    ] {
        let port = text.parse::<AdminPort>();
        assert_eq!(port.ok().map(|port| port.to_string()).as_deref(), read, "{text}");
    }
}

/// The admin port of an edge on a free port of this machine.
fn open(sources: Sources, obstacle: Option<&'static str>) -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let admin = Admin::new(Arc::new(sources), admin::Options::default(), move || obstacle);
    tokio::spawn(admin::serve(socket, admin.unwrap()));
    address
}

fn options(admin: SocketAddr, json: bool) -> Options {
    Options { admin: admin.to_string(), watch: false, json, terminal: true }
}

#[tokio::test]
async fn an_edge_that_answers_is_shown_as_table_or_json() {
    let address = open(example::serving(), None);
    let mut table = Vec::new();
    run(&options(address, false), &mut table).await.unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("\nshop_web.1  shop_web"), "{table}");
    let mut json = Vec::new();
    run(&options(address, true), &mut json).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["endpoints"][0]["name"], "shop_web.1");
    assert_eq!(json["endpoints"][0]["rate"], 0.0);
}

#[tokio::test]
async fn a_health_check_passes_on_what_the_edge_says() {
    let ready = open(example::serving(), None);
    let healthy = healthcheck(&ready.to_string()).await.unwrap();
    assert!(healthy.starts_with("ok, with the saved inventory"), "{healthy}");
    let waiting = open(example::waiting(), Some("draining"));
    let error = healthcheck(&waiting.to_string()).await.unwrap_err();
    assert_eq!(error.to_string(), "not ready: draining");
}

#[tokio::test]
async fn an_admin_port_that_does_not_answer_is_an_error_with_advice() {
    // Bound and closed again: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&options(address, false), &mut Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{address} does not answer")), "{error}");
    assert!(error.contains("--admin http://<host>:<port>"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_admin_port_that_hangs_is_given_up() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = hanging.local_addr().unwrap().to_string();
    let error = tokio::time::timeout(Duration::from_secs(10), healthcheck(&admin)).await.unwrap();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("nothing came within 3 s"), "{error}");
}
