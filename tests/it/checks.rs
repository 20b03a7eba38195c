//! Active checks: who says that it is not well gets no requests, as long as there is somebody better.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use hiveway::inventory::SwarmService;
use http::Request;

use crate::support::{
    Ingress, Origin, Wire, answer, answer_with, check, eventually, get, service, status_field,
};

/// Fast enough for a test. A check takes part of its time on a busy machine.
const FAST: &str = "hiveway.health.interval=50ms hiveway.health.timeout=2s hiveway.health.fall=2";

fn shop(labels: &str, replicas: &[SocketAddr]) -> SwarmService {
    service("shop", &format!("{FAST} {labels}"), replicas)
}

/// A replica that answers requests, and checks as it is told to.
struct Patient {
    origin: Origin,
    file: Arc<File>,
}

/// What a patient is told, and how often it was asked what.
#[derive(Default)]
struct File {
    well: AtomicBool,
    hangs: AtomicBool,
    checks: AtomicUsize,
    requests: AtomicUsize,
}

impl std::ops::Deref for Patient {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Patient {
    async fn new(name: &'static str, well: bool) -> Self {
        let file = Arc::new(File { well: AtomicBool::new(well), ..File::default() });
        let shared = Arc::clone(&file);
        let origin = Origin::scripted(move |wire| serve(name, wire, Arc::clone(&shared))).await;
        Self { origin, file }
    }

    fn address(&self) -> SocketAddr {
        self.origin.address
    }

