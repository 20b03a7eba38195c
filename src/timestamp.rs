//! A point in time, small enough to be kept in an atomic.
//!
//! Decisions never read a clock: they are handed a [`Timestamp`], so a test plays hours in no time.
//! Only `clock` makes them from the real one.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since the process started. Never goes back; wraps after 584,000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the process; older than everything that is recorded.
    pub const START: Self = Self(0);

    /// The time that many microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start, as an atomic keeps them.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// A time later by `after`; the end of time if it does not fit.
    fn add(self, after: Duration) -> Self {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_nor_over_its_end() {
        let second = Timestamp::from_micros(1_000_000);
        assert_eq!(second.since(Timestamp::START), Duration::from_secs(1));
        assert_eq!(Timestamp::START.since(second), Duration::ZERO);
        assert_eq!((second + Duration::MAX).as_micros(), u64::MAX);
    }
}
