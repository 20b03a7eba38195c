//! Requests that no replica can take yet.

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use futures_util::future::join_all;
use hiveway::clock;
use tokio::sync::Notify;

use crate::support::{
    Deserted, Ingress, Origin, Wire, check, eventually, get, send, service, swarm_service,
};

/// Waits until that many requests wait for a replica of the shop.
async fn waiting(ingress: &Ingress, requests: u64) {
    let upstream = ingress.upstream("shop");
    eventually("they wait", || upstream.waiting.load(Relaxed) == requests).await;
}

/// An edge whose only replica does not listen yet.
async fn starting(labels: &str) -> (Ingress, Deserted) {
    let replica = Deserted::new();
    let ingress = Ingress::start([]).await;
    ingress.announce([service("shop", labels, &[replica.address])]).await;
    (ingress, replica)
}

#[tokio::test]
async fn requests_wait_for_a_replica_and_arrive_when_it_is_there() {
    let (ingress, replica) = starting("hiveway.path=/").await;
    let (replies, _origin) =
        tokio::join!(join_all((0..20).map(|_| get(&ingress, "a", "/"))), async {
            waiting(&ingress, 20).await;
            replica.inhabited_by("shop")
        });
    assert!(replies.iter().all(|reply| reply.to_string() == "200 shop: GET /"));
    assert_eq!(ingress.upstream("shop").waiting.load(Relaxed), 0);
}

