//! How an endpoint answers requests: too many failures in a row, and it is left out for a time.
//!
//! A run of failures says nothing as long as the others fail as well: a resource that always answers
//! 503, or a database that is gone, costs no replica. So a run ejects only if one as good as the
//! siblings would hardly ever fail that often in a row. After its time the endpoint is on probation:
//! one request at a time goes there, until one is answered well.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::spec::Eject;
use crate::timestamp::Timestamp;

/// How seldom a run of failures must be by chance.
const CHANCE: f64 = 1e-6;

/// Siblings that failed so lately are not known to do better, however few their failures are since.
pub const LATELY: Duration = Duration::from_secs(2);
/// What they are taken to fail then.
const SHARE_IF_LATELY: f64 = 0.5;

/// A request on probation keeps others away for so long at most: as long as a response head may take
/// by default.
const LEASE: Duration = Duration::from_mins(1);

/// Most that an ejection may last longer than it must, in percent.
pub const MOST_JITTER: u32 = 20;

/// A request that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// When it was sent.
    pub sent: Timestamp,
    /// When it was known to have failed.
    pub at: Timestamp,
    /// Whether it was answered, but not to the end.
    pub cut: bool,
    /// By how many percent an ejection is to last longer, at random up to [`MOST_JITTER`]: edges
    /// would else all return at the same moment.
    pub jitter: u32,
}

/// The other endpoints of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    /// Those that take requests.
    pub healthy: usize,
    /// Those that are ejected, or on probation.
    pub ejected: usize,
    /// Requests that they have answered well, since they joined.
    pub well: u64,
    /// Requests that failed by their doing, since they joined.
    pub ill: u64,
    /// Whether one that takes requests has failed within [`LATELY`].
    pub failed_lately: bool,
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    None,
    Out,
    Probation,
}

/// Whether a request may go to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// As many as like.
    Free,
    /// It is the one that tries it: the lease is to be given back.
    Lease(Timestamp),
    /// Another one tries it.
    Taken,
}

/// The record of one endpoint. Times are microseconds.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    /// Failures in a row.
    failures: AtomicU32,
    /// Answers in a row that broke off: the heads before them say nothing to its credit.
    cuts: AtomicU32,
    last_failure: AtomicU64,
    /// What the siblings had answered when the run began.
    well_before: AtomicU64,
    ill_before: AtomicU64,
    /// Ejections that are not forgotten.
    times: AtomicU32,
    /// When the last one began.
    began: AtomicU64,
    /// When it ended, or will.
    ended: AtomicU64,
    /// The same, and 0 once a request has been answered well.
    until: AtomicU64,
    /// Until when a request on probation keeps others away.
    lease: AtomicU64,
}

impl Ejection {
    pub(super) fn phase(&self, now: Timestamp) -> Phase {
        match self.until.load(Relaxed) {
            0 => Phase::None,
            until if until > now.as_micros() => Phase::Out,
            _ => Phase::Probation,
        }
    }

