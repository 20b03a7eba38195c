//! How slow a client may be while it is waited for.
//!
//! Like everything that decides, this is told what happened: how long the client kept us waiting, and
//! how many bytes moved meanwhile. What is not its fault, its caller does not count as waiting.

use std::time::Duration;

/// The least that a client must send, or take, of what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, on average; at least 1.
    pub bytes_per_second: u64,
    /// How long a client may at first be slower; half as long is what the average is taken over
    /// from then on.
    pub grace: Duration,
}

impl Rate {
    /// The credit that a client has left: time that it may still keep us waiting. It begins with
    /// [`Rate::grace`] and is zero when the client is too slow. Waiting uses it up, each byte earns
    /// the time that it may take, and more than half the grace cannot be saved up.
    #[must_use]
    pub fn credit_after(self, credit: Duration, waited: Duration, moved: u64) -> Duration {
        let micros = u128::from(moved) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        let earned = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let credit = credit.max(credit.saturating_add(earned).min(self.grace / 2));
        credit.saturating_sub(waited)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1024, grace: Duration::from_secs(20) };
    const TICK: Duration = Duration::from_millis(100);

    /// For how many seconds a client is borne that moves so many bytes at the end of each period of
    /// so many ticks; none if for an hour.
    fn borne(bytes: u64, every: u32) -> Option<f64> {
        let mut credit = RATE.grace;
        (1..36_000).find_map(|tick: u32| {
            let moved = if tick.is_multiple_of(every) { bytes } else { 0 };
            credit = RATE.credit_after(credit, TICK, moved);
            credit.is_zero().then(|| f64::from(tick) / 10.0)
        })
    }

    #[test]
    fn a_client_must_keep_up_the_rate_once_its_grace_is_over() {
        assert_eq!(borne(0, 1), Some(20.0));
        for every in [1, 10] {
            let seconds = borne(1, every).unwrap_or(f64::MAX);
            assert!((20.0..20.3).contains(&seconds), "a byte buys next to nothing: {seconds}");
        }
        assert_eq!(borne(1024, 10), None);
        assert_eq!(borne(10 * 1024, 99), None, "an average over ten seconds");
        assert!(borne(512, 10).is_some_and(|seconds| seconds < 40.0));
    }

    #[test]
    fn speed_is_not_saved_up_for_longer_than_half_the_grace() {
        let credit = RATE.credit_after(Duration::from_secs(1), Duration::ZERO, 1 << 40);
        assert_eq!(credit, Duration::from_secs(10));
        let unused = RATE.credit_after(RATE.grace, TICK, 1 << 40);
        assert_eq!(unused, RATE.grace.saturating_sub(TICK));
    }

    proptest! {
        #[test]
        fn credit_never_exceeds_the_grace_and_only_bytes_earn_it(
            credit in 0_u64..20_000,
            waited in 0_u64..30_000,
            moved: u64,
        ) {
            let (credit, waited) = (Duration::from_millis(credit), Duration::from_millis(waited));
            let after = RATE.credit_after(credit, waited, moved);
            let unmoved = credit.saturating_sub(waited);
            prop_assert!(unmoved <= after && after <= RATE.grace);
            prop_assert!(moved > 0 || after == unmoved);
        }
    }
}
