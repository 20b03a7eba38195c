//! Connections that do not come about: nothing of the request was sent, so nobody may notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use hiveway::clock;

use crate::support::{
    Deaf, Deserted, Ingress, Origin, Wire, check, eventually, get, send, service,
};

#[tokio::test]
async fn a_replica_that_dies_costs_no_request_that_was_not_sent_to_it() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let replicas = [one.address, two.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    for _ in 0..10 {
        assert_eq!(get(&ingress, "a", "/").await.status(), 200);
    }
    let address = one.address;
    drop(one);
    for _ in 0..20 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(send(&ingress, post).await.to_string(), "200 two: POST / hi");
    }
    eventually("the dead one is known to be down", || ingress.state(address) == "down").await;
}

#[tokio::test]
async fn a_replica_that_does_not_listen_yet_stays_pending_and_fails_nobody() {
    let (ready, starting) = (Origin::named("ready").await, Deserted::new());
    let address = starting.address;
    let ingress = Ingress::before(ready.address).await;
    ingress.announce([service("shop", "hiveway.path=/", &[ready.address, address])]).await;
    eventually("it takes part", || ingress.state(address) == "pending").await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 ready: GET /").await;
        assert_eq!(ingress.state(address), "pending");
    }
    let _origin = starting.inhabited_by("started");
    eventually("it takes requests", || ingress.state(address) == "healthy").await;
}

#[tokio::test]
async fn a_dial_without_an_answer_is_raced_by_one_to_another_replica() {
    let (shop, lost) = (Origin::named("shop").await, Deaf::new());
    let replicas = [shop.address, lost.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    let _deaf = lost.deaf().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let started = clock::now();
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(send(&ingress, post).await.to_string(), "200 shop: POST / hi");
        slowest = slowest.max(clock::now().since(started));
    }
    assert!(slowest >= Duration::from_millis(200), "nobody met the lost one: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "somebody waited for the lost one: {slowest:?}");
}

#[tokio::test]
async fn a_replica_that_never_answers_dials_is_given_up_after_the_time_for_a_connection() {
    let lost = Deaf::new();
    let labels = "hiveway.timeout.connect=300ms hiveway.timeout.queue=300ms";
    let ingress = Ingress::start([service("shop", labels, &[lost.address])]).await;
    let _deaf = lost.deaf().await;
    let started = clock::now();
    assert_eq!(get(&ingress, "a", "/").await.status(), 503);
    let took = clock::now().since(started);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_request_is_not_lost_to_a_connection_that_was_closed_before() {
    // Each connection takes one request and is closed without a word, as idle ones are.
    let origin = Origin::scripted(|mut wire| async move {
        let head = wire.head().await;
        wire.body(&head).await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    for _ in 0..200 {
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.reply().await.to_string(), "200 ok");
        eventually("the connection was closed", || origin.open() == 0).await;
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_has_no_connection_that_was_idle_for_long() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let labels = "hiveway.keepalive.idle=3s";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    let mut accepted_after = async |request: &str, idle: u64| {
        tokio::time::sleep(Duration::from_millis(idle)).await;
        client.write(request).await;
        assert_eq!(client.reply().await.to_string(), "200 ok");
        origin.accepted()
    };
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // A third of the time is long.
    assert_eq!(accepted_after(get, 0).await, 1);
    assert_eq!(accepted_after(post, 0).await, 1);
    assert_eq!(accepted_after(get, 1100).await, 1);
    assert_eq!(accepted_after(post, 0).await, 1);
    assert_eq!(accepted_after(post, 1100).await, 2);
}

#[tokio::test]
async fn who_has_fallen_silent_is_asked_on_a_new_connection() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            if head.starts_with("GET /hang") {
                std::future::pending::<()>().await;
            }
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut hangs = Wire::to(ingress.address).await;
    hangs.write("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it hangs", || origin.accepted() == 1).await;
    let mut client = Wire::to(ingress.address).await;
    let mut accepted_after = async |quiet: u64| {
        tokio::time::sleep(Duration::from_millis(quiet)).await;
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.reply().await.to_string(), "200 ok");
        origin.accepted()
    };
    assert_eq!(accepted_after(0).await, 2);
    // One request is unanswered for four times as long as usual: of the first one nothing is known.
    assert_eq!(accepted_after(400).await, 3);
    assert_eq!(accepted_after(0).await, 3, "it has just answered");
}

#[tokio::test]
async fn a_connection_that_is_closed_as_idle_with_408_costs_no_get() {
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            wire.write("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n").await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 ok").await;
    }
}

#[tokio::test]
async fn the_only_replica_may_be_replaced_by_its_successor_while_a_request_waits() {
    let (gone, coming) = (Origin::named("gone").await, Deserted::new());
    let ingress = Ingress::before(gone.address).await;
    drop(gone);
    let successor = [service("shop", "hiveway.path=/", &[coming.address])];
    let (reply, _origin) = tokio::join!(get(&ingress, "a", "/"), async {
        eventually("the request waits", || {
            let upstream = ingress.upstream("shop");
            upstream.waiting.load(std::sync::atomic::Ordering::Relaxed) == 1
        })
        .await;
        ingress.announce(successor).await;
        coming.inhabited_by("successor")
    });
    assert_eq!(reply.to_string(), "200 successor: GET /");
}

#[tokio::test]
async fn a_replica_that_accepts_and_closes_is_down_and_not_dialled_without_a_pause() {
    let served = Arc::new(AtomicBool::new(false));
    let origin = Origin::connected(move |stream| {
        let first = !served.swap(true, SeqCst);
        async move {
            if !first {
                return;
            }
            let mut connection: h2::server::Connection<_, bytes::Bytes> =
                h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_response(http::Response::new(()), true).unwrap();
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        }
    })
    .await;
    let labels = "hiveway.protocol=h2c hiveway.timeout.queue=1s";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    check(&ingress, "a", "/", "200 ").await;
    eventually("the first connection has ended", || origin.open() == 0).await;
    let before = origin.accepted();
    let reply = get(&ingress, "a", "/").await;
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (no_endpoint)"), "{reply}");
    assert_eq!(ingress.state(origin.address), "down");
    let dials = origin.accepted() - before;
    assert!((2..=20).contains(&dials), "{dials} dials in a second");
}

#[tokio::test]
async fn a_replica_that_does_not_speak_http2_is_never_ready() {
    let shop = Origin::h2("shop").await;
    let closing = Origin::connected(|stream| async move { drop(stream) }).await;
    let ingress = Ingress::before_h2(shop.address).await;
    let replicas = [shop.address, closing.address];
    ingress.announce([service("shop", "hiveway.protocol=h2c", &replicas)]).await;
    eventually("it was tried", || closing.accepted() > 2).await;
    assert_eq!(ingress.state(closing.address), "pending");
    for _ in 0..10 {
        check(&ingress, "a", "/", "200 shop: GET /").await;
    }
}
