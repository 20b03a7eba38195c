//! Failures that no replica is better for being left out for: nobody is, and they lead to no more work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use futures_util::future::join_all;
use hiveway::clock;

use crate::support::{Ingress, Origin, Wire, eventually, get, service};

/// None of them comes to its end.
const BODIES: [&str; 4] = [
    "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nnonsense\r\n",
    "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nffffffffffffffffff\r\n",
    "Transfer-Encoding: chunked\r\n\r\n6\r\nhi",
    "Content-Length: 6\r\n\r\nhi",
];

/// What three replicas share: whether all is well, and how often they were asked.
#[derive(Default)]
struct Shared {
    well: AtomicBool,
    asked: AtomicUsize,
}

/// Three replicas that answer `/good` well, and all else only while all is well: else by 503.
async fn three(shared: &Arc<Shared>) -> [Origin; 3] {
    let one = || {
        let shared = Arc::clone(shared);
        Origin::scripted(move |mut wire| {
            let shared = Arc::clone(&shared);
            async move {
                while let Some(head) = wire.next_head().await {
                    shared.asked.fetch_add(1, SeqCst);
                    wire.body(&head).await;
                    let good = shared.well.load(SeqCst) || head.starts_with("GET /good ");
                    let answer = if good { "200 OK" } else { "503 Busy" };
                    wire.write(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")).await;
                }
            }
        })
    };
    [one().await, one().await, one().await]
}

async fn before(replicas: &[Origin; 3], labels: &str) -> Ingress {
    let addresses = replicas.each_ref().map(|replica| replica.address);
    Ingress::start([service("shop", labels, &addresses)]).await
}

/// Every replica takes requests, and none has been left out meanwhile.
fn assert_none_was_left_out(ingress: &Ingress, replicas: &[Origin; 3]) {
    for replica in replicas {
        let endpoint = ingress.endpoint(replica.address).unwrap();
        let ejections = endpoint.counters.each().map(|cell| cell.ejections.iter().count());
        let ejections: usize = ejections.sum();
        assert_eq!((ingress.state(replica.address), ejections), ("healthy", 0));
    }
}

#[tokio::test]
async fn a_path_that_always_answers_503_costs_no_replica() {
    let shared = Arc::<Shared>::default();
    let replicas = three(&shared).await;
    let ingress = before(&replicas, "hiveway.path=/").await;
    // Alone, as somebody who means harm would ask, and among others.
    for _ in 0..300 {
        assert_eq!(get(&ingress, "a", "/bad").await.status(), 503);
    }
    for _ in 0..300 {
        assert_eq!(get(&ingress, "a", "/bad").await.status(), 503);
        assert_eq!(get(&ingress, "a", "/good").await.status(), 200);
    }
    assert_none_was_left_out(&ingress, &replicas);
    assert_eq!(shared.asked.load(SeqCst), 900);
}

#[tokio::test]
async fn clients_that_send_broken_bodies_cost_no_replica_and_no_further_try() {
    let shared = Arc::<Shared>::default();
    shared.well.store(true, SeqCst);
    let replicas = three(&shared).await;
    let labels = "hiveway.eject.consecutive=1 hiveway.retry.on=reset,502,503,504,timeout";
    let ingress = before(&replicas, labels).await;
    for round in 0..40 {
        for (body, method) in BODIES.iter().zip(["POST", "PUT", "POST", "PUT"]) {
            let mut client = Wire::to(ingress.address).await;
            client.write(format!("{method} / HTTP/1.1\r\nHost: a\r\n{body}")).await;
            if round % 2 == 0 { client.reset() } else { client.finish().await }
        }
    }
    let seen = || ingress.counted(400) + ingress.counted(499) == 160;
    eventually("all of them were counted", seen).await;
    assert_none_was_left_out(&ingress, &replicas);
    assert!(shared.asked.load(SeqCst) <= 160, "{} tries", shared.asked.load(SeqCst));
    assert_eq!(get(&ingress, "a", "/").await.status(), 200);
}

#[tokio::test]
async fn when_all_replicas_fail_they_get_a_fifth_more_and_serve_at_once_when_they_are_well() {
    const REQUESTS: usize = 1000;
    let shared = Arc::<Shared>::default();
    let replicas = three(&shared).await;
    let ingress = before(&replicas, "hiveway.retry.on=503 hiveway.retry.attempts=5").await;
    let started = clock::now();
    for _ in 0..REQUESTS / 20 {
        let replies = join_all((0..20).map(|_| get(&ingress, "a", "/"))).await;
        assert!(replies.iter().all(|reply| reply.status() == 503));
    }
    let seconds = usize::try_from(clock::now().since(started).as_secs()).unwrap() + 1;
    let asked = shared.asked.load(SeqCst);
    // The floor is ten a second, and ten more at the beginning.
    let most = REQUESTS + REQUESTS / 5 + 10 + 10 * seconds;
    assert!((REQUESTS..=most).contains(&asked), "{asked} tries of {REQUESTS} in {seconds} s");
    assert_none_was_left_out(&ingress, &replicas);

    shared.well.store(true, SeqCst);
    let replies = join_all((0..60).map(|_| get(&ingress, "a", "/"))).await;
    assert!(replies.iter().all(|reply| reply.status() == 200));
    assert_eq!(shared.asked.load(SeqCst), asked + 60);
}
