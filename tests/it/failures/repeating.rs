//! Which requests go again, how often, and which never do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::{Ingress, Origin, Wire, check, eventually, get, send, service};

/// A replica that resets the connection as soon as it has read a request; and how many it read.
async fn resetting() -> (Origin, Arc<AtomicUsize>) {
    let read = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&read);
    let origin = Origin::scripted(move |mut wire| {
        let count = Arc::clone(&count);
        async move {
            if let Some(head) = wire.next_head().await {
                wire.body(&head).await;
                count.fetch_add(1, SeqCst);
                wire.reset();
            }
        }
    })
    .await;
    (origin, read)
}

#[tokio::test]
async fn a_get_whose_connection_is_reset_goes_to_another_replica() {
    let ((bad, read), good) = (resetting().await, Origin::named("good").await);
    let replicas = [bad.address, good.address];
    let labels = "hiveway.eject.consecutive=1000 hiveway.retry.budget=100";
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    for n in 0..30 {
        check(&ingress, "a", &format!("/{n}"), &format!("200 good: GET /{n}")).await;
    }
    assert!(read.load(SeqCst) > 0, "nobody met the bad one");
    let mut seen = good.requests();
    seen.dedup();
    assert_eq!(seen.len(), 30, "each went to the good one once");
}

#[tokio::test]
async fn a_get_goes_again_to_the_only_replica_on_a_new_connection() {
    // As a process that dies leaves them: connections that have been used take no further request.
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            // So that each of those who ask together has a connection of its own.
            tokio::time::sleep(Duration::from_millis(50)).await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
        if wire.next_head().await.is_some() {
            wire.reset();
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let all = (0..8).map(|_| check(&ingress, "a", "/", "200 ok"));
    futures_util::future::join_all(all).await;
    assert_eq!(origin.open(), 8);
    check(&ingress, "a", "/", "200 ok").await;
    assert_eq!(origin.accepted(), 9);
}

#[tokio::test]
async fn a_put_with_a_small_body_goes_again_with_all_of_it() {
    let ((bad, read), good) = (resetting().await, Origin::named("good").await);
    let replicas = [bad.address, good.address];
    let labels = "hiveway.eject.consecutive=1000 hiveway.retry.budget=100";
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    let sized = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    for request in [sized, chunked].repeat(10) {
        assert_eq!(send(&ingress, request).await.to_string(), "200 good: PUT / hello");
    }
    assert!(read.load(SeqCst) > 0, "nobody met the bad one");
}

#[tokio::test]
async fn a_put_with_a_large_body_does_not_go_again() {
    let (bad, read) = resetting().await;
    let ingress = Ingress::before(bad.address).await;
    let body = "x".repeat(100 << 10);
    let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let reply = send(&ingress, &format!("{request}{body}")).await;
    assert!(reply.to_string().starts_with("502 502 Bad Gateway (reset)"), "{reply}");
    assert_eq!(read.load(SeqCst), 1);
}

#[tokio::test]
async fn a_post_that_may_have_run_is_never_sent_twice() {
    let (bad, read) = resetting().await;
    let (other, other_read) = resetting().await;
    let labels = "hiveway.retry.on=reset,502,503,504,timeout hiveway.retry.attempts=5";
    let ingress = Ingress::start([service("shop", labels, &[bad.address, other.address])]).await;
    for sent in 1..=5 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        let reply = send(&ingress, post).await;
        assert!(reply.to_string().starts_with("502 502 Bad Gateway (reset)"), "{reply}");
        assert_eq!(read.load(SeqCst) + other_read.load(SeqCst), sent);
    }
}

#[tokio::test]
async fn a_get_goes_again_only_as_often_as_its_label_says() {
    for (attempts, tries) in [(0, 1), (1, 2), (5, 6)] {
        let (bad, read) = resetting().await;
        let labels = format!("hiveway.retry.attempts={attempts}");
        let ingress = Ingress::start([service("shop", &labels, &[bad.address])]).await;
        assert_eq!(get(&ingress, "a", "/").await.status(), 502);
        assert_eq!(read.load(SeqCst), tries);
    }
}

#[tokio::test]
async fn repeated_requests_stay_within_the_budget_of_their_service() {
    let (bad, read) = resetting().await;
    let labels = "hiveway.retry.attempts=5 hiveway.retry.budget=10";
    let ingress = Ingress::start([service("shop", labels, &[bad.address])]).await;
    let started = hiveway::clock::now();
    for _ in 0..100 {
        assert_eq!(get(&ingress, "a", "/").await.status(), 502);
    }
    let took = hiveway::clock::now().since(started).as_millis();
    let repeated = read.load(SeqCst) - 100;
    // A tenth of the requests, ten at once, and ten a second from then on.
    let most = 10 + 10 + usize::try_from(took / 100).unwrap() + 1;
    assert!((10..=most).contains(&repeated), "{repeated} in {took} ms");
}

#[tokio::test]
async fn an_answer_that_a_label_names_is_thrown_away_for_another_replicas() {
    let bad = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
    let good = Origin::named("good").await;
    let replicas = [bad.address, good.address];
    let labels = "hiveway.retry.on=503 hiveway.retry.budget=100 hiveway.eject.consecutive=1000";
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 good: GET /").await;
    }
    // Where there is no other one, the client gets the answer that there is.
    let ingress = Ingress::start([service("shop", labels, &[bad.address])]).await;
    check(&ingress, "a", "/", "503 busy").await;
}

#[tokio::test]
async fn what_is_not_http_is_answered_502_and_not_asked_for_again() {
    let count = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&count);
    let origin = Origin::scripted(move |mut wire| {
        let seen = Arc::clone(&seen);
        async move {
            if wire.next_head().await.is_some() {
                seen.fetch_add(1, SeqCst);
                wire.write("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
                wire.closed().await;
            }
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    check(&ingress, "a", "/", "502 502 Bad Gateway (bad_response)").await;
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn a_try_whose_answer_was_thrown_away_takes_nothing_of_the_body_from_the_next() {
    let tries = Arc::<AtomicUsize>::default();
    let replica = async || {
        let tries = Arc::clone(&tries);
        Origin::scripted(move |mut wire| {
            let tries = Arc::clone(&tries);
            async move {
                let Some(head) = wire.next_head().await else { return };
                let first = tries.fetch_add(1, SeqCst) == 0;
                if first {
                    // It refuses the request at once, and reads and writes on as if it had not.
                    wire.write("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n").await;
                    eventually("a second try", || tries.load(SeqCst) == 2).await;
                    wire.write("busy").await;
                }
                let body = wire.body(&head).await;
                let length = format!("{}", body.len());
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length.len());
                wire.write(format!("{head}{length}")).await;
            }
        })
        .await
    };
    let (one, other) = (replica().await, replica().await);
    let labels = "hiveway.retry.on=503";
    let ingress = Ingress::start([service("shop", labels, &[one.address, other.address])]).await;
    let mut client = Wire::to(ingress.address).await;
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write(format!("{head}2\r\nhe\r\n")).await;
    eventually("a second try", || tries.load(SeqCst) == 2).await;
    for _ in 0..100 {
        client.write(format!("400\r\n{}\r\n", "x".repeat(1024))).await;
        tokio::task::yield_now().await;
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.reply().await.to_string(), format!("200 {}", 2 + 100 * 1024));
}
