//! Clients that keep a replica waiting, and those that do nothing of the kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::support::{H2, Ingress, Origin, Wire, call_to, eventually, service, soon, text_of};

/// Quick enough to wait for, slow enough for a busy machine.
const RATE: &str = "limits.body-rate=10KiB limits.body-grace=400ms";

/// Several times the grace.
const LONG: Duration = Duration::from_millis(1500);

async fn before(labels: &str, origin: &Origin) -> Ingress {
    Ingress::with_options(RATE, [service("shop", labels, &[origin.address])]).await
}

/// A replica that answers with more than all buffers on the way can hold.
async fn endless() -> Origin {
    Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while !wire.closed_within(Duration::from_micros(10)).await {
                wire.write(&chunk).await;
            }
        }
    })
    .await
}

/// A connection whose client's kernel keeps little of what it does not read.
async fn connect_with_little_room(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    soon("a connection", socket.connect(address)).await.unwrap()
}

#[tokio::test]
async fn a_body_that_trickles_in_gets_408_and_no_replica_is_charged() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.closed().await;
    })
    .await;
    let ingress = before("hiveway.path=/", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n").await;
    let trickle = async {
        loop {
            client.write("x").await;
            if client.readable_within(Duration::from_millis(20)).await {
                break client.reply().await;
            }
        }
    };
    let reply = soon("an answer", trickle).await;
    assert!(reply.to_string().starts_with("408 408 Request Timeout (client_too_slow)"), "{reply}");
    eventually("the replica need not go on", || origin.open() == 0).await;
    assert_eq!(ingress.outcomes(origin.address, "client"), 1);
}

#[tokio::test]
async fn a_body_that_stops_gets_408_in_http2_as_well() {
    let origin = Origin::h2_with(|_, respond| async move {
        let _respond = respond;
        std::future::pending::<()>().await;
    })
    .await;
    let ingress = before("hiveway.protocol=h2c", &origin).await;
    let client = H2::to(ingress.address).await;
    let (response, mut body) =
        client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
    body.send_data(Bytes::from("one"), false).unwrap();
    assert_eq!(soon("a response", response).await.unwrap().status(), 408);
    assert_eq!(ingress.outcomes(origin.address, "client"), 1);
}

