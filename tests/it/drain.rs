//! The end of an edge: nobody is cut off, nobody is turned away.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::support::{H2, Ingress, Origin, Wire, check, eventually, service, soon, text_of};

/// A replica that answers `/slow` only when a second head follows, and all else at once.
async fn slow() -> (Origin, std::sync::Arc<tokio::sync::Notify>) {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let may_go = std::sync::Arc::clone(&go);
    let origin = Origin::scripted(move |mut wire| {
        let may_go = std::sync::Arc::clone(&may_go);
        async move {
            while let Some(head) = wire.next_head().await {
                if head.starts_with("GET /slow") {
                    may_go.notified().await;
                }
                wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    (origin, go)
}

async fn draining(options: &str, origin: &Origin) -> Ingress {
    let services = [service("shop", "hiveway.path=/", &[origin.address])];
    Ingress::with_options(options, services).await
}

#[tokio::test]
async fn a_request_under_way_finishes_and_the_edge_ends_then() {
    let (origin, go) = slow().await;
    let mut ingress = draining("drain.delay=0s drain.timeout=6s", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let endpoint = ingress.endpoint(origin.address).unwrap();
    eventually("it is at the replica", || endpoint.in_flight() == 1).await;
    ingress.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(ingress.address).is_err())
        .await;
    assert!(!ingress.has_ended());
    go.notify_one();
    let reply = client.reply().await;
    assert_eq!(reply.to_string(), "200 ok");
    assert_eq!(reply.field("connection"), Some("close"));
    client.closed().await;
    ingress.ended().await;
}

#[tokio::test]
async fn during_the_delay_new_connections_are_served_and_told_to_close() {
    let (origin, _go) = slow().await;
    let options = "drain.delay=500ms drain.timeout=5s listeners.web.health-path=/up";
    let mut ingress = draining(options, &origin).await;
    check(&ingress, "a", "/up", "200 ok").await;
    let mut kept = Wire::to(ingress.address).await;
    kept.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.reply().await.field("connection"), None);
    ingress.stop();
    eventually("it drains", || ingress.readiness.obstacle() == Some("draining")).await;
    check(&ingress, "a", "/up", "503 draining").await;
    // Idle connections stay, for a request may be on its way on them.
    for mut client in [kept, Wire::to(ingress.address).await] {
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!((reply.status(), reply.field("connection")), (200, Some("close")));
        client.closed().await;
    }
    ingress.ended().await;
}

#[tokio::test]
async fn idle_connections_are_closed_when_the_delay_is_over() {
    let (origin, _go) = slow().await;
    let mut ingress = draining("drain.delay=300ms drain.timeout=60s", &origin).await;
    let mut used = Wire::to(ingress.address).await;
    used.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    used.reply().await;
    let mut silent = Wire::to(ingress.address).await;
    let client = H2::to(ingress.address).await;
    client.get("http://a/").await;
    eventually("all are there", || {
        ingress.connections.open.load(std::sync::atomic::Ordering::Relaxed) == 3
    })
    .await;
    ingress.stop();
    let (one, two) = tokio::join!(
        used.closed_within(Duration::from_millis(200)),
        silent.closed_within(Duration::from_millis(200))
    );
    assert!(!one && !two, "not before the delay is over");
    used.closed().await;
    silent.closed().await;
    ingress.ended().await;
}

#[tokio::test]
async fn http2_clients_are_told_with_goaway_at_once_and_their_streams_finish() {
    let (origin, go) = slow().await;
    let mut ingress = draining("drain.delay=300ms drain.timeout=5s", &origin).await;
    let client = H2::to(ingress.address).await;
    let (response, _) = client.begin(Request::get("http://a/slow").body(()).unwrap(), true).await;
    let endpoint = ingress.endpoint(origin.address).unwrap();
    eventually("it is at the replica", || endpoint.in_flight() == 1).await;
    let idle = H2::to(ingress.address).await;
    idle.get("http://a/").await;
    ingress.stop();
    soon("the end of an idle connection", idle.connection).await.unwrap().unwrap();
    assert!(!ingress.has_ended());
    go.notify_one();
    let mut response = soon("the response", response).await.unwrap();
    assert_eq!(text_of(response.body_mut()).await, "ok");
    soon("the end of the connection", client.connection).await.unwrap().unwrap();
    ingress.ended().await;
}

#[tokio::test]
async fn an_upgraded_connection_may_go_on_while_the_edge_drains() {
    let origin = Origin::scripted(|mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.write(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            )
            .await;
            while let Some(line) = wire.until("\n").await {
                wire.write(line).await;
            }
        }
    })
    .await;
    let mut ingress = draining("drain.delay=0s drain.timeout=6s", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    client.head().await;
    ingress.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(ingress.address).is_err())
        .await;
    client.write("still here\n").await;
    assert_eq!(client.until("\n").await.as_deref(), Some("still here\n"));
    assert!(!ingress.has_ended());
    drop(client);
    ingress.ended().await;
}

#[tokio::test]
async fn what_never_ends_is_cut_off_when_the_time_is_over() {
    let (origin, _go) = slow().await;
    let mut ingress = draining("drain.delay=0s drain.timeout=300ms", &origin).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let endpoint = ingress.endpoint(origin.address).unwrap();
    eventually("it is at the replica", || endpoint.in_flight() == 1).await;
    ingress.stop();
    ingress.ended().await;
    client.closed().await;
}

#[tokio::test]
async fn clients_that_come_one_after_the_other_are_all_served_until_the_listener_closes() {
    let (origin, _go) = slow().await;
    let mut ingress = draining("drain.delay=200ms drain.timeout=5s", &origin).await;
    ingress.stop();
    let mut served = 0;
    while let Ok(stream) = tokio::net::TcpStream::connect(ingress.address).await {
        let mut client = Wire::over(stream);
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let Some(head) = client.next_head().await else {
            // Made in the instant in which the kernel closes the socket: it can only be the last.
            assert!(tokio::net::TcpStream::connect(ingress.address).await.is_err());
            break;
        };
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        served += 1;
    }
    assert!(served > 10, "{served}");
    ingress.ended().await;
}

#[tokio::test]
async fn a_body_that_streams_is_not_cut_off() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        // Says a word for each one that it hears.
        let mut heard = request.into_body();
        while let Some(Ok(data)) = heard.data().await {
            let _ = body.send_data(data, false);
        }
        let _ = body.send_data(Bytes::new(), true);
    })
    .await;
    let services = [service("shop", "hiveway.protocol=h2c", &[origin.address])];
    let mut ingress = Ingress::with_options("drain.delay=0s drain.timeout=6s", services).await;
    let client = H2::to(ingress.address).await;
    let (response, mut body) =
        client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
    body.send_data(Bytes::from("one"), false).unwrap();
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!(soon("data", response.body_mut().data()).await.unwrap().unwrap(), "one");
    ingress.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(ingress.address).is_err())
        .await;
    body.send_data(Bytes::from("two"), true).unwrap();
    assert_eq!(text_of(response.body_mut()).await, "two");
    ingress.ended().await;
}
