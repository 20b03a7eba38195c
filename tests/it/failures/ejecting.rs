//! Replicas that answer, but badly, are left out for a time.

use crate::support::{Ingress, Origin, check, eventually, get, service};

#[tokio::test]
async fn a_replica_that_answers_503_five_times_in_a_row_is_left_out() {
    let bad = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
    let good = Origin::named("good").await;
    let replicas = [bad.address, good.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    let mut failed = 0;
    while ingress.state(bad.address) == "healthy" {
        failed += usize::from(get(&ingress, "a", "/").await.status() == 503);
    }
    assert_eq!((failed, ingress.state(bad.address)), (5, "ejected"));
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 good: GET /").await;
    }
}

#[tokio::test]
async fn the_last_replica_is_not_left_out_however_it_answers() {
    let bad = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
    let ingress = Ingress::before(bad.address).await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "503 busy").await;
    }
    assert_eq!(ingress.state(bad.address), "healthy");
}

#[tokio::test]
async fn after_its_time_a_replica_is_asked_again_and_forgiven() {
    let answers = ["503 Busy\r\nContent-Length: 0", "200 OK\r\nContent-Length: 0"];
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let origin = Origin::scripted(move |mut wire| {
        let count = std::sync::Arc::clone(&count);
        async move {
            while wire.next_head().await.is_some() {
                let before = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let answer = answers[usize::from(before >= 2)];
                wire.write(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
            }
        }
    })
    .await;
    let good = Origin::named("good").await;
    let labels = "hiveway.eject.consecutive=2 hiveway.eject.base=300ms";
    let replicas = [origin.address, good.address];
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    while ingress.state(origin.address) == "healthy" {
        get(&ingress, "a", "/").await;
    }
    assert_eq!(ingress.state(origin.address), "ejected");
    eventually("its time is over", || ingress.state(origin.address) == "healthy").await;
    let before = asked.load(std::sync::atomic::Ordering::SeqCst);
    while asked.load(std::sync::atomic::Ordering::SeqCst) == before {
        assert_eq!(get(&ingress, "a", "/").await.status(), 200);
    }
    assert_eq!(ingress.state(origin.address), "healthy");
}

#[tokio::test]
async fn what_an_application_answers_with_500_or_404_counts_against_nobody() {
    for status in ["500 Oops", "501 No", "404 Not Found", "429 Slow Down"] {
        let one = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let (one, two) = (Origin::answering(&one).await, Origin::named("two").await);
        let labels = "hiveway.eject.consecutive=1";
        let replicas = [one.address, two.address];
        let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
        for _ in 0..10 {
            get(&ingress, "a", "/").await;
        }
        assert_eq!(ingress.state(one.address), "healthy", "{status}");
    }
}
