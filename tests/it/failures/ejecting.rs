//! Replicas that answer, but badly, are left out for a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::support::{Ingress, Origin, Wire, check, eventually, get, service};

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

#[tokio::test]
async fn a_replica_that_answers_503_five_times_in_a_row_is_left_out() {
    let bad = Origin::answering(BUSY).await;
    let good = Origin::named("good").await;
    let replicas = [bad.address, good.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    let mut failed = 0;
    while ingress.state(bad.address) == "healthy" {
        failed += usize::from(get(&ingress, "a", "/").await.status() == 503);
    }
    // More only if chance sends the first five requests to nobody else.
    assert!((5..12).contains(&failed), "{failed}");
    assert_eq!(ingress.state(bad.address), "ejected");
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 good: GET /").await;
    }
}

const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";

/// A replica each of whose answers breaks off.
async fn breaking() -> Origin {
    Origin::scripted(|mut wire| async move {
        wire.next_head().await;
        wire.write(CUT).await;
    })
    .await
}

/// Whether the answer breaks off, be it before its head has gone out or after.
async fn breaks_off(ingress: &Ingress) -> bool {
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("good: GET /").await.is_none()
}

#[tokio::test]
async fn a_replica_whose_answers_break_off_is_left_out_and_a_head_alone_does_not_bring_it_back() {
    let (bad, good) = (breaking().await, Origin::named("good").await);
    let replicas = [bad.address, good.address];
    let labels = "hiveway.balance=round-robin hiveway.eject.base=300ms";
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    let broken = async || {
        let mut broken = 0;
        while ingress.state(bad.address) != "ejected" {
            broken += usize::from(breaks_off(&ingress).await);
        }
        broken
    };
    assert_eq!(broken().await, 5);
    eventually("its time is over", || ingress.state(bad.address) == "probation").await;
    assert_eq!(broken().await, 1, "one failure is enough for the next time");
}

#[tokio::test]
async fn answers_that_break_off_everywhere_cost_no_replica() {
    let (one, two) = (breaking().await, breaking().await);
    let replicas = [one.address, two.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    for _ in 0..10 {
        let broken = join_all((0..20).map(|_| breaks_off(&ingress))).await;
        assert!(broken.into_iter().all(|breaks_off| breaks_off));
    }
    assert_eq!(replicas.map(|replica| ingress.state(replica)), ["healthy", "healthy"]);
}

#[tokio::test]
async fn the_last_replica_is_not_left_out_however_it_answers() {
    let bad = Origin::answering(BUSY).await;
    let ingress = Ingress::before(bad.address).await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "503 busy").await;
    }
    assert_eq!(ingress.state(bad.address), "healthy");
}

#[tokio::test]
async fn when_all_replicas_fail_none_is_left_out() {
    let (one, two) = (Origin::answering(BUSY).await, Origin::answering(BUSY).await);
    let replicas = [one.address, two.address];
    let ingress = Ingress::start([service("shop", "hiveway.path=/", &replicas)]).await;
    for _ in 0..100 {
        check(&ingress, "a", "/", "503 busy").await;
    }
    assert_eq!(replicas.map(|replica| ingress.state(replica)), ["healthy", "healthy"]);
}

/// A replica that can be told how to answer, and counts what it is asked.
struct Moody {
    origin: Origin,
    mood: Arc<Mood>,
}

struct Mood {
    fails: AtomicBool,
    asked: AtomicUsize,
    /// Whether each answer takes one of these permits.
    waits: AtomicBool,
    permits: Semaphore,
}

impl std::ops::Deref for Moody {
    type Target = Mood;

    fn deref(&self) -> &Mood {
        &self.mood
    }
}

