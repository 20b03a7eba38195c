//! Active checks of one endpoint: what has come of them, and when the next one is due.
//!
//! Whoever checks an endpoint has one [`Checks`] and tells it each result; what that means for
//! requests stands in the endpoint's [`Health`]. The first success lets a new endpoint in at once.
//! The first failures keep it out, but for as long only as a whole series of them takes: then it is
//! `unhealthy`, which requests fall back on if there is nobody better.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::health::{Health, Transition, Word};
use crate::spec::Check;
use crate::timestamp::Timestamp;

/// Between two checks of an endpoint that has not passed any.
const UNTIL_FIRST: Duration = Duration::from_millis(250);

/// Between two checks while nobody uses the service, unless its own pace is slower.
const WITHOUT_TRAFFIC: Duration = Duration::from_secs(30);

/// By how many percent a pause may be longer or shorter.
pub const SPREAD: u32 = 20;

/// What has come of the checks of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    /// Successes in a row.
    passed: u32,
    /// Failures in a row.
    failed: u32,
    /// When the first of these was.
    failing_since: Timestamp,
}

impl Checks {
    /// A check has succeeded.
    pub fn passed(&mut self, health: &Health, check: &Check) -> Option<Transition> {
        self.failed = 0;
        self.passed = self.passed.saturating_add(1);
        let is_enough = match health.word.load(Relaxed) {
            Word::BAD => self.passed >= check.rise,
            _ => true,
        };
        if !is_enough {
            return None;
        }
        let before = health.word.swap(Word::GOOD, Relaxed);
        matches!(before, Word::AWAITED | Word::BAD).then_some(Transition::Passed)
    }

    /// A check has failed.
    pub fn failed(&mut self, health: &Health, check: &Check, now: Timestamp) -> Option<Transition> {
        self.passed = 0;
        if self.failed == 0 {
            self.failing_since = now;
        }
        self.failed = self.failed.saturating_add(1);
        let before = health.word.load(Relaxed);
        let is_enough = match before {
            // A replica that starts is asked more often.
            Word::AWAITED => {
                now.since(self.failing_since) >= check.interval.saturating_mul(check.fall)
            }
            Word::BAD => false,
            _ => self.failed >= check.fall,
        };
        // A connection that was refused meanwhile has the last word.
        (is_enough && health.word.compare_exchange(before, Word::BAD, Relaxed, Relaxed).is_ok())
            .then_some(Transition::Unwell)
    }

    /// From the beginning of one check to that of the next. `idle` says whether nobody has used the
    /// service lately; `luck` is drawn from 0 to twice [`SPREAD`].
    pub fn pause(health: &Health, check: &Check, idle: bool, luck: u32) -> Duration {
        let pause = match health.word.load(Relaxed) {
            Word::AWAITED => check.interval.min(UNTIL_FIRST),
            _ if idle => check.interval.max(WITHOUT_TRAFFIC),
            _ => check.interval,
        };
        let percent = 100_u32.saturating_sub(SPREAD).saturating_add(luck.min(2 * SPREAD));
        pause.saturating_mul(percent) / 100
    }
}
