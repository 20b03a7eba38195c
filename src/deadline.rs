//! Time limits without a timer per request.
//!
//! Each core has one tick every 100 ms that looks at all limits in force there. Setting a limit is
//! then one store, where a timer of the runtime would take a lock twice. Limits are kept to a tenth
//! of a second or two, which is enough for those that are counted in seconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::timestamp::Timestamp;

/// How exactly limits are kept.
const TICK: Duration = Duration::from_millis(100);

/// No limit is in force.
const NEVER: u64 = u64::MAX;

/// All limits of one core.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// The time of the last tick, in microseconds.
    ticked: AtomicU64,
    limits: Mutex<Vec<Weak<Limit>>>,
}

#[derive(Debug)]
struct Limit {
    at: AtomicU64,
    waker: AtomicWaker,
}

/// One limit, set again and again for one step after the other. Whoever polls it is woken when its
/// time has come; there is room for one waiting task.
#[derive(Clone, Debug)]
pub struct Deadline {
    limit: Arc<Limit>,
    deadlines: Arc<Deadlines>,
}

impl Deadlines {
    /// Ticks for as long as the runtime lives.
    pub async fn tick(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.wake_expired(clock::now());
        }
    }

    fn wake_expired(&self, now: Timestamp) {
        self.ticked.store(now.as_micros(), Relaxed);
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|limit| {
            let Some(limit) = limit.upgrade() else {
                return false;
            };
            if limit.at.load(Relaxed) <= now.as_micros() {
                limit.waker.wake();
            }
            true
        });
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

    /// A limit of this core, not yet in force.
    pub fn add(self: &Arc<Self>) -> Deadline {
        let limit = Arc::new(Limit { at: AtomicU64::new(NEVER), waker: AtomicWaker::new() });
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.push(Arc::downgrade(&limit));
        Deadline { limit, deadlines: Arc::clone(self) }
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

    /// Ready when the time has come. Until then the task is woken for it.
    pub fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        self.limit.waker.register(cx.waker());
        if self.limit.at.load(Relaxed) <= self.deadlines.ticked.load(Relaxed) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time stands still from a test's start on, and the clock begins with the first test that reads
    /// it, which may be another one a moment later: time must be beyond that.
    async fn go_on() {
        tokio::time::advance(Duration::from_mins(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_passes_in_its_time_and_not_before() {
        go_on().await;
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
        go_on().await;
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
    fn a_limit_that_nobody_holds_is_forgotten() {
        let deadlines = Arc::new(Deadlines::default());
        let kept = deadlines.add();
        drop(deadlines.add());
        deadlines.wake_expired(Timestamp::START);
        assert_eq!(deadlines.limits.lock().unwrap().len(), 1);
        drop(kept);
    }
}