impl Moody {
    async fn failing() -> Self {
        let mood = Arc::new(Mood {
            fails: AtomicBool::new(true),
            asked: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            permits: Semaphore::new(0),
        });
        let shared = Arc::clone(&mood);
        let origin = Origin::scripted(move |mut wire| {
            let mood = Arc::clone(&shared);
            async move {
                while wire.next_head().await.is_some() {
                    mood.asked.fetch_add(1, SeqCst);
                    let answer = if mood.fails.load(SeqCst) { "503 Busy" } else { "200 OK" };
                    if mood.waits.load(SeqCst) {
                        mood.permits.acquire().await.unwrap().forget();
                    }
                    wire.write(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")).await;
                }
            }
        })
        .await;
        Self { origin, mood }
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

/// An edge before one replica that can be told how to answer and a good one, which it leaves out for
/// so long after two failures.
async fn before_moody(moody: &Moody, good: &Origin, base: &str) -> Ingress {
    let labels = format!(
        "hiveway.balance=round-robin hiveway.eject.consecutive=2 hiveway.eject.base={base}"
    );
    let replicas = [moody.origin.address, good.address];
    Ingress::start([service("shop", &labels, &replicas)]).await
}

/// Asks until the replica is left out.
async fn ask_until_ejected(ingress: &Ingress, moody: &Moody) {
    while ingress.state(moody.origin.address) != "ejected" {
        get(ingress, "a", "/").await;
    }
}

#[tokio::test]
async fn after_its_time_a_replica_is_asked_again_and_forgiven() {
    let (moody, good) = (Moody::failing().await, Origin::named("good").await);
    let ingress = before_moody(&moody, &good, "300ms").await;
    ask_until_ejected(&ingress, &moody).await;
    moody.fails.store(false, SeqCst);
    let state = || ingress.state(moody.origin.address);
    eventually("its time is over", || state() == "probation").await;
    let before = moody.asked();
    while moody.asked() == before {
        assert_eq!(get(&ingress, "a", "/").await.status(), 200);
    }
    assert_eq!(state(), "healthy");
}

#[tokio::test]
async fn after_its_time_one_request_at_a_time_tries_a_replica_until_one_succeeds() {
    let (moody, good) = (Moody::failing().await, Origin::named("good").await);
    let ingress = before_moody(&moody, &good, "300ms").await;
    ask_until_ejected(&ingress, &moody).await;
    moody.waits.store(true, SeqCst);
    let state = || ingress.state(moody.origin.address);
    eventually("its time is over", || state() == "probation").await;
    let (before, served) = (moody.asked(), good.requests().len());
    let crowd = join_all((0..50).map(|_| get(&ingress, "a", "/")));
    let (replies, ()) = tokio::join!(crowd, async {
        eventually("somebody tries it", || moody.asked() > before).await;
        eventually("the others are served", || good.requests().len() >= served + 49).await;
        assert_eq!(moody.asked(), before + 1);
        moody.permits.add_permits(1);
    });
    let failed = replies.iter().filter(|reply| reply.status() == 503).count();
    assert_eq!((failed, state()), (1, "ejected"), "one failure is enough for the next time");
    moody.fails.store(false, SeqCst);
    moody.permits.add_permits(100);
    eventually("its time is over again", || state() == "probation").await;
    while state() != "healthy" {
        assert_eq!(get(&ingress, "a", "/").await.status(), 200);
    }
}

#[tokio::test]
async fn a_late_answer_to_a_request_from_before_does_not_bring_a_replica_back() {
    let (moody, good) = (Moody::failing().await, Origin::named("good").await);
    let ingress = before_moody(&moody, &good, "1m").await;
    moody.fails.store(false, SeqCst);
    moody.waits.store(true, SeqCst);
    let before = good.requests().len();
    let late = join_all((0..20).map(|_| get(&ingress, "a", "/")));
    let ((), replies) = tokio::join!(
        async {
            let all = || moody.asked() + good.requests().len() - before >= 20;
            eventually("half of them are under way", all).await;
            moody.fails.store(true, SeqCst);
            moody.waits.store(false, SeqCst);
            ask_until_ejected(&ingress, &moody).await;
            moody.permits.add_permits(100);
        },
        late
    );
    assert!(replies.iter().all(|reply| reply.status() == 200));
    assert_eq!(ingress.state(moody.origin.address), "ejected");
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
