//! Whether an endpoint has just stopped answering.
//!
//! A replica whose node is lost swallows requests without a word, and TCP says so seconds later. Until
//! then it is as little loaded as one that answers between any two requests. So one that has been
//! asked, and has answered nobody for a tenth of a second, weighs more: others are preferred while
//! they have no more to do than usual. Those that are just slow are all alike, and lose nothing by it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::timestamp::Timestamp;

/// As many requests as an endpoint seems to have more while it is silent.
pub const WEIGHT: usize = 2;

/// How long nobody must have been answered. By the end TCP has broken the connection of a lost node
/// (RFC 5482), and who is silent for longer has a long poll.
const SILENT: Range<Duration> = Duration::from_millis(100)..Duration::from_millis(2500);

/// What is asked of one endpoint and not answered by a head.
#[derive(Debug, Default)]
pub struct Silence {
    unanswered: AtomicUsize,
    /// In microseconds: since when, or the last answer after that.
    since: AtomicU64,
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
        self.since.store(now.as_micros(), Relaxed);
        self.given_up();
    }

    /// Nobody waits for the answer of one of the requests any more.
    pub fn given_up(&self) {
        self.unanswered.fetch_sub(1, Relaxed);
    }

    /// Whether it keeps all of its requests waiting, and not by habit.
    pub fn is_kept(&self, now: Timestamp) -> bool {
        let since = || Timestamp::from_micros(self.since.load(Relaxed));
        self.unanswered.load(Relaxed) > 0 && SILENT.contains(&now.since(since()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_asked_and_answers_nobody_is_silent_from_a_tenth_of_a_second_on() {
        let silence = Silence::default();
        let at = |millis: u64| Timestamp::from_micros(5_000_000 + millis * 1000);
        assert!(!silence.is_kept(at(0)), "nobody has asked");
        silence.asked(at(0));
        silence.asked(at(90));
        let silent = |times: [u64; 4]| times.map(|millis| silence.is_kept(at(millis)));
        assert_eq!(silent([99, 100, 2499, 2500]), [false, true, true, false]);
        silence.answered(at(150));
        assert_eq!(silent([151, 249, 250, 2649]), [false, false, true, true]);
        silence.given_up();
        assert_eq!(silent([250, 300, 400, 500]), [false; 4], "nobody waits");
        silence.asked(at(5000));
        assert_eq!(silent([5000, 5099, 5100, 7500]), [false, false, true, false]);
    }
}