#[tokio::test]
async fn a_crowd_that_has_waited_is_let_in_bit_by_bit_and_all_of_it() {
    const CROWD: u16 = 600;
    let (ingress, replica) = starting("hiveway.path=/").await;
    let (at_once, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (Arc::clone(&at_once), Arc::clone(&most));
    let (replies, (began, _origin)) =
        tokio::join!(join_all((0..CROWD).map(|_| get(&ingress, "a", "/"))), async {
            waiting(&ingress, CROWD.into()).await;
            let began = clock::now();
            let origin = replica.following(move |mut wire| {
                let (at_once, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
                async move {
                    while wire.next_head().await.is_some() {
                        most.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        at_once.fetch_sub(1, SeqCst);
                        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    }
                }
            });
            (began, origin)
        });
    assert!(replies.iter().all(|reply| reply.status() == 200));
    // Twice as many every 100 ms: where the machine is slow, more may be there at once.
    let took = clock::now().since(began).as_millis();
    let most = most.load(SeqCst);
    assert!(most <= 64 << (took / 100).min(5), "{most} at once, all within {took} ms");
}

#[tokio::test]
async fn requests_wait_no_longer_than_their_label_says() {
    let (ingress, _replica) = starting("hiveway.timeout.queue=300ms").await;
    let started = clock::now();
    let reply = get(&ingress, "a", "/").await;
    let took = clock::now().since(started);
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (no_endpoint)"), "{reply}");
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn no_more_requests_wait_than_their_label_says() {
    let (ingress, replica) = starting("hiveway.limit.queue=3").await;
    let (replies, _origin) =
        tokio::join!(join_all((0..3).map(|_| get(&ingress, "a", "/"))), async {
            waiting(&ingress, 3).await;
            check(&ingress, "a", "/", "503 503 Service Unavailable (queue_full)").await;
            replica.inhabited_by("shop")
        });
    assert!(replies.iter().all(|reply| reply.status() == 200));
}

#[tokio::test]
async fn scaling_to_zero_ends_the_wait() {
    let (ingress, _replica) = starting("hiveway.path=/").await;
    let (reply, ()) = tokio::join!(get(&ingress, "a", "/"), async {
        waiting(&ingress, 1).await;
        ingress.announce([service("shop", "hiveway.path=/", &[])]).await;
    });
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (scaled_to_zero)"));
}

const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn tasks(
    port: u16,
    desired: u64,
    tasks: &[(Ipv4Addr, bool)],
) -> [hiveway::inventory::SwarmService; 1] {
    [swarm_service("shop", &format!("hiveway.port={port}"), desired, tasks)]
}

#[tokio::test]
async fn a_replica_that_leaves_is_the_last_resort() {
    let leaving = Origin::named("leaving").await;
    let port = leaving.address.port();
    let ingress = Ingress::start(tasks(port, 1, &[(ONE, true)])).await;
    check(&ingress, "a", "/", "200 leaving: GET /").await;
    ingress.announce(tasks(port, 1, &[(ONE, false)])).await;
    eventually("it drains", || ingress.state(leaving.address) == "draining").await;
    check(&ingress, "a", "/", "200 leaving: GET /").await;
}

#[tokio::test]
async fn what_cannot_be_repeated_is_not_sent_to_a_replica_that_is_about_to_be_told_to_end() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let leaving = Origin::named("leaving").await;
    let port = leaving.address.port();
    let ingress = Ingress::start(tasks(port, 1, &[(ONE, true)])).await;
    ingress.announce(tasks(port, 1, &[(ONE, false)])).await;
    let endpoint = ingress.endpoint(leaving.address).unwrap();
    eventually("its end is near", || endpoint.health.is_about_to_end(clock::now())).await;
    check(&ingress, "a", "/", "200 leaving: GET /").await;
    let posts = || leaving.requests().iter().filter(|head| head.starts_with("POST")).count();
    let post = send(&ingress, POST);
    let (reply, ()) = tokio::join!(post, async {
        waiting(&ingress, 1).await;
        assert_eq!(posts(), 0);
    });
    // Nobody else has come, and it was not told after all.
    assert_eq!(reply.to_string(), "200 leaving: POST /");
    assert!(!endpoint.health.is_about_to_end(clock::now()));
}

#[tokio::test]
async fn what_cannot_be_repeated_is_not_sent_to_one_that_came_near_its_end_while_it_was_dialled() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (is_slow, greets) = (Arc::<AtomicBool>::default(), Arc::new(Notify::new()));
    let (slow, greeting) = (Arc::clone(&is_slow), Arc::clone(&greets));
    let leaving = Origin::scripted(move |mut wire| {
        let (slow, greeting) = (slow.load(SeqCst), Arc::clone(&greeting));
        async move {
            if slow {
                greeting.notified().await;
            }
            wire.write(SETTINGS).await;
            if slow {
                pending::<()>().await;
            }
        }
    })
    .await;
    let port = leaving.address.port();
    let labels = format!("hiveway.port={port} hiveway.protocol=h2c hiveway.timeout.connect=20s");
    let tasks = |desired, up| [swarm_service("shop", &labels, desired, &[(ONE, up)])];
    let ingress = Ingress::start(tasks(1, true)).await;
    is_slow.store(true, SeqCst);
    let before = leaving.accepted();
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    eventually("it is dialled", || leaving.accepted() > before).await;
    ingress.announce(tasks(1, false)).await;
    let endpoint = ingress.endpoint(leaving.address).unwrap();
    eventually("its end is near", || endpoint.health.is_about_to_end(clock::now())).await;
    assert_eq!(ingress.upstream("shop").waiting.load(Relaxed), 0);
    greets.notify_waiters();
    waiting(&ingress, 1).await;
}

#[tokio::test]
async fn a_replica_that_leaves_gets_nothing_while_there_is_another() {
    let leaving = Origin::named("leaving").await;
    let port = leaving.address.port();
    let two = Ipv4Addr::new(127, 0, 0, 2);
    let staying = Origin::named_at("staying", (two, port).into()).await;
    let ingress = Ingress::start(tasks(port, 2, &[(ONE, true), (two, true)])).await;
    ingress.announce(tasks(port, 1, &[(ONE, false), (two, true)])).await;
    eventually("it drains", || ingress.state(leaving.address) == "draining").await;
    let before = leaving.requests().len();
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 staying: GET /").await;
    }
    assert_eq!(leaving.requests().len(), before);
    drop(staying);
    // The other one has died: better one that leaves than none.
    check(&ingress, "a", "/", "200 leaving: GET /").await;
}

#[tokio::test]
async fn a_task_that_is_replaced_at_the_same_address_begins_anew() {
    let shop = Origin::named("shop").await;
    let port = shop.address.port();
    let [first] = tasks(port, 1, &[(ONE, true)]);
    let mut second = first.clone();
    if let hiveway::inventory::Replicas::Tasks { tasks, .. } = &mut second.replicas {
        tasks[0].id = "another".into();
    }
    let ingress = Ingress::start([first]).await;
    let before = ingress.endpoint(shop.address).unwrap().id;
    ingress.announce([second]).await;
    let id = || ingress.endpoint(shop.address).map(|endpoint| endpoint.id);
    eventually("it is another endpoint", || id().is_some_and(|id| id != before)).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
}
