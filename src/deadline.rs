//! Time limits without a timer per request.
//!
//! Each core has one tick every 100 ms that looks at all limits in force there. Setting a limit is
//! then one store, where a timer of the runtime would take a lock twice. Limits are kept to a tenth
//! of a second or two, which is enough for those that are counted in seconds.
//!
//! The same tick sees to it that clients keep up the least rate: a request says when it waits for
//! its client and how much has moved, in a store each, and the tick keeps the client's credit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::progress::Rate;
use crate::timestamp::Timestamp;
use crate::turn::{Kind, wake_in_turn};

/// How exactly limits are kept.
const TICK: Duration = Duration::from_millis(100);

/// A tick that is later than this means that the core stood still: too much to do at once, or a
/// machine that gave it no time.
const STANDSTILL: Duration = Duration::from_millis(250);

/// No limit is in force.
const NEVER: u64 = u64::MAX;

/// All limits of one core.
#[derive(Debug)]
pub struct Deadlines {
    /// The time of the last tick, in microseconds.
    ticked: AtomicU64,
    /// The time of the last tick that came too late, likewise.
    stood_still: AtomicU64,
    limits: Mutex<Vec<Weak<Limit>>>,
    /// What clients must keep up; none if they may be as slow as they like.
    rate: Option<Rate>,
}

#[derive(Debug)]
struct Limit {
    at: AtomicU64,
    waker: AtomicWaker,
    /// Whether nothing but the client keeps the request from going on.
    awaits_client: AtomicBool,
    /// Whether the client's socket takes no more for now.
    full: AtomicBool,
    /// Bytes to or from the client since the last tick.
    moved: AtomicU64,
    /// Microseconds that the client may still keep us waiting.
    credit: AtomicU64,
}

/// One limit, set again and again for one step after the other. Whoever polls it is woken when its
/// time has come; there is room for one waiting task.
#[derive(Clone, Debug)]
pub struct Deadline {
    limit: Arc<Limit>,
    deadlines: Arc<Deadlines>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Deadlines {
    /// No limits yet; clients must keep up that rate, if there is one.
    pub fn new(rate: Option<Rate>) -> Self {
        // What is set before the first tick counts from now, too.
        let ticked = AtomicU64::new(clock::now().as_micros());
        Self { ticked, stood_still: AtomicU64::new(0), limits: Mutex::default(), rate }
    }

    /// Ticks for as long as the runtime lives.
    pub async fn tick(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Each of a thousand connections that end takes a while to close.
            for limit in self.take_expired(clock::now()) {
                if let Some(waker) = limit.waker.take() {
                    wake_in_turn(Kind::End, waker);
                }
            }
        }
    }

    /// Lets time pass, and returns the limits that are over.
    fn take_expired(&self, now: Timestamp) -> Vec<Arc<Limit>> {
        if now.since(self.ticked()) > TICK + STANDSTILL {
            self.stood_still.store(now.as_micros(), Relaxed);
        }
        // By how much the tick itself was late, no client was.
        let waited = now.since(self.ticked()).min(TICK);
        self.ticked.store(now.as_micros(), Relaxed);
        let mut expired = Vec::new();
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|limit| {
            let Some(limit) = limit.upgrade() else {
                return false;
            };
            if let Some(rate) = self.rate {
                limit.keep_account(rate, waited);
            }
            if limit.at.load(Relaxed) <= now.as_micros() || limit.is_used_up() {
                expired.push(limit);
            }
            true
        });
        expired
    }

    /// Wakes whoever waits, to look at something else than the time.
    pub fn wake_all(&self) {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.iter().filter_map(Weak::upgrade).for_each(|limit| limit.waker.wake());
    }

    /// The time of the last tick: at most a tenth of a second old, and free to read.
    pub fn ticked(&self) -> Timestamp {
        Timestamp::from_micros(self.ticked.load(Relaxed))
    }

    /// Whether the core stood still at some time since then. What broke meanwhile, or took too long,
    /// may be its own fault.
    pub fn stood_still_since(&self, earlier: Timestamp, now: Timestamp) -> bool {
        self.stood_still.load(Relaxed) >= earlier.as_micros()
            || now.since(self.ticked()) > TICK + STANDSTILL
    }

    /// A limit of this core, not yet in force.
    pub fn add(self: &Arc<Self>) -> Deadline {
        let limit = Arc::new(Limit {
            at: AtomicU64::new(NEVER),
            waker: AtomicWaker::new(),
            awaits_client: AtomicBool::new(false),
            full: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            credit: AtomicU64::new(NEVER),
        });
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.push(Arc::downgrade(&limit));
        Deadline { limit, deadlines: Arc::clone(self) }
    }
}

impl Limit {
    fn keep_account(&self, rate: Rate, waited: Duration) {
        let moved = self.moved.swap(0, Relaxed);
        let waited = if self.awaits_client.load(Relaxed) { waited } else { Duration::ZERO };
        if moved > 0 || !waited.is_zero() {
            let credit = Duration::from_micros(self.credit.load(Relaxed));
            let credit = rate.credit_after(credit, waited, moved);
            self.credit.store(u64::try_from(credit.as_micros()).unwrap_or(NEVER), Relaxed);
        }
    }

    fn is_used_up(&self) -> bool {
        self.credit.load(Relaxed) == 0 && self.awaits_client.load(Relaxed)
    }
}

impl Deadline {
    /// Puts the limit in force, counted from now; none takes it out of force.
    pub fn set(&self, after: Option<Duration>) {
        let at = after.map_or(NEVER, |after| (self.deadlines.ticked() + after + TICK).as_micros());
        self.limit.at.store(at, Relaxed);
    }

