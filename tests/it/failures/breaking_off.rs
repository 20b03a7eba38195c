//! Exchanges that stop in the middle: a client must never take a part for the whole.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use hiveway::clock;
use http::{Request, Response};
use tokio::sync::Notify;

use crate::support::{H2, Ingress, Origin, Wire, check, eventually, get, send, service, soon};

#[tokio::test]
async fn a_response_that_breaks_off_is_seen_as_broken() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\none",
    ] {
        for resets in [true, false] {
            let origin = Origin::scripted(move |mut wire| async move {
                if wire.next_head().await.is_some() {
                    wire.write(response).await;
                    // The part must be on its way before the end cuts it off.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if resets {
                        wire.reset();
                    }
                }
            })
            .await;
            let ingress = Ingress::before(origin.address).await;
            let reply = get(&ingress, "a", "/").await;
            assert_eq!(reply.status(), 200);
            assert!(!reply.whole, "{response} {resets}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_replica_that_takes_too_long_to_answer_gives_504() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.closed().await;
    })
    .await;
    let labels = "hiveway.timeout.response-header=200ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let started = clock::now();
    check(&ingress, "a", "/", "504 504 Gateway Timeout (timeout)").await;
    let took = clock::now().since(started);
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(1), "{took:?}");
    eventually("the replica need not go on", || origin.open() == 0).await;
}

