//! How much of its share a new endpoint takes.
//!
//! Shares are compared among endpoints, never taken alone: where all are new, all have the same.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::timestamp::Timestamp;
use crate::upstream::Endpoint;

/// The weight of an endpoint that is new no longer.
pub(super) const FULL: u32 = 1000;

/// The weight that a new one begins with: it has to get warm by something.
pub(super) const LEAST: u32 = FULL / 10;

/// Over how long endpoints start, and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart {
    pub(super) over: Duration,
    pub(super) now: Timestamp,
}

impl SlowStart {
    /// The weight of an endpoint, [`LEAST`] to [`FULL`]. It grows evenly with time.
    pub(super) fn weight(self, endpoint: &Endpoint) -> u32 {
        // What an earlier process has reached is not new, however young this one is.
        if self.over.is_zero() || endpoint.began() == Timestamp::START {
            return FULL;
        }
        let age = self.now.since(endpoint.began()).as_micros().min(self.over.as_micros());
        let grown = age.saturating_mul(FULL.into()).checked_div(self.over.as_micros());
        grown.and_then(|grown| u32::try_from(grown).ok()).unwrap_or(FULL).max(LEAST)
    }

    /// The first of two, which was chosen, unless it is the newer one and leaves this request to the
    /// other: so often that its part is its weight's.
    pub(super) fn or_older<'e>(
        self,
        chosen: &'e Arc<Endpoint>,
        other: &'e Arc<Endpoint>,
        rng: &mut Rng,
    ) -> &'e Arc<Endpoint> {
        if self.over.is_zero() {
            return chosen;
        }
        let (weight, others) = (self.weight(chosen), self.weight(other));
        if weight < others && rng.u32(..others) >= weight { other } else { chosen }
    }
}
