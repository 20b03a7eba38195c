//! How much new and slow replicas get.

#![expect(clippy::print_stdout, reason = "the shares are figures that somebody may want to read")]

use std::net::SocketAddr;
use std::time::Duration;

use hiveway::timestamp::Timestamp;
use tokio::task::JoinSet;

use super::*;
use crate::support::{Wire, get};

#[tokio::test]
async fn a_new_replica_gets_a_part_of_its_share_beside_an_old_one() {
    let [one, two, three] = three().await;
    for (slow_start, within) in [("1h", 1..=45), ("0s", 70..=130)] {
        let labels = format!("hiveway.slow-start={slow_start}");
        let shop = |replicas: &[_]| [service("shop", &labels, replicas)];
        let ingress = Ingress::start(shop(&[one.address, two.address])).await;
        for old in [&one, &two] {
            ingress.endpoint(old.address).unwrap().begins(Timestamp::START);
        }
        ingress.deploy(shop(&[one.address, two.address, three.address])).await;
        let before = three.requests().len();
        for _ in 0..300 {
            assert_eq!(get(&ingress, "a", "/").await.status(), 200);
        }
        let taken = three.requests().len() - before;
        println!("slow-start={slow_start}: {taken} of 300 to one of three replicas");
        assert!(within.contains(&taken), "{taken} of 300 with {slow_start}");
    }
}

/// A replica that thinks about each request for that long.
async fn thinking(time: Duration) -> Origin {
    Origin::scripted(move |mut wire| async move {
        while wire.next_head().await.is_some() {
            tokio::time::sleep(time).await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await
}

/// How many of some requests, from eight clients at once, a replica has that is 20 times slower than
/// the two others; and of how many.
async fn slow_ones_share(balance: &str) -> (u64, u64) {
    let slow = thinking(Duration::from_millis(100)).await;
    let quick =
        [thinking(Duration::from_millis(5)).await, thinking(Duration::from_millis(5)).await];
    let replicas = [slow.address, quick[0].address, quick[1].address];
    let labels = format!("hiveway.balance={balance}");
    let ingress = Ingress::start([service("shop", &labels, &replicas)]).await;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let address = ingress.address;
        clients.spawn(async move {
            let mut wire = Wire::to(address).await;
            for _ in 0..60 {
                wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                assert_eq!(wire.reply().await.to_string(), "200 ok");
            }
        });
    }
    clients.join_all().await;
    let of = |at: SocketAddr| ingress.outcomes(at, "ok");
    (of(slow.address), replicas.into_iter().map(of).sum())
}

#[tokio::test]
async fn a_slow_replica_gets_less_by_its_time_than_by_its_load() {
    let (least, all) = slow_ones_share("least-request").await;
    let (ewma, _) = slow_ones_share("ewma").await;
    println!("20 times slower: {least} of {all} by load, {ewma} by time");
    assert!(ewma > 0 && ewma * 4 < least * 3, "{least} of {all} by load, {ewma} by time");
}
