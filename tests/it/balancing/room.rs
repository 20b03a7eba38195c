//! `limit.connections`: how many connections a replica has, and who waits for one.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::support::{H2, Wire, get, soon, text_of};

/// Answers when the whole body is there.
async fn patient() -> Origin {
    Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            wire.body(&head).await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await
}

/// A client whose request occupies a connection until it sends one byte more.
async fn holder(ingress: &Ingress, replicas: &[&Origin], in_flight: usize) -> Wire {
    let mut client = Wire::to(ingress.address).await;
    client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").await;
    eventually("it is in flight", || {
        let of = |at: &&Origin| ingress.endpoint(at.address).unwrap().in_flight();
        replicas.iter().map(of).sum::<usize>() == in_flight
    })
    .await;
    client
}

async fn let_go(mut client: Wire) {
    client.write("x").await;
    assert_eq!(client.reply().await.to_string(), "200 ok");
}

#[tokio::test]
async fn a_request_waits_for_a_replica_with_room_and_comes_at_once_when_there_is_some() {
    let (one, two) = (patient().await, patient().await);
    let labels = "hiveway.limit.connections=1 hiveway.timeout.queue=1h";
    let ingress = Ingress::start([service("shop", labels, &[one.address, two.address])]).await;
    let replicas = [&one, &two];
    let first = holder(&ingress, &replicas, 1).await;
    let second = holder(&ingress, &replicas, 2).await;
    let waiting = {
        let mut client = Wire::to(ingress.address).await;
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::spawn(async move { client.reply().await.to_string() })
    };
    let upstream = ingress.upstream("shop");
    eventually("it waits", || upstream.waiting.load(SeqCst) == 1).await;
    let_go(second).await;
    assert_eq!(soon("its answer", waiting).await.unwrap(), "200 ok");
    let_go(first).await;
    assert_eq!((one.accepted(), two.accepted()), (1, 1));
}

#[tokio::test]
async fn who_finds_no_room_in_time_or_too_many_who_wait_gets_503() {
    let one = patient().await;
    for (label, reason) in
        [("limit.queue=0", "queue_full"), ("timeout.queue=100ms", "replicas_full")]
    {
        let labels = format!("hiveway.limit.connections=1 hiveway.{label}");
        let ingress = Ingress::start([service("shop", &labels, &[one.address])]).await;
        let first = holder(&ingress, &[&one], 1).await;
        let reply = get(&ingress, "a", "/").await;
        let expected = format!("503 503 Service Unavailable ({reason})");
        assert!(reply.to_string().starts_with(&expected), "{label}: {reply}");
        assert_eq!(reply.field("retry-after"), Some("1"));
        let_go(first).await;
        assert_eq!(get(&ingress, "a", "/").await.to_string(), "200 ok");
    }
}

#[tokio::test]
async fn a_session_waits_for_its_own_replica() {
    let (one, two) = (patient().await, patient().await);
    let labels = "hiveway.limit.connections=1 hiveway.sticky=sid";
    let ingress = Ingress::start([service("shop", labels, &[one.address, two.address])]).await;
    let sid = session(&ask(&ingress, "").await).unwrap();
    let mut held = Wire::to(ingress.address).await;
    let cookie = format!("Cookie: {sid}\r\n");
    held.write(format!("PUT / HTTP/1.1\r\nHost: a\r\n{cookie}Content-Length: 1\r\n\r\n")).await;
    let upstream = ingress.upstream("shop");
    let busy = || upstream.endpoints().iter().map(|at| at.in_flight()).sum::<usize>() == 1;
    eventually("it is held", busy).await;
    let mut waiting = Wire::to(ingress.address).await;
    waiting.write(format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}\r\n")).await;
    eventually("it waits", || upstream.waiting.load(SeqCst) == 1).await;
    assert_eq!(get(&ingress, "a", "/").await.status(), 200, "the other replica has room");
    let_go(held).await;
    let reply = waiting.reply().await;
    assert_eq!((reply.to_string().as_str(), session(&reply)), ("200 ok", None));
}

/// Counts connections that are open at once, as the kernel has it.
#[derive(Default)]
struct Crowd {
    there: Mutex<Vec<std::net::TcpStream>>,
    most: AtomicUsize,
}

impl Crowd {
    /// One more, besides those that the peer has not closed: on loopback the end of a connection has arrived
    /// when the next one begins, whether or not anybody has read it.
    fn enter(&self, stream: &TcpStream) {
        let socket = stream.as_fd().try_clone_to_owned().unwrap().into();
        let mut there = self.there.lock().unwrap();
        there.retain(|socket: &std::net::TcpStream| !matches!(socket.peek(&mut [0]), Ok(0)));
        there.push(socket);
        self.most.fetch_max(there.len(), SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_cores_together_keep_to_the_limit_whatever_the_method() {
    let crowd = Arc::<Crowd>::default();
    let seen = Arc::clone(&crowd);
    let origin = Origin::connected(move |stream| {
        seen.enter(&stream);
        let mut wire = Wire::over(stream);
        async move {
            while let Some(head) = wire.next_head().await {
                wire.body(&head).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let labels = "hiveway.limit.connections=3";
    let services = [service("shop", labels, &[origin.address])];
    let ingress = Ingress::with_options("runtime.workers=4", services).await;
    let endpoint = ingress.endpoint(origin.address).unwrap();
    let mut clients = JoinSet::new();
    for client in 0..24 {
        let address = ingress.address;
        clients.spawn(async move {
            let method = if client % 2 == 0 { "GET" } else { "POST" };
            for _ in 0..10 {
                let mut wire = Wire::to(address).await;
                let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
                wire.write(head).await;
                assert_eq!(wire.reply().await.to_string(), "200 ok", "{method}");
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
        assert!(endpoint.connections.load(SeqCst) <= 3);
    }
    let most = crowd.most.load(SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
}

#[tokio::test]
async fn calls_share_the_one_connection_that_is_allowed_from_every_core() {
    let origin = Origin::h2("h2").await;
    let labels = "hiveway.protocol=h2c hiveway.limit.connections=1";
    let services = [service("shop", labels, &[origin.address])];
    let ingress = Ingress::with_options("runtime.workers=4", services).await;
    for _ in 0..12 {
        let client = H2::to(ingress.address).await;
        for _ in 0..4 {
            let request = http::Request::get("http://a/").body(()).unwrap();
            let (response, _) = client.begin(request, true).await;
            let response = soon("a response", response).await.unwrap();
            assert_eq!(text_of(&mut response.into_body()).await, "h2: GET /");
        }
    }
    assert_eq!(origin.accepted(), 1);
}
