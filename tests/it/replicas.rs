//! How replicas that speak HTTP/1 are written to and read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::{Ingress, Origin, Wire, get, service, soon};

const MEGABYTE: usize = 1 << 20;

/// A megabyte that shows where a part of it is missing.
fn much() -> String {
    let lines: Vec<_> = (0..MEGABYTE / 16).map(|line| format!("{line:015}\n")).collect();
    lines.concat()
}

#[tokio::test]
async fn a_replica_may_answer_before_it_has_the_whole_request_and_both_go_on() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while let Some(said) = wire.chunk().await.filter(|said| !said.is_empty()) {
            wire.write(format!("{:x}\r\n{said}\r\n", said.len())).await;
        }
        wire.write("0\r\n\r\n").await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for said in ["one", "two", "three"] {
        client.write(format!("{:x}\r\n{said}\r\n", said.len())).await;
        assert_eq!(client.chunk().await.as_deref(), Some(said));
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_refusal_that_comes_while_the_body_is_sent_reaches_the_client() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
            .await;
        wire.finish().await;
        wire.closed().await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    let length = 64 * MEGABYTE;
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    client.write("the beginning").await;
    assert_eq!(client.reply().await.to_string(), "413 no");
}

#[tokio::test]
async fn a_large_body_arrives_whole_by_its_length_and_in_chunks() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let same = wire.body(&head).await == much();
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{same:5}")).await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    let body = much();
    client
        .write(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    assert_eq!(client.reply().await.to_string(), "200 true");
    client.write("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in [&body[..1], &body[1..5000], &body[5000..100_000], &body[100_000..]] {
        client.write(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.reply().await.to_string(), "200 true");
}

#[tokio::test]
async fn a_large_response_arrives_whole_however_its_end_is_told() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let body = much();
            if head.starts_with("GET /length ") {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                wire.write(head + &body).await;
            } else if head.starts_with("GET /chunks ") {
                wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                for piece in [&body[..7], &body[7..9000], &body[9000..]] {
                    wire.write(format!("{:x};ext\r\n{piece}\r\n", piece.len())).await;
                }
                wire.write("0\r\n\r\n").await;
            } else {
                wire.write("HTTP/1.0 200 OK\r\n\r\n".to_owned() + &body).await;
                return;
            }
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    for path in ["/length", "/chunks", "/close"] {
        let reply = get(&ingress, "a", path).await;
        assert!(reply.whole && reply.body == much(), "{path}: {} bytes", reply.body.len());
    }
}

#[tokio::test]
async fn interim_responses_are_not_taken_for_the_answer() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter").await;
        wire.closed().await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    assert_eq!(get(&ingress, "a", "/").await.to_string(), "200 after");
}

/// How many connections two requests took, after the first of which the replica wrote `behind`.
async fn connections_for_two(answer: &'static str) -> usize {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let origin = Origin::scripted(move |mut wire| {
        counted.fetch_add(1, SeqCst);
        async move {
            while wire.next_head().await.is_some() {
                wire.write(answer).await;
            }
        }
    })
    .await;
    let labels = "hiveway.path=/ hiveway.keepalive.idle=1m";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    // The edge has knocked before.
    let before = connections.load(SeqCst);
    for _ in 0..2 {
        let reply = soon("an answer", get(&ingress, "a", "/")).await;
        assert_eq!(reply.to_string(), "200 ok", "{answer:?}");
    }
    connections.load(SeqCst).saturating_sub(before)
}

#[tokio::test]
async fn a_connection_takes_a_second_request_only_if_nothing_is_left_on_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(connections_for_two(answer).await, 0, "the one of the knock is kept");
    for spoiled in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        assert_eq!(connections_for_two(spoiled).await, 1, "{spoiled:?}");
    }
}
