//! May this endpoint take requests? A state machine that is told the time and what happened.
//!
//! All cores of an edge share one [`Health`] per endpoint, so that five failures in a row are five,
//! whichever core saw them. Reading it costs a few relaxed loads and takes no lock. Three things are
//! known about an endpoint: whether connections to it succeed, what its service's own check says
//! ([`checks`]), and how it answers requests ([`ejection`]).

pub mod checks;
pub mod ejection;

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::health::ejection::{Ejection, Entry, Failed, Phase, Siblings};
use crate::spec::Eject;
use crate::timestamp::Timestamp;

/// What an endpoint is good for at one moment, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Takes requests.
    Healthy,
    /// Its ejection is over; one request at a time tries whether it answers well again.
    Probation,
    /// Answered with failures; left out until a time, unless there is nothing better.
    Ejected,
    /// Says itself that it is not well, or does not answer when it is asked.
    Unhealthy,
    /// Leaves the service: no new requests, unless there is nothing better. Those under way finish.
    Draining,
    /// No connection of ours has succeeded yet, or no check where there is one.
    Pending,
    /// Refuses connections or does not answer them.
    Down,
}

impl State {
    /// All states, in the order in which endpoints are fallen back on.
    pub const ALL: [Self; 7] = [
        Self::Healthy,
        Self::Probation,
        Self::Ejected,
        Self::Unhealthy,
        Self::Draining,
        Self::Pending,
        Self::Down,
    ];

    /// The word for metrics and the admin API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Probation => "probation",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Pending => "pending",
            Self::Down => "down",
        }
    }

    /// Whether a connection may be tried.
    pub const fn accepts(self) -> bool {
        match self {
            Self::Healthy | Self::Probation | Self::Ejected | Self::Unhealthy | Self::Draining => {
                true
            }
            Self::Pending | Self::Down => false,
        }
    }
}

/// A change that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Accepts connections: for the first time, or again.
    Reached,
    /// Accepts no connections any more.
    Lost,
    /// Is left out until the given time.
    Ejected {
        /// When it may be asked again.
        until: Timestamp,
    },
    /// Answered well after an ejection.
    Recovered,
    /// Passes its check: for the first time, or again.
    Passed,
    /// Fails its check.
    Unwell,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    /// One of the `Contact` values.
    contact: AtomicU8,
    /// One of the `Word` values.
    word: AtomicU8,
    /// Since when it leaves the service, in microseconds; 0 if it does not.
    draining_since: AtomicU64,
    /// Dials that have been without an answer for longer than the race allows.
    overdue_dials: AtomicU32,
    /// Dials in a row that timed out.
    timed_out_dials: AtomicU32,
    ejection: Ejection,
}

/// What our connections to the endpoint have shown.
enum Contact {}

impl Contact {
    const NONE_YET: u8 = 0;
    const MADE: u8 = 1;
    const LOST: u8 = 2;
}

/// What the endpoint says when its service's check asks it.
enum Word {}

impl Word {
    /// Nobody has asked, or not for long enough to know.
    const NONE: u8 = 0;
    /// It takes nothing before it has said a good one.
    const AWAITED: u8 = 1;
    const GOOD: u8 = 2;
    const BAD: u8 = 3;
}

/// One dial that times out may be a lost packet, which Linux repeats after 1 s; two in a row are not.
const TIMEOUTS_UNTIL_DOWN: u32 = 2;

/// When a process that leaves is told to end, counted from when that was seen: Swarm takes its name
/// out of DNS, and two seconds later sends SIGTERM. It is seen a second late and more: a poll, and an
/// unknown name that older engines answer by silence. And an engine that is busy takes its time.
const ABOUT_TO_END: Range<Duration> = Duration::from_millis(400)..Duration::from_secs(8);

impl Health {
    /// The state at a time.
    pub fn state(&self, now: Timestamp) -> State {
        let word = self.word.load(Relaxed);
        match self.contact.load(Relaxed) {
            Contact::NONE_YET => State::Pending,
            Contact::LOST => State::Down,
            _ if word == Word::AWAITED => State::Pending,
            _ if self.is_draining() => State::Draining,
            // Before an ejection: a better word of the two would draw all requests to one that
            // failed, while every check fails for a wrong path.
            _ if word == Word::BAD => State::Unhealthy,
            _ => match self.ejection.phase(now) {
                Phase::None => State::Healthy,
                Phase::Out => State::Ejected,
                Phase::Probation => State::Probation,
            },
        }
    }

    /// Whether a dial is overdue, so that others should be preferred.
    pub fn is_suspect(&self) -> bool {
        self.overdue_dials.load(Relaxed) > 0
    }

