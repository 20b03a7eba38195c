//! May this endpoint take requests? A state machine that is told the time and what happened.
//!
//! All cores of an edge share one [`Health`] per endpoint, so that five failures in a row are five,
//! whichever core saw them. Reading it costs a few relaxed loads and takes no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::spec::Eject;
use crate::timestamp::Timestamp;

/// What an endpoint is good for at one moment, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Takes requests.
    Healthy,
    /// Answered with failures; left out until a time, unless there is nothing better.
    Ejected,
    /// Leaves the service: no new requests, unless there is nothing better. Those under way finish.
    Draining,
    /// No connection of ours has succeeded yet.
    Pending,
    /// Refuses connections or does not answer them.
    Down,
}

impl State {
    /// All states, in the order in which endpoints are fallen back on.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Ejected, Self::Draining, Self::Pending, Self::Down];

    /// The word for metrics and the admin API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Pending => "pending",
            Self::Down => "down",
        }
    }

    /// Whether a connection may be tried.
    pub const fn accepts(self) -> bool {
        matches!(self, Self::Healthy | Self::Ejected | Self::Draining)
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
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    /// One of the `Contact` values.
    contact: AtomicU8,
    draining: AtomicBool,
    /// Dials that have been without an answer for longer than the race allows.
    overdue_dials: AtomicU32,
    /// Dials in a row that timed out.
    timed_out_dials: AtomicU32,
    /// Failed answers in a row.
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// Microseconds; 0 if it never was.
    ejected_until: AtomicU64,
}

/// What our connections to the endpoint have shown.
enum Contact {}

impl Contact {
    const NONE_YET: u8 = 0;
    const MADE: u8 = 1;
    const LOST: u8 = 2;
}

/// One dial that times out may be a lost packet, which Linux repeats after 1 s; two in a row are not.
const TIMEOUTS_UNTIL_DOWN: u32 = 2;

impl Health {
    /// The state at a time.
    pub fn state(&self, now: Timestamp) -> State {
        match self.contact.load(Relaxed) {
            Contact::NONE_YET => State::Pending,
            Contact::LOST => State::Down,
            _ if self.draining.load(Relaxed) => State::Draining,
            _ if self.ejected_until() > now => State::Ejected,
            _ => State::Healthy,
        }
    }

    /// Whether a dial is overdue, so that others should be preferred.
    pub fn is_suspect(&self) -> bool {
        self.overdue_dials.load(Relaxed) > 0
    }

    /// Whether it leaves the service.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Until when it is left out for failing; in the past if it is not.
    pub fn ejected_until(&self) -> Timestamp {
        Timestamp::from_micros(self.ejected_until.load(Relaxed))
    }

    /// It leaves the service, or it has come back.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
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
    /// One that never was reached stays pending: a task may be known before it listens.
    pub fn refused(&self) -> Option<Transition> {
        self.contact
            .compare_exchange(Contact::MADE, Contact::LOST, Relaxed, Relaxed)
            .is_ok()
            .then_some(Transition::Lost)
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

    /// A request was answered well.
    pub fn succeeded(&self) -> Option<Transition> {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.ejections.load(Relaxed) == 0 {
            return None;
        }
        self.ejections.store(0, Relaxed);
        self.ejected_until.store(0, Relaxed);
        Some(Transition::Recovered)
    }

    /// A request failed by the endpoint's doing. `may_eject` says whether the others can do without
    /// it. After an ejection a single failure is enough for the next, longer one.
    pub fn failed(&self, now: Timestamp, policy: &Eject, may_eject: bool) -> Option<Transition> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let before = self.ejections.load(Relaxed);
        let enough = if before > 0 { 1 } else { policy.consecutive };
        if failures < enough || !may_eject || self.ejected_until() > now {
            return None;
        }
        self.failures.store(0, Relaxed);
        let ejections = before.saturating_add(1);
        self.ejections.store(ejections, Relaxed);
        let until = now + policy.base.saturating_mul(ejections).min(policy.max);
        self.ejected_until.store(until.as_micros(), Relaxed);
        Some(Transition::Ejected { until })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Plays lines of `<seconds> <event> [expected transition] [= state]`.
    fn check(script: &str) {
        let health = Health::default();
        let policy = Eject { consecutive: 3, max: Duration::from_secs(25), ..Eject::default() };
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (event, state) = line.split_once(" = ").unwrap_or((line, ""));
            let mut words = event.split_whitespace();
            let seconds: u64 = words.next().unwrap().parse().unwrap();
            let now = Timestamp::from_micros(seconds * 1_000_000);
            let transition = match words.next().unwrap() {
                "connected" => health.connected(),
                "refused" => health.refused(),
                "timeout" => health.dial_timed_out(),
                "ok" => health.succeeded(),
                "fail" => health.failed(now, &policy, true),
                "fail-capped" => health.failed(now, &policy, false),
                "draining" => {
                    health.set_draining(true);
                    None
                }
                _ => None,
            };
            let expected = words.collect::<Vec<_>>().join(" ");
            let happened = match transition {
                None => String::new(),
                Some(Transition::Reached) => "reached".to_owned(),
                Some(Transition::Lost) => "lost".to_owned(),
                Some(Transition::Recovered) => "recovered".to_owned(),
                Some(Transition::Ejected { until }) => {
                    format!("ejected until {}", until.as_micros() / 1_000_000)
                }
            };
            assert_eq!(happened, expected, "{line}");
            if !state.is_empty() {
                assert_eq!(health.state(now).word(), state, "{line}");
            }
        }
    }

    #[test]
    fn a_new_endpoint_waits_for_its_first_connection_and_refusals_do_not_count() {
        check(
            "
            0 look = pending
            0 refused = pending
            1 connected reached = healthy
            2 connected = healthy
            ",
        );
    }

    #[test]
    fn a_refusal_takes_it_out_at_once_and_a_connection_brings_it_back() {
        check(
            "
            0 connected reached
            1 refused lost = down
            1 refused = down
            2 connected reached = healthy
            ",
        );
    }

    #[test]
    fn one_lost_packet_is_forgiven_and_two_timeouts_in_a_row_are_not() {
        check(
            "
            0 connected reached
            1 timeout = healthy
            2 connected
            3 timeout = healthy
            5 timeout lost = down
            ",
        );
    }

    #[test]
    fn failures_in_a_row_eject_and_each_ejection_lasts_longer_up_to_the_limit() {
        check(
            "
            0 connected reached
            0 fail
            0 ok
            0 fail
            0 fail
            0 fail ejected until 10 = ejected
            9 look = ejected
            10 look = healthy
            10 fail ejected until 30
            30 fail ejected until 55
            55 ok recovered = healthy
            60 fail = healthy
            ",
        );
    }

    #[test]
    fn nothing_is_ejected_that_the_others_cannot_replace() {
        check(
            "
            0 connected reached
            0 fail
            0 fail
            0 fail-capped = healthy
            0 fail-capped = healthy
            0 fail ejected until 10
            ",
        );
    }

    #[test]
    fn a_draining_endpoint_that_refuses_is_down() {
        check(
            "
            0 connected reached
            1 draining = draining
            3 refused lost = down
            ",
        );
    }
}
