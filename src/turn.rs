//! How long one task keeps its core before others have their turn.
//!
//! The runtime gives its tasks their turns one after the other, however much each of them does. So what
//! has done much without waiting for anybody queues up here for its next turn, and of this queue the core
//! serves one at a time between all that it does for others: a request waits for one such turn, and not
//! for those of a thousand large responses or of a flood of tiny frames.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::yield_now;

thread_local! {
    static QUEUES: RefCell<Queues> = RefCell::default();
}

/// What one connection does until it has to queue up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    spent: usize,
}

/// What those do who queue up. Each kind has a queue of its own: that many large responses are under way is
/// no reason for others to end late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begin, as one of many requests that came together.
    Begin,
    /// Go on with what is large.
    Bulk,
    /// End because time is over.
    End,
}

/// Of one core.
#[derive(Debug, Default)]
struct Queues {
    begins: Arc<Queue>,
    bulk: Arc<Queue>,
    ends: Arc<Queue>,
}

/// Those who wait for their next turn.
#[derive(Debug, Default)]
struct Queue {
    /// None while nobody sees to it that they have one.
    waiting: Mutex<Option<VecDeque<Waker>>>,
}

impl Turn {
    /// What may be done before others have their turn. A step takes about a microsecond.
    pub const STEPS: usize = 64;
    /// What is read and passed on in one step.
    const BYTES_OF_A_STEP: usize = 1 << 10;
    /// What a message may do of its first turn: 16 KiB and its head. Of a thousand that begin together all
    /// have this one, and nobody knows yet which are large.
    const FIRST: usize = 20;

    /// It has done that much.
    pub fn spend(&mut self, steps: usize) {
        self.spent = self.spent.saturating_add(steps);
    }

    /// It has passed on that many bytes.
    pub fn moved(&mut self, bytes: usize) {
        self.spend(bytes / Self::BYTES_OF_A_STEP);
    }

    /// A message begins.
    pub fn first() -> Self {
        Self { spent: Self::STEPS - Self::FIRST }
    }

    /// Bytes that may still be passed on before others have their turn.
    pub fn bytes_left(&self) -> usize {
        Self::STEPS.saturating_sub(self.spent).saturating_mul(Self::BYTES_OF_A_STEP)
    }

    /// It has had to wait for somebody, and may do as much again.
    pub fn begin(&mut self) {
        self.spent = 0;
    }

    /// Ready while it may go on. Once it has done its part the task is queued for its next turn.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.spent < Self::STEPS {
            return Poll::Ready(());
        }
        self.spent = 0;
        wake_in_turn(Kind::Bulk, cx.waker().clone());
        Poll::Pending
    }
}

impl Kind {
    /// How many have a turn at once. What begins is small, and a turn of all others may cost as much.
    const fn at_once(self) -> usize {
        match self {
            Self::Begin => 4,
            Self::Bulk | Self::End => 1,
        }
    }
}

/// Wakes that task once those of its kind before it have had their turn.
///
/// # Panics
/// Outside of a runtime.
pub fn wake_in_turn(kind: Kind, waker: Waker) {
    let queue = QUEUES.with_borrow(|queues| Arc::clone(queues.of(kind)));
    if queue.push(waker) {
        tokio::spawn(async move {
            while let Some(next) = queue.pop() {
                next.wake();
                let others = std::iter::from_fn(|| queue.pop_more());
                others.take(kind.at_once().saturating_sub(1)).for_each(Waker::wake);
                // The runtime lets everybody else have a turn, and looks at its sockets, before it goes on.
                yield_now().await;
            }
        });
    }
}

impl Queues {
    fn of(&self, kind: Kind) -> &Arc<Queue> {
        match kind {
            Kind::Begin => &self.begins,
            Kind::Bulk => &self.bulk,
            Kind::End => &self.ends,
        }
    }
}

impl Queue {
    /// Whether somebody has to begin to serve it.
    fn push(&self, waker: Waker) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = waiting.is_none();
        waiting.get_or_insert_default().push_back(waker);
        begins
    }

    /// The next one; if there is none, nobody sees to it any longer.
    fn pop(&self) -> Option<Waker> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *waiting = None;
        }
        next
    }

    /// The next one, if there is one.
    fn pop_more(&self) -> Option<Waker> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Does so many turns' worth of work, and counts each.
    async fn work(turns: usize, done: &AtomicUsize) {
        let mut turn = Turn::default();
        for _ in 0..turns {
            poll_fn(|cx| turn.poll(cx)).await;
            turn.spend(Turn::STEPS);
            done.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn of_those_who_do_much_one_has_its_turn_between_two_of_another() {
        let done = Arc::new(AtomicUsize::new(0));
        let busy = (0..100).map(|_| {
            let done = Arc::clone(&done);
            tokio::spawn(async move { work(3, &done).await })
        });
        let busy: Vec<_> = busy.collect();
        // Nobody knows in their first turns that they do much.
        while done.load(Relaxed) < 100 {
            yield_now().await;
        }
        let before = done.load(Relaxed);
        for turns in 1..=50 {
            yield_now().await;
            assert!(done.load(Relaxed) <= before + turns, "{done:?} after {turns} turns");
        }
        for task in busy {
            task.await.unwrap();
        }
        assert_eq!(done.load(Relaxed), 300);
    }

    #[tokio::test]
    async fn a_turn_that_has_begun_anew_lasts_as_long_as_the_first() {
        let mut turn = Turn::default();
        turn.spend(Turn::STEPS - 1);
        poll_fn(|cx| turn.poll(cx)).await;
        turn.begin();
        turn.spend(Turn::STEPS - 1);
        assert!(futures_util::poll!(poll_fn(|cx| turn.poll(cx))).is_ready());
        turn.spend(1);
        assert!(futures_util::poll!(poll_fn(|cx| turn.poll(cx))).is_pending());
    }

    #[tokio::test]
    async fn who_has_left_the_queue_keeps_nobody_waiting() {
        let done = AtomicUsize::new(0);
        for _ in 0..10 {
            let mut leaves = Box::pin(work(2, &done));
            assert!(futures_util::poll!(&mut leaves).is_pending());
        }
        work(3, &done).await;
        assert_eq!(done.load(Relaxed), 13);
    }
}