    /// Whether it leaves the service.
    pub fn is_draining(&self) -> bool {
        self.draining_since.load(Relaxed) != 0
    }

    /// Whether it leaves the service, and its process is told to end at about this time.
    pub fn is_about_to_end(&self, now: Timestamp) -> bool {
        let since = self.draining_since.load(Relaxed);
        since != 0 && ABOUT_TO_END.contains(&now.since(Timestamp::from_micros(since)))
    }

    /// Whether it accepts connections, as far as we know.
    pub fn is_reached(&self) -> bool {
        self.contact.load(Relaxed) == Contact::MADE
    }

    /// Until when it is left out for failing; in the past if it is not.
    pub fn ejected_until(&self) -> Timestamp {
        self.ejection.until()
    }

    /// It leaves the service, or it has come back.
    pub fn set_draining(&self, draining: bool, now: Timestamp) {
        let since = if draining { now.as_micros().max(1) } else { 0 };
        if draining != self.is_draining() {
            self.draining_since.store(since, Relaxed);
        }
    }

    /// It counts as reached without a connection of ours: an earlier process had reached it.
    pub fn trust(&self) {
        let _ = self.contact.compare_exchange(Contact::NONE_YET, Contact::MADE, Relaxed, Relaxed);
    }

    /// A connection was made.
    pub fn connected(&self) -> Option<Transition> {
        self.timed_out_dials.store(0, Relaxed);
        let before = self.contact.swap(Contact::MADE, Relaxed);
        (before != Contact::MADE).then_some(Transition::Reached)
    }

    /// A connection was refused, or the address cannot be reached: at once, whatever the others do.
    /// One that never was reached stays pending: a task may be known before it listens. Where there
    /// is a check, whoever comes back must pass it first.
    pub fn refused(&self) -> Option<Transition> {
        let lost =
            self.contact.compare_exchange(Contact::MADE, Contact::LOST, Relaxed, Relaxed).is_ok();
        if lost && self.word.load(Relaxed) != Word::NONE {
            self.await_check();
        }
        lost.then_some(Transition::Lost)
    }

    /// A dial has been without an answer for longer than the race allows.
    pub fn dial_overdue(&self) {
        self.overdue_dials.fetch_add(1, Relaxed);
    }

    /// An overdue dial has ended, whichever way.
    pub fn overdue_dial_ended(&self) {
        self.overdue_dials.fetch_sub(1, Relaxed);
    }

    /// A dial was given up. The second in a row takes the endpoint out.
    pub fn dial_timed_out(&self) -> Option<Transition> {
        let timed_out = self.timed_out_dials.fetch_add(1, Relaxed).saturating_add(1);
        if timed_out < TIMEOUTS_UNTIL_DOWN {
            return None;
        }
        self.refused()
    }

    /// It takes no requests before it has passed a check.
    pub fn await_check(&self) {
        self.word.store(Word::AWAITED, Relaxed);
    }

    /// Nobody checks it any longer: what its checks said is forgotten.
    pub fn forget_checks(&self) {
        self.word.store(Word::NONE, Relaxed);
    }

    /// A request that was sent at that time was answered well. One that was under way already when
    /// the endpoint was ejected says nothing about it now.
    pub fn succeeded(&self, sent: Timestamp) -> Option<Transition> {
        self.ejection.succeeded(sent).then_some(Transition::Recovered)
    }

    /// An answer to a request that was sent at that time came to its end.
    pub fn answered_whole(&self, sent: Timestamp) -> Option<Transition> {
        self.ejection.answered_whole(sent).then_some(Transition::Recovered)
    }

    /// A request failed by the endpoint's doing. It is ejected if those were too many in a row, and
    /// its siblings do clearly better and can do without it. Once it is on probation a single failure
    /// is enough for the next, longer ejection.
    pub fn failed(
        &self,
        failed: &Failed,
        policy: &Eject,
        siblings: impl Fn() -> Siblings,
    ) -> Option<Transition> {
        let until = self.ejection.failed(failed, policy, siblings)?;
        Some(Transition::Ejected { until })
    }

    /// Whether it failed within that time.
    pub fn has_failed_since(&self, earlier: Timestamp) -> bool {
        self.ejection.last_failure() > earlier
    }

    /// Whether a request tries it after an ejection, so that others have to wait.
    pub fn is_being_tried(&self, now: Timestamp) -> bool {
        self.ejection.is_being_tried(now)
    }

    /// A request wants to go there: on probation only one at a time does.
    pub fn enter(&self, now: Timestamp) -> Entry {
        self.ejection.enter(now)
    }

    /// The request is over that entered on probation, with this lease.
    pub fn leave(&self, lease: Timestamp) {
        self.ejection.leave(lease);
    }
}

#[cfg(test)]
mod tests;
