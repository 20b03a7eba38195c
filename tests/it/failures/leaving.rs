//! Clients that leave: their requests end at the replica as well, and at once.

use std::time::Duration;

use http::Request;
use tokio::sync::mpsc;

use crate::support::{H2, Ingress, Origin, Wire, eventually, soon};

/// How long a replica may go on working for nobody.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A replica that never answers, and what tells when it has a request, and when that has ended.
async fn patient() -> (Origin, mpsc::UnboundedReceiver<&'static str>) {
    let (events, seen) = mpsc::unbounded_channel();
    let origin = Origin::scripted(move |mut wire| {
        let events = events.clone();
        async move {
            if wire.next_head().await.is_some() {
                events.send("began").unwrap();
                wire.closed().await;
                events.send("ended").unwrap();
            }
        }
    })
    .await;
    (origin, seen)
}

/// The same with HTTP/2; ends with the reason of the reset.
async fn patient_h2() -> (Origin, mpsc::UnboundedReceiver<&'static str>) {
    let (events, seen) = mpsc::unbounded_channel();
    let origin = Origin::h2_with(move |request, mut respond| {
        let events = events.clone();
        async move {
            let _body = request;
            events.send("began").unwrap();
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            let cancelled = matches!(reason, Ok(h2::Reason::CANCEL));
            events.send(if cancelled { "cancelled" } else { "ended otherwise" }).unwrap();
        }
    })
    .await;
    (origin, seen)
}

async fn begun(seen: &mut mpsc::UnboundedReceiver<&'static str>) {
    assert_eq!(soon("the request", seen.recv()).await, Some("began"));
}

async fn ends_at_once(seen: &mut mpsc::UnboundedReceiver<&'static str>, how: &str) {
    let ended = tokio::time::timeout(AT_ONCE, seen.recv()).await;
    assert_eq!(ended.expect("it ends at once"), Some(how));
}

#[tokio::test]
async fn a_request_of_an_http1_client_that_leaves_ends_at_the_replica() {
    let (origin, mut seen) = patient().await;
    let ingress = Ingress::before(origin.address).await;
    for requests in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let mut client = Wire::to(ingress.address).await;
        client.write(requests).await;
        begun(&mut seen).await;
        drop(client);
        ends_at_once(&mut seen, "ended").await;
    }
    eventually("both were counted as ones that left", || ingress.counted(499) == 2).await;
    let endpoint = ingress.endpoint(origin.address).unwrap();
    eventually("neither is under way", || endpoint.in_flight() == 0).await;
}

#[tokio::test]
async fn a_stream_of_an_http2_client_that_is_cancelled_ends_at_the_replica() {
    let ((one, mut seen_one), (two, mut seen_two)) = (patient().await, patient_h2().await);
    let ingress = Ingress::before(one.address).await;
    let client = H2::to(ingress.address).await;
    let (response, mut body) =
        client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
    begun(&mut seen_one).await;
    body.send_reset(h2::Reason::CANCEL);
    ends_at_once(&mut seen_one, "ended").await;
    drop(response);

    let ingress = Ingress::before_h2(two.address).await;
    let client = H2::to(ingress.address).await;
    for no_body in [true, false] {
        let request = Request::post("http://a/").body(()).unwrap();
        let (response, mut body) = client.begin(request, no_body).await;
        begun(&mut seen_two).await;
        body.send_reset(h2::Reason::CANCEL);
        ends_at_once(&mut seen_two, "cancelled").await;
        drop(response);
    }
    assert_eq!(two.accepted(), 1, "the connection goes on");
}

#[tokio::test]
async fn a_request_to_an_http2_replica_ends_when_its_http1_client_leaves() {
    let (origin, mut seen) = patient_h2().await;
    let ingress = Ingress::before_h2(origin.address).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let mut client = Wire::to(ingress.address).await;
        client.write(request).await;
        begun(&mut seen).await;
        drop(client);
        ends_at_once(&mut seen, "cancelled").await;
    }
}

#[tokio::test]
async fn a_response_to_a_client_that_leaves_ends_at_the_replica() {
    let (events, mut seen) = mpsc::unbounded_channel();
    let origin = Origin::scripted(move |mut wire| {
        let events = events.clone();
        async move {
            if wire.next_head().await.is_some() {
                wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
                    .await;
                wire.closed().await;
                events.send("ended").unwrap();
            }
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await.as_deref(), Some("one"));
    drop(client);
    ends_at_once(&mut seen, "ended").await;

    let client = H2::to(ingress.address).await;
    let (response, _) = client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    soon("data", response.body_mut().data()).await.unwrap().unwrap();
    drop(response);
    ends_at_once(&mut seen, "ended").await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_replica_leaves_the_queue_with_its_client() {
    let gone = crate::support::Deserted::new();
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    ingress.announce([crate::support::service("shop", "hiveway.path=/", &[gone.address])]).await;
    let waiting = |ingress: &Ingress| {
        ingress.upstream("shop").waiting.load(std::sync::atomic::Ordering::Relaxed)
    };
    eventually("the old replica is gone", || ingress.state(gone.address) == "pending").await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it waits", || waiting(&ingress) == 1).await;
    drop(client);
    eventually("it has left", || waiting(&ingress) == 0).await;
}