    fn asked(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Waits for one whole check more.
    async fn checked(&self) {
        let before = self.checks.load(SeqCst);
        eventually("it is checked", || self.checks.load(SeqCst) >= before + 2).await;
    }
}

async fn serve(name: &str, mut wire: Wire, file: Arc<File>) {
    while let Some(head) = wire.next_head().await {
        let status = if head.starts_with("GET /health?full=1 ") {
            assert!(head.contains("host: shop.internal\r\n"), "{head}");
            assert!(head.contains("connection: close\r\n"), "{head}");
            file.checks.fetch_add(1, SeqCst);
            if file.hangs.load(SeqCst) {
                wire.closed().await;
                return;
            }
            if file.well.load(SeqCst) { "204 Well" } else { "503 Ill" }
        } else {
            file.requests.fetch_add(1, SeqCst);
            "200 OK"
        };
        let length = if status == "200 OK" { name.len() } else { 0 };
        let body = if length > 0 { name } else { "" };
        wire.write(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    }
}

const PATH: &str = "hiveway.health.path=/health?full=1 hiveway.health.host=shop.internal";

/// An edge in front of a service that is in use: others are asked less often.
async fn in_use(services: [SwarmService; 1]) -> Ingress {
    let ingress = Ingress::start(services).await;
    get(&ingress, "a", "/").await;
    ingress
}

async fn becomes(ingress: &Ingress, replica: SocketAddr, state: &str) {
    eventually(state, || ingress.state(replica) == state).await;
}

#[tokio::test]
async fn a_replica_that_says_it_is_not_well_gets_nothing_until_it_is() {
    let (ill, well) = (Patient::new("ill", true).await, Patient::new("well", true).await);
    let ingress = Ingress::start([shop(PATH, &[ill.address(), well.address()])]).await;
    while ill.asked() == 0 {
        get(&ingress, "a", "/").await;
    }
    ill.well.store(false, SeqCst);
    becomes(&ingress, ill.address(), "unhealthy").await;
    let endpoint = ingress.endpoint(ill.address()).unwrap();
    assert_eq!(endpoint.last_check.load().as_deref().map(String::as_str), Some("status 503"));
    let before = ill.asked();
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 well").await;
    }
    assert_eq!(ill.asked(), before);
    ill.well.store(true, SeqCst);
    becomes(&ingress, ill.address(), "healthy").await;
    while ill.asked() == before {
        get(&ingress, "a", "/").await;
    }
}

#[tokio::test]
async fn a_new_replica_gets_nothing_before_its_first_success() {
    let old = Patient::new("old", true).await;
    let new = Patient::new("new", false).await;
    // Ill for ever, as far as this test is concerned.
    let labels = format!("{PATH} hiveway.health.fall=100 hiveway.health.interval=5s");
    let with = |replicas: &[SocketAddr]| [service("shop", &labels, replicas)];
    let ingress = Ingress::start(with(&[old.address()])).await;
    ingress.announce(with(&[old.address(), new.address()])).await;
    new.checked().await;
    assert_eq!(ingress.state(new.address()), "pending");
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 old").await;
    }
    new.well.store(true, SeqCst);
    becomes(&ingress, new.address(), "healthy").await;
    assert_eq!(new.asked(), 0);
    while new.asked() == 0 {
        get(&ingress, "a", "/").await;
    }
}

#[tokio::test]
async fn a_check_that_hangs_has_failed_and_holds_up_no_other() {
    let (hangs, well) = (Patient::new("hangs", true).await, Patient::new("well", true).await);
    let labels = format!("{PATH} hiveway.health.timeout=100ms");
    let ingress = in_use([shop(&labels, &[hangs.address(), well.address()])]).await;
    hangs.hangs.store(true, SeqCst);
    becomes(&ingress, hangs.address(), "unhealthy").await;
    let endpoint = ingress.endpoint(hangs.address()).unwrap();
    assert_eq!(
        endpoint.last_check.load().as_deref().map(String::as_str),
        Some("no answer in time")
    );
    well.checked().await;
    assert_eq!(ingress.state(well.address()), "healthy");
}

#[tokio::test]
async fn when_nobody_is_well_requests_are_served_all_the_same() {
    let (one, two) = (Patient::new("one", true).await, Patient::new("two", true).await);
    let ingress = in_use([shop(PATH, &[one.address(), two.address()])]).await;
    one.well.store(false, SeqCst);
    two.well.store(false, SeqCst);
    becomes(&ingress, one.address(), "unhealthy").await;
    becomes(&ingress, two.address(), "unhealthy").await;
    let before = (one.asked(), two.asked());
    while one.asked() == before.0 || two.asked() == before.1 {
        assert_eq!(get(&ingress, "a", "/").await.status(), 200);
    }
}

#[tokio::test]
async fn another_port_may_be_asked_than_requests_go_to() {
    let (shop_replica, watch) = (Origin::named("shop").await, Patient::new("watch", true).await);
    let labels = format!("{PATH} hiveway.health.port={}", watch.address().port());
    let ingress = in_use([shop(&labels, &[shop_replica.address])]).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
    assert_eq!(shop_replica.requests(), ["GET /"; 2]);
    // That nobody listens there says nothing about the port of the requests.
    drop(watch);
    becomes(&ingress, shop_replica.address, "unhealthy").await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn other_statuses_can_be_good_ones() {
    let origin = Origin::answering("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n").await;
    let labels = "hiveway.health.path=/ hiveway.health.status=200,418-420";
    let ingress = Ingress::start([shop(labels, &[origin.address])]).await;
    assert_eq!(ingress.state(origin.address), "healthy");
    assert_eq!(get(&ingress, "a", "/").await.status(), 418);
}

#[tokio::test]
async fn a_check_finds_a_dead_replica_before_a_request_does() {
    let (dies, stays) = (Patient::new("dies", true).await, Patient::new("stays", true).await);
    let address = dies.address();
    let ingress = in_use([shop(PATH, &[address, stays.address()])]).await;
    drop(dies);
    becomes(&ingress, address, "down").await;
    check(&ingress, "a", "/", "200 stays").await;
}

#[tokio::test]
async fn a_connection_can_be_all_that_a_check_asks_for() {
    let (well, ill) = (Patient::new("well", true).await, Patient::new("ill", false).await);
    let labels = "hiveway.health.path=tcp hiveway.health.interval=100ms hiveway.health.fall=1";
    let ingress = in_use([shop(labels, &[well.address(), ill.address()])]).await;
    let address = ill.address();
    let told = || {
        let endpoint = ingress.endpoint(address).unwrap();
        endpoint.last_check.load().as_deref().cloned()
    };
    eventually("it was checked", || told().as_deref() == Some("ok")).await;
    assert_eq!(ingress.state(address), "healthy");
    drop(ill);
    becomes(&ingress, address, "down").await;
    check(&ingress, "a", "/", "200 well").await;
}

#[tokio::test]
async fn a_check_that_is_no_longer_asked_for_leaves_nothing_behind() {
    let ill = Patient::new("ill", true).await;
    let ingress = in_use([shop(PATH, &[ill.address()])]).await;
    ill.well.store(false, SeqCst);
    becomes(&ingress, ill.address(), "unhealthy").await;
    ingress.deploy([shop("hiveway.health.path=none", &[ill.address()])]).await;
    becomes(&ingress, ill.address(), "healthy").await;
    assert!(ingress.endpoint(ill.address()).unwrap().last_check.load().is_none());
}

#[tokio::test]
async fn a_replica_that_leaves_is_not_asked_any_more() {
    let patient = Patient::new("leaves", true).await;
    let ingress = in_use([shop(PATH, &[patient.address()])]).await;
    patient.checked().await;
    ingress.announce([shop(PATH, &[])]).await;
    becomes(&ingress, patient.address(), "gone").await;
    let pace = std::time::Duration::from_millis(50);
    tokio::time::sleep(pace).await;
    let before = patient.checks.load(SeqCst);
    tokio::time::sleep(pace * 5).await;
    assert_eq!(patient.checks.load(SeqCst), before);
}

#[tokio::test]
async fn http2_is_asked_in_http2() {
    let origin = Origin::h2("shop").await;
    let labels = "hiveway.protocol=h2c hiveway.health.path=/health";
    let ingress = Ingress::start([shop(labels, &[origin.address])]).await;
    assert_eq!(ingress.state(origin.address), "healthy");
    assert_eq!(origin.requests().first().map(String::as_str), Some("GET /health"));
}

const CHECK: &str = "POST /grpc.health.v1.Health/Check";

/// A gRPC server whose health service says so about `shop.Shop`, and nothing about all else.
async fn grpc_server(serves: &Arc<AtomicBool>) -> Origin {
    let serves = Arc::clone(serves);
    Origin::h2_with(move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let serves = Arc::clone(&serves);
        async move {
            let mut body = request.into_body();
            let mut question = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                question.extend_from_slice(&data);
            }
            let Ok(mut body) = respond.send_response(answer().body(()).unwrap(), false) else {
                return;
            };
            let is_known = question.ends_with(b"\x0a\x09shop.Shop");
            if is_known {
                let status = if serves.load(SeqCst) { 1 } else { 2 };
                let _ = body.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), false);
            }
            let status = if is_known { "0" } else { "5" };
            let _ = body.send_trailers([status_field(status)].into_iter().collect());
        }
    })
    .await
}

