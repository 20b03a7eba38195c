//! WebSockets and their like: after 101 the proxy is a pipe.

use std::time::Duration;

use crate::support::{Ingress, Origin, Wire, check, eventually, service};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// A replica that upgrades, says hello and gives back each line until there is none.
async fn chat() -> Origin {
    Origin::scripted(|mut wire| async move {
        let Some(head) = wire.next_head().await else { return };
        assert!(head.to_lowercase().contains("\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.to_lowercase().contains("\r\nconnection: upgrade\r\n"), "{head}");
        // The first words come in one write with the head, as they may.
        wire.write(format!("{SWITCHING}hello\n")).await;
        while let Some(line) = wire.until("\n").await {
            wire.write(format!("you said {line}")).await;
        }
        wire.write("bye\n").await;
    })
    .await
}

async fn upgraded(ingress: &Ingress) -> Wire {
    let mut client = Wire::to(ingress.address).await;
    client.write(UPGRADE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    assert!(head.to_lowercase().contains("sec-websocket-accept: y"), "{head}");
    client
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let origin = chat().await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = upgraded(&ingress).await;
    assert_eq!(client.until("\n").await.as_deref(), Some("hello\n"));
    for word in ["one\n", "two\n"] {
        client.write(word).await;
        assert_eq!(client.until("\n").await, Some(format!("you said {word}")));
    }
    let endpoint = ingress.endpoint(origin.address).unwrap();
    assert_eq!(endpoint.in_flight(), 1, "it counts for as long as it lasts");
    drop(client);
    eventually("both sides have ended", || origin.open() == 0 && endpoint.in_flight() == 0).await;
    eventually("it is counted", || ingress.counted(101) == 1).await;
}

#[tokio::test]
async fn what_went_through_is_counted_however_it_ends() {
    for resets in [true, false] {
        let origin = Origin::scripted(move |mut wire| async move {
            if wire.next_head().await.is_some() {
                wire.write(format!("{SWITCHING}hello\n")).await;
                wire.until("\n").await;
                if resets {
                    wire.reset();
                } else {
                    wire.closed().await;
                }
            }
        })
        .await;
        let labels = "hiveway.timeout.stream-idle=300ms";
        let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
        let mut client = upgraded(&ingress).await;
        client.until("\n").await;
        client.write("one two three\n").await;
        client.closed().await;
        eventually("it is counted", || ingress.counted(101) == 1).await;
        assert_eq!(ingress.bytes(), (14, 6), "resets: {resets}");
    }
}

#[tokio::test]
async fn a_replica_may_take_longer_to_upgrade_than_to_answer() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.next_head().await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        wire.write(SWITCHING).await;
    })
    .await;
    let labels = "hiveway.host=a hiveway.timeout.response-header=200ms";
    let ingress = Ingress::start(&[service("shop", labels, &[origin.address])]).await;
    upgraded(&ingress).await;
    let late = "504 504 Gateway Timeout (timeout)\nthe replica did not answer in time";
    check(&ingress, "a", "/", late).await;
}

#[tokio::test]
async fn a_client_may_send_more_along_with_its_wish() {
    let origin = chat().await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write(format!("{UPGRADE}early\n")).await;
    client.head().await;
    assert_eq!(client.until("\n").await.as_deref(), Some("hello\n"));
    assert_eq!(client.until("\n").await.as_deref(), Some("you said early\n"));
}

#[tokio::test]
async fn either_side_may_end_its_half_first() {
    let origin = chat().await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = upgraded(&ingress).await;
    client.write("one\n").await;
    client.finish().await;
    assert_eq!(client.rest().await, "hello\nyou said one\nbye\n");

    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write(SWITCHING).await;
            wire.finish().await;
            assert_eq!(wire.rest().await, "still here\n");
            wire.closed().await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = upgraded(&ingress).await;
    client.closed().await;
    client.write("still here\n").await;
    assert_eq!(origin.open(), 1);
    drop(client);
    eventually("both sides have ended", || origin.open() == 0).await;
}

#[tokio::test]
async fn when_the_replica_dies_the_client_is_told() {
    let origin = chat().await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = upgraded(&ingress).await;
    assert_eq!(client.until("\n").await.as_deref(), Some("hello\n"));
    drop(origin);
    assert!(client.closed_within(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn an_upgraded_connection_on_which_nothing_moves_is_closed() {
    let origin = chat().await;
    let labels = "hiveway.timeout.stream-idle=300ms";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut client = upgraded(&ingress).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.write("x\n").await;
        client.until("\n").await.expect("it is still open");
    }
    assert!(client.closed_within(Duration::from_secs(1)).await);
    eventually("the replica's side has ended too", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_replica_that_does_not_want_the_upgrade_answers_as_usual() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    for _ in 0..2 {
        client.write(UPGRADE).await;
        assert_eq!(client.reply().await.to_string(), "200 shop: GET /chat");
    }
}

#[tokio::test]
async fn an_upgrade_to_http2_is_not_passed_on() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let length = head.len();
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    for upgrade in ["h2c", "H2C", "websocket, h2c"] {
        client
            .write(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ))
            .await;
        let seen = client.reply().await.body.to_lowercase();
        assert!(!seen.contains("h2c") && !seen.contains("http2-settings"), "{seen}");
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let origin = Origin::answering(SWITCHING).await;
    let ingress = Ingress::before(origin.address).await;
    check(&ingress, "a", "/", "502 502 Bad Gateway (bad_response)").await;
}

#[tokio::test]
async fn a_web_socket_is_asked_to_go_when_the_edge_is_to_end() {
    /// A message of five bytes, from a server.
    const HELLO: &str = "\u{2}\u{5}hello";
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            // Half a message, so that the farewell has to wait for the other half.
            wire.write(format!("{SWITCHING}{}", &HELLO[..4])).await;
            let go = wire.until("!").await;
            assert_eq!(go.as_deref(), Some("!"));
            wire.write(&HELLO[4..]).await;
            // What comes after the farewell nobody is told.
            let closed = wire.until("bye").await;
            wire.write("too late").await;
            assert_eq!(closed.as_deref(), Some("bye"));
        }
    })
    .await;
    let services = [service("shop", "hiveway.path=/", &[origin.address])];
    let mut ingress = Ingress::with_options("drain.delay=0s drain.timeout=10s", services).await;
    let mut client = upgraded(&ingress).await;
    assert_eq!(client.exactly(4).await, HELLO[..4]);
    ingress.stop();
    eventually("it drains", || ingress.readiness.obstacle() == Some("draining")).await;
    // Longer than clients may be asked to go in.
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.write("!").await;
    assert_eq!(client.exactly(HELLO.len() - 4).await, HELLO[4..]);
    assert!(!ingress.has_ended(), "the client has not answered yet");
    client.write("bye").await;
    assert_eq!(client.rest_of_bytes().await, [0x88, 2, 0x03, 0xe9]);
    ingress.ended().await;
}
