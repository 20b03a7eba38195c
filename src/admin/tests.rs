use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Admin, Options, Seats, Speaker, Standing, serve};
use crate::metrics::{Sources, example};

fn options() -> Options {
    Options {
        networks: vec!["10.0.9.0/24".parse().unwrap()],
        hostname: "node-1".to_owned(),
        default_listeners: vec!["web".to_owned()],
    }
}

fn admin(sources: Sources, obstacle: Option<&'static str>) -> Admin {
    Admin::new(Arc::new(sources), options(), move || obstacle).unwrap()
}

/// An admin port on a free port of this machine, until it is dropped.
struct Port {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Port {
    fn open(admin: Admin) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Self { address, task: tokio::spawn(serve(socket, admin)) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer as it came, after which the port closes the connection.
    async fn ask(&self, request_line: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{request_line} HTTP/1.1\r\nHost: edge:9400\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn body(&self, path: &str) -> String {
        let answer = self.ask(&format!("GET {path}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Compares an answer's status, and a part of the rest.
async fn check(port: &Port, request_line: &str, status: &str, part: &str) {
    let answer = port.ask(request_line).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request_line}: {answer}");
    assert!(answer.contains(part), "{request_line}: {answer}");
}

#[tokio::test]
async fn every_path_answers_and_all_else_is_refused_with_advice() {
    let port = Port::open(admin(example::serving(), None));
    check(&port, "GET /livez", "200", "ok\n").await;
    check(&port, "GET /readyz", "200", "ok, with the saved inventory").await;
    check(&port, "GET /metrics", "200", "content-type: text/plain; version=0.0.4").await;
    check(&port, "GET /metrics", "200", "\nhiveway_snapshot_swaps_total{").await;
    check(&port, "GET /metrics?x=1", "200", "").await;
    check(&port, "GET /api/v1/version", "200", "content-type: application/json").await;
    check(&port, "GET /api/v2/version", "404", "there is /metrics").await;
    check(&port, "GET /", "404", "there is /metrics").await;
    check(&port, "POST /metrics", "405", "allow: GET, HEAD").await;
    let head = port.ask("HEAD /livez").await;
    assert!(head.contains("content-length: 3") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn an_edge_that_does_not_serve_says_why_and_is_alive_nevertheless() {
    let port = Port::open(admin(example::waiting(), Some("no inventory yet")));
    check(&port, "GET /readyz", "503", "\r\n\r\nno inventory yet\n").await;
    check(&port, "GET /livez", "200", "ok\n").await;
    assert_eq!(port.body("/api/v1/routes").await, "[]\n");
}

#[tokio::test]
async fn the_table_is_told_as_json() {
    let port = Port::open(admin(example::serving(), None));
    for (list, expected) in [
        (
            "routes",
            r#"[{"name": "shop_web/default", "service": "shop_web", "listeners": ["web"],
                 "hosts": ["shop.example.com"], "paths": ["/cart"],
                 "conditions": ["method GET or POST"], "priority": 0, "weight": null,
                 "upstream": {"port": null, "protocol": "http"},
                 "requests": 2, "p99_ms": 5.0}]"#,
        ),
        (
            "services",
            r#"[{"name": "shop_web", "desired": 4, "endpoints": {"healthy": 2, "pending": 2},
                 "in_flight": 2, "queued": 0}]"#,
        ),
        (
            "certificates",
            r#"[{"names": ["shop.example.com"], "not_after": "2001-09-09T01:46:40Z",
                 "expired": true, "file": "/run/secrets/shop"}]"#,
        ),
        ("version", &format!(r#"{{"version": "{}"}}"#, crate::metrics::VERSION)),
    ] {
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        let told: serde_json::Value =
            serde_json::from_str(&port.body(&format!("/api/v1/{list}")).await).unwrap();
        assert_eq!(told, expected, "{list}");
    }
}

#[tokio::test]
async fn endpoints_nodes_and_diagnostics_are_told_as_json() {
    let port = Port::open(admin(example::serving(), None));
    let endpoints: serde_json::Value =
        serde_json::from_str(&port.body("/api/v1/endpoints").await).unwrap();
    let expected = serde_json::json!({
        "service": "shop_web", "upstream": {"port": null, "protocol": "http"},
        "name": "shop_web.1", "address": "10.0.1.5:80", "state": "healthy", "check": null,
        "in_flight": 1, "connections": 1, "requests": {"ok": 2}, "p99_ms": 2.5,
    });
    assert_eq!(endpoints[0], expected);
    assert_eq!(endpoints.as_array().map(Vec::len), Some(4));
    let nodes: serde_json::Value = serde_json::from_str(&port.body("/api/v1/nodes").await).unwrap();
    assert_eq!(nodes[0]["hostname"], "node-1");
    assert_eq!(nodes[0]["obstacle"], serde_json::Value::Null);
    let complaints: serde_json::Value =
        serde_json::from_str(&port.body("/api/v1/diagnostics").await).unwrap();
    assert_eq!(complaints[0]["severity"], "error");
    assert_eq!(complaints[0]["label"], "hiveway.priority");
    let text = complaints[0]["text"].as_str().unwrap();
    assert!(text.starts_with("error: service `shop_old`: label `hiveway.priority=high`"), "{text}");
}

#[test]
fn who_may_read_is_loopback_and_the_networks_that_are_named() {
    let closed = admin(example::waiting(), None);
    let open = Admin {
        options: Options { networks: Vec::new(), ..options() },
        ..admin(example::waiting(), None)
    };
    for (peer, when_closed, when_open) in [
        ("127.0.0.1", Standing::Local, Standing::Local),
        ("::1", Standing::Local, Standing::Local),
        ("::ffff:127.0.0.1", Standing::Local, Standing::Local),
        ("10.0.9.77", Standing::Allowed, Standing::Allowed),
        ("::ffff:10.0.9.77", Standing::Allowed, Standing::Allowed),
        ("10.0.8.77", Standing::Stranger, Standing::Allowed),
    ] {
        let peer = peer.parse().unwrap();
        assert_eq!(Standing::of(peer, closed.networks()), when_closed, "{peer}");
        assert_eq!(Standing::of(peer, open.networks()), when_open, "{peer}");
    }
}

#[test]
fn a_stranger_is_told_what_to_do_and_nothing_else() {
    let admin = admin(example::serving(), None);
    for path in ["/metrics", "/livez", "/api/v1/routes"] {
        let request = http::Request::get(path).body(()).unwrap();
        let asked = super::Asked { request, standing: Standing::Stranger };
        assert_eq!(super::answer::answer(&admin, &asked).status(), 403, "{path}");
    }
}

#[test]
fn strangers_take_no_seat_from_health_checks() {
    let seats = Seats::new();
    let crowd: Vec<_> = (0..100).filter_map(|_| seats.take(Standing::Stranger)).collect();
    assert_eq!(crowd.len(), 8);
    assert!(seats.take(Standing::Local).is_some() && seats.take(Standing::Allowed).is_some());
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_let_go() {
    let port = Port::open(admin(example::waiting(), None));
    let mut stream = port.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
    tokio::time::pause();
    let mut rest = Vec::new();
    let patience = super::HEAD_TIME + Duration::from_secs(1);
    let ended = tokio::time::timeout(patience, stream.read_to_end(&mut rest));
    assert!(ended.await.is_ok(), "the connection is still open");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[tokio::test]
async fn more_connections_than_seats_are_closed_and_the_next_one_is_served_again() {
    let port = Port::open(admin(example::waiting(), None));
    let mut crowd = Vec::new();
    for _ in 0..16 {
        crowd.push(port.connect().await);
    }
    let mut late = port.connect().await;
    assert_eq!(late.read(&mut [0; 1]).await.unwrap_or(0), 0);
    for stream in &mut crowd {
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
    check(&port, "GET /livez", "200", "ok\n").await;
}
