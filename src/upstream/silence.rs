//! Whether an endpoint has just stopped answering.
//!
//! A replica whose node is lost swallows requests without a word, and TCP says so seconds later. Until
//! then it is as little loaded as one that answers between any two requests. So one that has been
//! asked, and has answered nobody for much longer than usual, weighs more with time: others are
//! preferred while they have no more to do than usual, even if they hesitate for a moment. Those that
//! are just slow are always so, and lose nothing by it.
//!
//! If the others hesitate just then, it is asked all the same, but not on a connection that it may have lost:
//! a kernel that is there completes the handshake of a new one at once, however busy the replica is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::timestamp::Timestamp;

/// As many requests as an endpoint seems to have more at most. One with a single slow request loses
/// quick ones to others while these have no more than that.
pub const MOST: usize = 4;

/// Each time it has been silent for so many times its usual silence, it weighs one more.
const FACTOR: u64 = 4;
/// The least for that, in microseconds: containers are held up for so long at any time.
const LEAST: u64 = 5_000;
/// Of so many silences the usual one is the mean, the older ones counting less.
const REMEMBERED: u64 = 16;
/// What is usual of an endpoint that has not answered yet, in microseconds.
const UNKNOWN: u64 = 25_000;

/// The end of what can be said: TCP has broken the connections to a lost node by then (RFC 5482), and
/// who is silent for longer has a long poll.
const END: Duration = Duration::from_millis(4500);

/// What is asked of one endpoint and not answered by a head.
#[derive(Debug)]
pub struct Silence {
    unanswered: AtomicUsize,
    /// In microseconds: since when, or the last answer after that.
    since: AtomicU64,
    /// In microseconds: for how long it answered nobody, in the mean.
    usual: AtomicU64,
    /// In microseconds: when its kernel last accepted a connection.
    reached: AtomicU64,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            unanswered: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            usual: UNKNOWN.into(),
            reached: AtomicU64::new(0),
        }
    }
}

impl Silence {
    /// A request was sent. [`Self::answered`] or [`Self::given_up`] is to follow.
    pub fn asked(&self, now: Timestamp) {
        if self.unanswered.fetch_add(1, Relaxed) == 0 {
            self.since.store(now.as_micros(), Relaxed);
        }
    }

    /// One of the requests was answered, well or not.
    pub fn answered(&self, now: Timestamp) {
        // Two cores that answer at once may lose one of the two measurements.
        let lasted = now.as_micros().saturating_sub(self.since.swap(now.as_micros(), Relaxed));
        let usual = self.usual.load(Relaxed);
        let faded = usual.saturating_sub(usual / REMEMBERED);
        self.usual.store(faded.saturating_add(lasted / REMEMBERED), Relaxed);
        self.given_up();
    }

    /// Nobody waits for the answer of one of the requests any more.
    pub fn given_up(&self) {
        self.unanswered.fetch_sub(1, Relaxed);
    }

    /// A connection was made.
    pub fn reached(&self, now: Timestamp) {
        self.reached.store(now.as_micros(), Relaxed);
    }

    /// As many requests as it seems to have more, because it keeps all of its requests waiting.
    pub fn weight(&self, now: Timestamp) -> usize {
        if self.unanswered.load(Relaxed) == 0 {
            return 0;
        }
        let lasts = now.since(Timestamp::from_micros(self.since.load(Relaxed)));
        if lasts >= END {
            return 0;
        }
        let units = u64::try_from(lasts.as_micros()).unwrap_or_default().checked_div(self.unit());
        usize::try_from(units.unwrap_or_default()).unwrap_or_default().min(MOST)
    }

    /// Whether an open connection to it may lead nowhere: it weighs more, and nothing has been heard of
    /// its kernel for as long as one step of that takes.
    pub fn is_doubtful(&self, now: Timestamp) -> bool {
        let unheard = now.since(Timestamp::from_micros(self.reached.load(Relaxed)));
        self.weight(now) > 0 && unheard >= Duration::from_micros(self.unit())
    }

    /// How long a silence makes it weigh one more, in microseconds.
    fn unit(&self) -> u64 {
        self.usual.load(Relaxed).saturating_mul(FACTOR).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(5_000_000 + millis * 1000)
    }

    fn weights<const N: usize>(silence: &Silence, times: [u64; N]) -> [usize; N] {
        times.map(|millis| silence.weight(at(millis)))
    }

    #[test]
    fn who_was_asked_and_answers_nobody_weighs_more_with_time() {
        let silence = Silence::default();
        assert_eq!(silence.weight(at(0)), 0, "nobody has asked");
        silence.asked(at(0));
        silence.asked(at(90));
        assert_eq!(weights(&silence, [99, 100, 399, 400, 4499, 4500]), [0, 1, 3, 4, 4, 0]);
        silence.answered(at(400));
        assert_eq!(weights(&silence, [401, 593, 594]), [0, 0, 1], "it has just answered");
        silence.given_up();
        assert_eq!(weights(&silence, [401, 1000, 2000]), [0; 3], "nobody waits");
        silence.asked(at(5000));
        assert_eq!(weights(&silence, [5000, 5193, 5194, 9500]), [0, 0, 1, 0], "it begins anew");
    }

    #[test]
    fn a_connection_that_is_made_ends_the_doubt_for_a_moment_and_not_the_weight() {
        let silence = Silence::default();
        let doubts = |times: [u64; 4]| times.map(|millis| silence.is_doubtful(at(millis)));
        assert_eq!(doubts([0, 100, 1000, 5000]), [false; 4], "nobody has asked");
        silence.asked(at(0));
        assert_eq!(doubts([0, 99, 100, 4499]), [false, false, true, true]);
        assert!(!silence.is_doubtful(at(4500)), "a long poll, or given up by TCP");
        silence.reached(at(150));
        assert_eq!(doubts([150, 249, 250, 4499]), [false, false, true, true]);
        assert_eq!(weights(&silence, [249, 250]), [2, 2], "the replica itself is silent still");
        silence.answered(at(300));
        assert!(!silence.is_doubtful(at(1000)));
    }

    #[test]
    fn what_is_usual_is_no_silence() {
        let silence = Silence::default();
        let answers = |count: u64, took: u64| {
            for _ in 0..count {
                silence.asked(at(0));
                silence.answered(at(took));
            }
        };
        answers(200, 10);
        silence.asked(at(1000));
        assert_eq!(weights(&silence, [1039, 1041]), [0, 1]);
        silence.given_up();
        answers(1, 74);
        silence.asked(at(1000));
        assert_eq!(weights(&silence, [1055, 1057]), [0, 1], "a long one counts in part");
        silence.given_up();
        answers(200, 1);
        silence.asked(at(1000));
        assert_eq!(weights(&silence, [1004, 1005]), [0, 1], "there is a least one");
        silence.given_up();
        answers(200, 500);
        silence.asked(at(1000));
        assert_eq!(weights(&silence, [2900, 3100]), [0, 1], "of a slow one");
    }
}
