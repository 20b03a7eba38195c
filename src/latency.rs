//! How long an endpoint takes for a response head, as one number that all cores share.
//!
//! A peak exponentially weighted moving average, as Finagle and Linkerd have it: a slow answer counts
//! at once and in full, quick ones take effect with time. It is kept by whoever has a use for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::timestamp::Timestamp;

/// After this time a measurement has lost all but 37 % (1/e) of its weight.
const DECAY_MILLIS: f32 = 10_000.0;

/// Of an endpoint that has requests, silence says little: it may hang. So its measurement loses
/// weight that much more slowly.
const BUSY: f32 = 10.0;

/// The average. Two cores that measure at once may lose one of the two measurements.
#[derive(Debug, Default)]
pub struct PeakEwma {
    /// Milliseconds of the last measurement (modulo 49 days) above, microseconds as `f32` below; 0
    /// before the first.
    state: AtomicU64,
}

impl PeakEwma {
    /// An answer took that long, and has just come. One store at most.
    pub fn observe(&self, took: Duration, now: Timestamp) {
        // Never 0, which stands for unmeasured.
        let took = (took.as_secs_f32() * 1e6).max(1.0);
        let (before, at) = unpack(self.state.load(Relaxed));
        let elapsed = millis(now).wrapping_sub(at);
        let average = if took >= before {
            took
        } else if elapsed == 0 {
            // A millisecond counts once, or thousands of quick answers would weigh nothing each.
            return;
        } else {
            let weight = weight(elapsed, DECAY_MILLIS);
            before.mul_add(weight, took * (1.0 - weight))
        };
        self.state.store(pack(average, millis(now)), Relaxed);
    }

    /// The average in microseconds; none before the first measurement. It falls with time, so that an
    /// endpoint that was slow is tried again.
    pub fn micros(&self, now: Timestamp, is_busy: bool) -> Option<f32> {
        let state = self.state.load(Relaxed);
        let (average, at) = unpack(state);
        let decay = if is_busy { DECAY_MILLIS * BUSY } else { DECAY_MILLIS };
        let elapsed = millis(now).wrapping_sub(at);
        (state != 0).then(|| average * weight(elapsed, decay))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "only differences of it are used")]
const fn millis(at: Timestamp) -> u32 {
    (at.as_micros() / 1000) as u32
}

#[expect(clippy::cast_precision_loss, reason = "a weight of that many hours is nothing")]
fn weight(elapsed: u32, decay: f32) -> f32 {
    (-(elapsed as f32) / decay).exp()
}

fn pack(average: f32, at: u32) -> u64 {
    u64::from(at) << 32 | u64::from(average.to_bits())
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of it")]
const fn unpack(state: u64) -> (f32, u32) {
    (f32::from_bits(state as u32), (state >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::E;

    use super::*;

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn after(measurements: &[(u64, u64)]) -> PeakEwma {
        let ewma = PeakEwma::default();
        for (millis, micros) in measurements {
            ewma.observe(Duration::from_micros(*micros), at(*millis));
        }
        ewma
    }

    #[track_caller]
    fn is_about(ewma: &PeakEwma, millis: u64, is_busy: bool, expected: f32) {
        let micros = ewma.micros(at(millis), is_busy).unwrap();
        assert!((micros - expected).abs() <= expected / 50.0, "{micros} instead of {expected}");
    }

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(after(&[]).micros(at(5), false), None);
        is_about(&after(&[(5, 0)]), 5, false, 1.0);
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_quick_ones_with_time() {
        is_about(&after(&[(1, 1000), (2, 50_000)]), 2, false, 50_000.0);
        let quick: Vec<_> = (0..10_000).map(|milli| (1000 + milli, 1000)).collect();
        let recovered = after(&[&[(1000, 50_000)], &*quick].concat());
        is_about(&recovered, 11_000, false, 1000.0 + 49_000.0 / E);
        let many = after(&vec![(1000, 1000); 1000]);
        is_about(&many, 1000, false, 1000.0);
    }

    #[test]
    fn what_was_slow_is_forgotten_slowly_while_it_has_requests_and_quickly_while_it_has_none() {
        let slow = after(&[(1000, 50_000)]);
        is_about(&slow, 11_000, false, 50_000.0 / E);
        is_about(&slow, 11_000, true, 50_000.0 / 1.105);
    }
}