    /// Lets the limit pass so soon, unless it passes before anyway.
    pub fn bring_forward(&self, after: Duration) {
        let at = (self.deadlines.ticked() + after + TICK).as_micros();
        self.limit.at.fetch_min(at, Relaxed);
    }

    /// The time of the core's last tick.
    pub fn ticked(&self) -> Timestamp {
        self.deadlines.ticked()
    }

    /// Whether its time has come, or comes within a tick: before whoever polls it is told.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now + TICK >= Timestamp::from_micros(self.limit.at.load(Relaxed))
    }

    /// Ready when the time has come. Until then the task is woken for it.
    pub fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        self.limit.waker.register(cx.waker());
        if self.limit.at.load(Relaxed) <= self.deadlines.ticked.load(Relaxed) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The same, and ready also when the client has been too slow.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let passed = self.poll_passed(cx);
        if self.is_used_up() { Poll::Ready(()) } else { passed }
    }

    /// Whether the client is waited for, and has no credit left.
    pub fn is_used_up(&self) -> bool {
        self.limit.is_used_up()
    }

    /// A body begins, of a request or of a response: its client has all its credit again.
    pub fn grant(&self) {
        let grace = self
            .deadlines
            .rate
            .map_or(NEVER, |rate| u64::try_from(rate.grace.as_micros()).unwrap_or(NEVER));
        self.limit.moved.store(0, Relaxed);
        self.limit.credit.store(grace, Relaxed);
    }

    /// Says whether nothing but the client keeps the body from going on: it has sent nothing that
    /// could go further, or has not taken what it was offered.
    pub fn await_client(&self, awaits: bool) {
        self.limit.awaits_client.store(awaits, Relaxed);
    }

    /// The client's socket takes no more for now: it is the client that is waited for.
    pub fn filled(&self) {
        self.limit.full.store(true, Relaxed);
        self.await_client(true);
    }

    /// All that was written is on its way. Returns whether the socket was full before.
    pub fn emptied(&self) -> bool {
        let was_full = self.is_full();
        if was_full {
            self.limit.full.store(false, Relaxed);
            self.await_client(false);
        }
        was_full
    }

    /// Whether the client's socket takes no more for now.
    pub fn is_full(&self) -> bool {
        self.limit.full.load(Relaxed)
    }

    /// So many bytes have come from the client, or gone its way.
    pub fn moved(&self, bytes: usize) {
        // One core writes, so this needs no atomic addition.
        let moved = self.limit.moved.load(Relaxed).saturating_add(bytes as u64);
        self.limit.moved.store(moved, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_passes_in_its_time_and_not_before() {
        let deadlines = Arc::new(Deadlines::default());
        tokio::spawn(Arc::clone(&deadlines).tick());
        let deadline = deadlines.add();
        let start = clock::now();

        deadline.set(Some(Duration::from_secs(3)));
        std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;

        let took = clock::now().since(start);
        assert!(took >= Duration::from_secs(3), "{took:?}");
        assert!(took <= Duration::from_millis(3300), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_set_again_counts_anew_and_none_never_passes() {
        let deadlines = Arc::new(Deadlines::default());
        tokio::spawn(Arc::clone(&deadlines).tick());
        let deadline = deadlines.add();
        for _ in 0..5 {
            deadline.set(Some(Duration::from_secs(2)));
            let passed = std::future::poll_fn(|cx| deadline.poll_passed(cx));
            assert!(tokio::time::timeout(Duration::from_secs(1), passed).await.is_err());
        }
        deadline.set(None);
        let passed = std::future::poll_fn(|cx| deadline.poll_passed(cx));
        assert!(tokio::time::timeout(Duration::from_hours(24), passed).await.is_err());
    }

    #[test]
    fn a_tick_that_comes_too_late_is_a_standstill_until_then() {
        let deadlines = Deadlines::default();
        let start = deadlines.ticked();
        let after = |millis| start + Duration::from_millis(millis);
        deadlines.take_expired(after(200));
        assert!(!deadlines.stood_still_since(start, after(200)));
        assert!(deadlines.stood_still_since(after(150), after(800)), "its tick is still to come");
        deadlines.take_expired(after(800));
        deadlines.take_expired(after(900));
        assert!(deadlines.stood_still_since(after(700), after(900)));
        assert!(!deadlines.stood_still_since(after(801), after(900)));
    }

    #[test]
    fn a_limit_that_nobody_holds_is_forgotten() {
        let deadlines = Arc::new(Deadlines::default());
        let kept = deadlines.add();
        drop(deadlines.add());
        deadlines.take_expired(Timestamp::START);
        assert_eq!(deadlines.limits.lock().unwrap().len(), 1);
        drop(kept);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_too_slow_only_while_it_is_waited_for() {
        let rate = Rate { bytes_per_second: 1000, grace: Duration::from_secs(2) };
        let deadlines = Arc::new(Deadlines::new(Some(rate)));
        tokio::spawn(Arc::clone(&deadlines).tick());
        let deadline = deadlines.add();
        let within = async |time| {
            let over = std::future::poll_fn(|cx| deadline.poll_over(cx));
            tokio::time::timeout(time, over).await.is_ok()
        };
        deadline.grant();
        assert!(!within(Duration::from_mins(1)).await, "nobody waits for it");
        deadline.await_client(true);
        for _ in 0..10 {
            assert!(!within(Duration::from_millis(800)).await, "it is as fast as it must be");
            deadline.moved(1000);
        }
        assert!(within(Duration::from_millis(2300)).await);
        deadline.grant();
        assert!(!within(Duration::from_millis(1800)).await, "another body begins");
    }
}
