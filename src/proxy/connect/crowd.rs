//! Requests that wait for an endpoint, and how they are let in when one comes.
//!
//! A thousand that waited would else all connect at the same moment: more than most servers keep in
//! the queue they listen with, and the answer to that is silence.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::sleep;

use crate::proxy::error::ProxyError;
use crate::snapshot::Route;
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, Upstream};

/// Most requests that an endpoint has at once when it has just come, before one more of those that
/// waited may go there; twice as many after each [`OPENING`].
const FIRST: usize = 64;
const OPENING: Duration = Duration::from_millis(100);

/// Who stands back looks again after so many milliseconds, each after others.
const STANDS_BACK: std::ops::Range<u64> = 10..40;

/// Counts a request that waits.
pub(super) struct Waiting<'u>(&'u Upstream);

impl<'u> Waiting<'u> {
    pub(super) fn count(upstream: &'u Upstream, most: u64) -> Result<Self, ProxyError> {
        let before = upstream.waiting.fetch_add(1, Relaxed);
        let waiting = Self(upstream);
        if before >= most { Err(ProxyError::QueueFull) } else { Ok(waiting) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Counts a request that has waited and has chosen an endpoint, until it has a connection to it.
pub(super) struct Entering(Arc<Endpoint>);

impl Entering {
    /// None if there are as many already as may be so soon.
    pub(super) fn at(endpoint: &Arc<Endpoint>, now: Timestamp) -> Option<Self> {
        let before = endpoint.entering.fetch_add(1, Relaxed);
        let entering = Self(Arc::clone(endpoint));
        let there = before.saturating_add(endpoint.in_flight());
        (there < most_at(now.since(endpoint.began()))).then_some(entering)
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.entering.fetch_sub(1, Relaxed);
    }
}

/// How many may be there that long after an endpoint has come.
fn most_at(age: Duration) -> usize {
    let openings = u32::try_from(age.as_millis() / OPENING.as_millis()).unwrap_or(u32::MAX);
    let most = FIRST.checked_shl(openings).unwrap_or_default();
    // All bits are shifted out in the end.
    if most == 0 { usize::MAX } else { most }
}

/// Waits for a moment, while those that came first are let in.
pub(super) async fn stand_back(route: &Route) -> Result<(), ProxyError> {
    let _waiting = Waiting::count(&route.upstream, route.policy().limits.queue)?;
    sleep(Duration::from_millis(fastrand::u64(STANDS_BACK))).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_opens_wider_each_moment_and_never_closes_again() {
        let most = |millis| most_at(Duration::from_millis(millis));
        assert_eq!([0, 99, 100, 250, 999].map(most), [64, 64, 128, 256, 64 << 9]);
        assert_eq!([5_799, 5_800, 6_400, u64::MAX].map(most)[1..], [usize::MAX; 3]);
        assert!((0..10_000).map(most).is_sorted());
    }
}