#[tokio::test]
async fn grpc_is_asked_by_its_own_health_service_for_the_service_that_is_named() {
    let serves = Arc::new(AtomicBool::new(true));
    let server = grpc_server(&serves).await;
    let labels = "hiveway.protocol=grpc hiveway.health.grpc-service=shop.Shop";
    let ingress = in_use([shop(labels, &[server.address])]).await;
    assert_eq!(ingress.state(server.address), "healthy");
    assert_eq!(server.requests().first().map(String::as_str), Some(CHECK));
    serves.store(false, SeqCst);
    becomes(&ingress, server.address, "unhealthy").await;
    let endpoint = ingress.endpoint(server.address).unwrap();
    assert_eq!(endpoint.last_check.load().as_deref().map(String::as_str), Some("not serving"));
    serves.store(true, SeqCst);
    becomes(&ingress, server.address, "healthy").await;
}

#[tokio::test]
async fn grpc_servers_that_say_nothing_about_themselves_are_healthy_unless_they_must_say_it() {
    let server =
        Origin::h2_with(|request, respond| answer_with((request, respond), "", "12")).await;
    let with = |labels: &str| [shop(&format!("hiveway.protocol=grpc {labels}"), &[server.address])];
    let ingress = in_use(with("")).await;
    let endpoint = ingress.endpoint(server.address).unwrap();
    eventually("it was asked", || endpoint.last_check.load().is_some()).await;
    assert_eq!(ingress.state(server.address), "healthy");
    ingress.announce(with("hiveway.health.grpc-service=shop.Shop")).await;
    becomes(&ingress, server.address, "unhealthy").await;
}
