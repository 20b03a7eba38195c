//! What is given up when memory runs short, one thing after the other.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hiveway::memory::Pressure;
use http::Request;

use crate::support::{
    Caller, H2, Ingress, Origin, Wire, check, eventually, get, service, soon, text_of,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn connections_without_a_request_go_first() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut idle = Wire::to(ingress.address).await;
    idle.write(GET).await;
    idle.reply().await;
    let http2 = H2::to(ingress.address).await;
    assert_eq!(http2.get("http://a/").await, "200 shop: GET /");
    let (response, mut busy_body) = H2::to(ingress.address)
        .await
        .begin(Request::post("http://a/").body(()).unwrap(), false)
        .await;
    eventually("all are connected", || ingress.connections.open.load(Relaxed) == 3).await;
    ingress.proxy.memory.set(Pressure::Idle);
    idle.closed().await;
    soon("the end of an idle HTTP/2 connection", http2.connection).await.unwrap().unwrap();
    busy_body.send_data("hi".into(), true).unwrap();
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!(text_of(response.body_mut()).await, "shop: POST / hi", "what is busy may finish");
    // New connections have one request each.
    let mut client = Wire::to(ingress.address).await;
    assert!(!client.closed_within(Duration::from_millis(400)).await);
    client.write(GET).await;
    let reply = client.reply().await;
    assert_eq!((reply.status(), reply.field("connection")), (200, Some("close")));
    client.closed().await;
    assert_eq!(H2::to(ingress.address).await.get("http://a/").await, "200 shop: GET /");
    ingress.proxy.memory.set(Pressure::None);
    assert_eq!(get(&ingress, "a", "/").await.field("connection"), None);
}

#[tokio::test]
async fn new_requests_are_refused_next() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("listeners.web.health-path=/up", services).await;
    let mut under_way = Wire::to(ingress.address).await;
    under_way.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await;
    eventually("it is under way", || ingress.upstream("shop").in_flight.load(Relaxed) == 1).await;
    ingress.proxy.memory.set(Pressure::Requests);
    let reply = get(&ingress, "a", "/").await;
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (memory)"), "{reply}");
    assert_eq!(reply.field("retry-after"), Some("1"));
    let call = Caller::of(&ingress).await.ask().await;
    assert!(call.starts_with("200 trailers only: grpc-status=8"), "{call}");
    check(&ingress, "a", "/up", "200 ok").await;
    under_way.write("hi").await;
    assert_eq!(under_way.reply().await.to_string(), "200 shop: POST / hi");
    ingress.proxy.memory.set(Pressure::None);
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn at_last_new_connections_are_closed() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    // The test itself uses more.
    let ingress = Ingress::with_options("limits.memory=64KiB", services).await;
    eventually("the limit is noticed", || ingress.proxy.memory.is_at(Pressure::Connections)).await;
    let mut client = Wire::to(ingress.address).await;
    client.closed().await;
    assert_eq!(ingress.connections.open.load(Relaxed), 0);
    assert_eq!(ingress.refused("memory"), 1);
}