#[tokio::test]
async fn a_client_that_waits_for_a_slow_replica_is_not_at_fault() {
    let origin = Origin::scripted(|mut wire| async move {
        if let Some(head) = wire.next_head().await {
            tokio::time::sleep(LONG).await;
            wire.body(&head).await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let ingress = before("hiveway.path=/", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    // More than all buffers on the way can hold.
    let body = "x".repeat(16 << 20);
    client
        .write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    client.write(body).await;
    assert_eq!(client.reply().await.to_string(), "200 ok");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_and_its_replica_let_go() {
    let origin = endless().await;
    let ingress = before("hiveway.path=/", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    eventually("the replica need not go on", || origin.open() == 0).await;
    eventually("it is counted", || ingress.counted(499) == 1).await;
    assert_eq!(ingress.state(origin.address), "healthy");
    client.closed().await;
}

#[tokio::test]
async fn what_a_client_does_not_take_waits_at_its_replica() {
    let written = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&written);
    let origin = Origin::scripted(move |mut wire| {
        let counts = Arc::clone(&counts);
        async move {
            wire.keeps(4 << 10);
            wire.head().await;
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30)).await;
            while !wire.closed_within(Duration::from_micros(10)).await {
                wire.write("x".repeat(1 << 10)).await;
                counts.fetch_add(1, Relaxed);
            }
        }
    })
    .await;
    let ingress = before("hiveway.path=/", &origin).await;
    let mut client = Wire::over(connect_with_little_room(ingress.address).await);
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    eventually("it is counted", || ingress.counted(499) == 1).await;
    let written = written.load(Relaxed);
    assert!(written < 205, "{written} KiB went out for a client who takes next to nothing");
}

#[tokio::test]
async fn a_client_that_takes_little_at_a_time_but_more_than_the_least_is_served_on() {
    let origin = endless().await;
    let services = [service("shop", "hiveway.path=/", &[origin.address])];
    let options = "limits.body-rate=16KiB limits.body-grace=2s";
    let ingress = Ingress::with_options(options, services).await;
    let mut client = Wire::over(connect_with_little_room(ingress.address).await);
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    // 64 KiB a second, for longer than the grace and what lies in all buffers last.
    for _ in 0..6 * 16 {
        client.exactly(4 << 10).await;
        tokio::time::sleep(Duration::from_micros(62_500)).await;
    }
    assert_eq!((ingress.counted(499), origin.open()), (0, 1));
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_taken_is_reset_and_the_others_go_on() {
    let (origin, other) = (endless().await, Origin::named("other").await);
    let services = [
        service("shop", "hiveway.host=a", &[origin.address]),
        service("other", "hiveway.host=b", &[other.address]),
    ];
    let ingress = Ingress::with_options(RATE, services).await;
    let client = H2::to(ingress.address).await;
    let (response, _) = client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    eventually("the replica need not go on", || origin.open() == 0).await;
    eventually("it is counted", || ingress.counted(499) == 1).await;
    let text = text_of(response.body_mut()).await;
    assert!(text.ends_with("(CANCEL)"), "{}", &text[text.len().saturating_sub(20)..]);
    assert_eq!(client.get("http://b/").await, "200 other: GET /");
    assert_eq!(ingress.state(origin.address), "healthy");
}

#[tokio::test]
async fn a_client_without_a_window_cannot_hold_even_a_small_response() {
    let origin = Origin::named("shop").await;
    let ingress = before("hiveway.path=/", &origin).await;
    let client = H2::with_window(ingress.address, 0).await;
    let (response, _) = client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!(text_of(response.body_mut()).await, " (CANCEL)");
    eventually("it is counted", || ingress.counted(499) == 1).await;
}

#[tokio::test]
async fn a_response_that_has_nothing_to_be_taken_may_pause() {
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..2 {
                wire.write("5\r\nevent\r\n").await;
                tokio::time::sleep(LONG).await;
            }
            wire.write("0\r\n\r\n").await;
        }
    })
    .await;
    let ingress = before("hiveway.path=/", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply().await.to_string(), "200 eventevent");
    // The window has just room for what there is to be taken.
    for window in [65_535, 5] {
        let client = H2::with_window(ingress.address, window).await;
        assert_eq!(client.get("http://a/").await, "200 eventevent", "{window}");
    }
}

#[tokio::test]
async fn a_stream_without_a_window_may_wait_for_as_long_as_nothing_comes() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let origin = Origin::scripted(move |mut wire| {
        let told = Arc::clone(&told);
        async move {
            if wire.next_head().await.is_some() {
                wire.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
                told.notified().await;
                wire.write("late").await;
                wire.closed().await;
            }
        }
    })
    .await;
    let ingress = before("hiveway.path=/", &origin).await;
    let client = H2::with_window(ingress.address, 0).await;
    let (response, _) = client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!((ingress.counted(499), origin.open()), (0, 1));
    go_on.notify_one();
    assert_eq!(text_of(response.body_mut()).await, " (CANCEL)");
}

#[tokio::test]
async fn a_call_whose_client_has_nothing_to_say_goes_on() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let mut body = request.into_body();
        let first = soon("a message", body.data()).await.unwrap().unwrap();
        let head = Response::builder().header("content-type", "application/grpc");
        let mut sending = respond.send_response(head.body(()).unwrap(), false).unwrap();
        sending.send_data(first, false).unwrap();
        let second = soon("another one", body.data()).await.unwrap().unwrap();
        sending.send_data(second, false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sending.send_trailers(trailers).unwrap();
    })
    .await;
    let ingress = before("hiveway.protocol=grpc", &origin).await;
    let client = H2::to(ingress.address).await;
    let (response, mut body) = client.begin(call_to("http://a/s/m").body(()).unwrap(), false).await;
    tokio::time::sleep(LONG).await;
    body.send_data(Bytes::from("one"), false).unwrap();
    let mut response = soon("a response", response).await.unwrap();
    tokio::time::sleep(LONG).await;
    body.send_data(Bytes::from("two"), true).unwrap();
    assert_eq!(text_of(response.body_mut()).await, "onetwo grpc-status=0");
}

#[tokio::test]
async fn without_a_rate_clients_may_be_as_slow_as_they_like() {
    let origin = Origin::named("shop").await;
    let options = "limits.body-rate=none limits.body-grace=100ms";
    let services = [service("shop", "hiveway.path=/", &[origin.address])];
    let ingress = Ingress::with_options(options, services).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await;
    tokio::time::sleep(LONG).await;
    client.write("hi").await;
    assert_eq!(client.reply().await.to_string(), "200 shop: POST / hi");
}