    pub(super) fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until.load(Relaxed))
    }

    pub(super) fn last_failure(&self) -> Timestamp {
        Timestamp::from_micros(self.last_failure.load(Relaxed))
    }

    /// Whether this ends an ejection. That of one whose last answer broke off does not end with the
    /// head of another one.
    pub(super) fn succeeded(&self, sent: Timestamp) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.cuts.load(Relaxed) != 0 {
            return false;
        }
        let until = self.until.load(Relaxed);
        until != 0
            && sent.as_micros() >= self.began.load(Relaxed)
            && self.until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
    }

    /// An answer has come to its end. Whether this ends an ejection.
    pub(super) fn answered_whole(&self, sent: Timestamp) -> bool {
        if self.cuts.load(Relaxed) == 0 {
            return false;
        }
        self.cuts.store(0, Relaxed);
        self.succeeded(sent)
    }

    /// Until when this ejects the endpoint, if it does.
    pub(super) fn failed(
        &self,
        failed: &Failed,
        policy: &Eject,
        siblings: impl Fn() -> Siblings,
    ) -> Option<Timestamp> {
        if failed.sent.as_micros() < self.began.load(Relaxed) {
            return None;
        }
        self.last_failure.store(failed.at.as_micros(), Relaxed);
        let before = self.until.load(Relaxed);
        let on_probation = match self.phase(failed.at) {
            Phase::Out => return None,
            Phase::Probation => true,
            Phase::None => false,
        };
        let run = if failed.cut { &self.cuts } else { &self.failures };
        let run = run.fetch_add(1, Relaxed).saturating_add(1);
        if run == 1 && !on_probation {
            let Siblings { well, ill, .. } = siblings();
            self.well_before.store(well, Relaxed);
            self.ill_before.store(ill, Relaxed);
        }
        if !on_probation && !is_due(run, policy.consecutive) {
            return None;
        }
        let siblings = siblings();
        let may = siblings.can_spare_one(policy)
            && if on_probation || policy.consecutive <= 1 {
                do_better(0, 0, siblings.failed_lately, run)
            } else {
                let well = siblings.well.saturating_sub(self.well_before.load(Relaxed));
                let ill = siblings.ill.saturating_sub(self.ill_before.load(Relaxed));
                well > 0 && do_better(well, ill, siblings.failed_lately, run)
            };
        if may { self.eject(before, failed, policy) } else { None }
    }

    fn eject(&self, before: u64, failed: &Failed, policy: &Eject) -> Option<Timestamp> {
        let good = failed.at.since(Timestamp::from_micros(self.ended.load(Relaxed)));
        let forgotten = good.as_micros().checked_div(policy.max.as_micros()).unwrap_or(0);
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        let times = self.times.load(Relaxed).saturating_sub(forgotten).saturating_add(1);
        let time = policy.base.saturating_mul(times).min(policy.max);
        let until = failed.at + time + time / 100 * failed.jitter;
        // Of two cores that come to the same conclusion one is enough.
        let until_micros = until.as_micros();
        self.began.store(failed.at.as_micros(), Relaxed);
        self.until.compare_exchange(before, until_micros, Relaxed, Relaxed).ok()?;
        self.ended.store(until_micros, Relaxed);
        self.times.store(times, Relaxed);
        self.failures.store(0, Relaxed);
        Some(until)
    }

    pub(super) fn is_being_tried(&self, now: Timestamp) -> bool {
        self.lease.load(Relaxed) > now.as_micros()
    }

    pub(super) fn enter(&self, now: Timestamp) -> Entry {
        if self.phase(now) != Phase::Probation {
            return Entry::Free;
        }
        let before = self.lease.load(Relaxed);
        let lease = now + LEASE;
        let is_free = before <= now.as_micros();
        if is_free
            && self.lease.compare_exchange(before, lease.as_micros(), Relaxed, Relaxed).is_ok()
        {
            Entry::Lease(lease)
        } else {
            Entry::Taken
        }
    }

    /// Nothing happens if the lease had run out and another one has it.
    pub(super) fn leave(&self, lease: Timestamp) {
        let _ = self.lease.compare_exchange(lease.as_micros(), 0, Relaxed, Relaxed);
    }
}

impl Siblings {
    /// Whether one more may be ejected: at most the given share, at least one when there are two,
    /// and never the last that takes requests. Who is down or says that it is unwell is no part of
    /// it: a share of those that nobody can use anyway protects nobody.
    fn can_spare_one(&self, policy: &Eject) -> bool {
        let all = self.healthy.saturating_add(self.ejected).saturating_add(1);
        let share = all.saturating_mul(policy.max_percent.into()) / 100;
        self.healthy > 0 && self.ejected < share.max(1)
    }
}

/// Whether a run of failures is looked at: as soon as it is long enough, and if that did not lead to an
/// ejection before long, from time to time only. To look at all siblings is not free.
fn is_due(run: u32, consecutive: u32) -> bool {
    let early = consecutive.saturating_mul(4);
    run >= consecutive && (run < early || run.checked_rem(consecutive) == Some(0))
}

/// Whether one that fails as often as they do would hardly ever fail that often in a row.
fn do_better(well: u64, ill: u64, failed_lately: bool, run: u32) -> bool {
    let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = if ill == 0 { 0.0 } else { number(ill) / (number(well) + number(ill)) };
    let share = if failed_lately { share.max(SHARE_IF_LATELY) } else { share };
    share.powi(i32::try_from(run).unwrap_or(i32::MAX)) <= CHANCE
}