#[tokio::test]
async fn the_time_for_an_answer_begins_with_the_last_byte_of_the_request() {
    let shop = Origin::named("shop").await;
    let labels = "hiveway.timeout.response-header=300ms";
    let ingress = Ingress::start([service("shop", labels, &[shop.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").await;
    for byte in ["a", "b", "c", "d", "e", "f"] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write(byte).await;
    }
    assert_eq!(client.reply().await.to_string(), "200 shop: POST / abcdef");
}

#[tokio::test]
async fn the_time_for_an_answer_does_not_count_once_it_is_there() {
    let origin = Origin::scripted(|mut wire| async move {
        let head = wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
        wire.body(&head).await;
        // Longer than the answer may take, shorter than a pause in it.
        tokio::time::sleep(Duration::from_millis(600)).await;
        wire.write("done").await;
    })
    .await;
    let labels = "hiveway.timeout.response-header=200ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    client.write("hi").await;
    assert_eq!(client.exactly(4).await, "done");
}

#[tokio::test]
async fn a_response_that_does_not_move_is_broken_off() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await;
        wire.closed().await;
    })
    .await;
    let labels = "hiveway.timeout.stream-idle=200ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    assert_eq!(get(&ingress, "a", "/").await.to_string(), "200 one (broken)");
    eventually("the replica need not go on", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_a_replica_only_for_so_long() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // More than all buffers on the way can hold.
        while !wire.closed_within(Duration::from_micros(10)).await {
            wire.write(&chunk).await;
        }
    })
    .await;
    let labels = "hiveway.timeout.stream-idle=300ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    eventually("the replica need not go on", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_gets_408() {
    let shop = Origin::named("shop").await;
    let labels = "hiveway.timeout.stream-idle=200ms hiveway.eject.consecutive=1";
    let ingress = Ingress::start([service("shop", labels, &[shop.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none").await;
    let reply = client.reply().await;
    assert!(reply.to_string().starts_with("408 408 Request Timeout (client_too_slow)"), "{reply}");
    assert_eq!(reply.field("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test]
async fn a_bad_chunk_is_the_clients_fault() {
    let (shop, other) = (Origin::named("shop").await, Origin::named("other").await);
    let labels = "hiveway.eject.consecutive=1 hiveway.eject.base=1m";
    let replicas = [shop.address, other.address];
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    for _ in 0..10 {
        let mut client = Wire::to(ingress.address).await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.write("2\r\nhi\r\nnonsense\r\n").await;
        let reply = client.reply().await;
        assert!(reply.to_string().starts_with("400 400 Bad Request (client_broken)"), "{reply}");
        client.closed().await;
    }
    assert_eq!(ingress.state(shop.address), "healthy");
    assert_eq!(ingress.state(other.address), "healthy");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_is_counted_as_gone() {
    let (shop, other) = (Origin::named("shop").await, Origin::named("other").await);
    let labels = "hiveway.eject.consecutive=1 hiveway.eject.base=1m";
    let replicas = [shop.address, other.address];
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    let mut left = 0;
    for framing in ["Content-Length: 6\r\n\r\none", "Transfer-Encoding: chunked\r\n\r\n6\r\none"] {
        for resets in [true, false] {
            let before = shop.requests().len() + other.requests().len();
            let mut client = Wire::to(ingress.address).await;
            client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            let asked = || shop.requests().len() + other.requests().len() > before;
            eventually("a replica was asked", asked).await;
            if resets {
                client.reset();
            } else {
                drop(client);
            }
            left += 1;
            eventually("it is counted", || ingress.counted(499) == left).await;
        }
    }
    assert_eq!(ingress.counted(400), 0);
    assert_eq!((ingress.state(shop.address), ingress.state(other.address)), ("healthy", "healthy"));
}

#[tokio::test]
async fn a_body_that_a_replica_does_not_take_is_called_back_with_its_response() {
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let labels = "hiveway.timeout.stream-idle=500ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    let length = 32 << 20;
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    client.head().await;
    // Until all buffers on the way are full.
    while client.takes(&"x".repeat(0x10000), Duration::from_millis(200)).await {}
    let endpoint = ingress.endpoint(origin.address).unwrap();
    eventually("the connection is closed", || endpoint.connections.load(Relaxed) == 0).await;
}

#[tokio::test]
async fn a_body_without_a_window_at_the_replica_is_called_back_when_its_client_leaves() {
    let reset = Arc::new(Notify::new());
    let seen = Arc::clone(&reset);
    let origin = Origin::connected(move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            let mut builder = h2::server::Builder::new();
            let handshake = builder.initial_window_size(0).handshake(stream);
            let mut connection: h2::server::Connection<_, Bytes> = handshake.await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            tokio::spawn(async move {
                let reason = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
                assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                seen.notify_one();
            });
            while connection.accept().await.is_some() {}
        }
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    let client = H2::to(ingress.address).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (response, mut body) = client.begin(request, false).await;
    let response = soon("a response", response).await.unwrap();
    body.send_data(Bytes::from("one"), false).unwrap();
    // Time for the first piece to get as far as it can.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop((response, body));
    soon("a reset", reset.notified()).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_has_ended_reaches_the_client() {
    for resets in [true, false] {
        let origin = Origin::scripted(move |mut wire| async move {
            if wire.next_head().await.is_some() {
                wire.write("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
                    .await;
                // Closing with bytes unread resets the connection.
                if !resets {
                    wire.closed().await;
                }
            }
        })
        .await;
        let ingress = Ingress::before(origin.address).await;
        let mut client = Wire::to(ingress.address).await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
        client.write("x".repeat(1000)).await;
        assert_eq!(client.reply().await.to_string(), "413 big", "resets: {resets}");
    }
}

#[tokio::test]
async fn an_answer_to_a_large_body_that_nobody_wants_can_be_read_after_sending_it() {
    let shop = Origin::named("shop").await;
    let labels = "hiveway.host=a hiveway.limit.body=10";
    let ingress = Ingress::start([service("shop", labels, &[shop.address])]).await;
    let body = "x".repeat(1 << 20);
    for (host, status) in [("a", 413), ("unknown", 404)] {
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}", body.len());
        // Written as a whole before anything is read, as simple clients do.
        let reply = send(&ingress, &format!("{head}\r\n\r\n{body}")).await;
        assert_eq!(reply.status(), status);
    }
}
