//! The same endpoint for the same key: rendezvous hashing with bounded load.

use std::sync::Arc;

use crate::affinity::{Key, Mark};
use crate::balance::Search;
use crate::upstream::Endpoint;

/// Below this many requests in flight no endpoint counts as overloaded: a bound on next to nothing
/// would part the first requests of one page.
const FREE: usize = 8;

/// The endpoint that ranks highest for the key, whatever it is good for. Where it is good, all others
/// need not be asked.
pub(super) fn first(endpoints: &[Arc<Endpoint>], key: Key) -> Option<&Arc<Endpoint>> {
    endpoints.iter().max_by_key(|endpoint| rank(endpoint, key))
}

/// Whether an endpoint has so little to do that no bound counts.
pub(super) fn is_free(endpoint: &Endpoint, search: &Search<'_>) -> bool {
    search.load(endpoint) < FREE
}

fn rank(endpoint: &Endpoint, key: Key) -> u64 {
    key.rank(endpoint.mark().map_or(0, Mark::bits))
}

/// The endpoint that ranks highest for the key and has not much more to do than the others; then the
/// next one takes what it does not (Mirrokni, Thorup and Zadimoghaddam 2016).
pub(super) fn choose<'e>(
    candidates: impl Iterator<Item = &'e Arc<Endpoint>> + Clone,
    key: Key,
    search: &Search<'_>,
) -> Option<&'e Arc<Endpoint>> {
    let sum = |(count, load): (usize, usize), endpoint: &Arc<Endpoint>| {
        (count.saturating_add(1), load.saturating_add(search.load(endpoint)))
    };
    let (count, load) = candidates.clone().fold((0, 0), sum);
    let most = bound(load, count);
    let rank = |endpoint: &&Arc<Endpoint>| rank(endpoint, key);
    let within = candidates.clone().filter(|endpoint| search.load(endpoint) < most);
    // Another core may have filled up the last one meanwhile.
    within.max_by_key(rank).or_else(|| candidates.max_by_key(rank))
}

/// How many requests in flight an endpoint may come to: a quarter more than its share, and more while
/// that is what chance does. Keys that are spread at random differ by the square root of a share, and
/// to move them for it would part them from their replica without need.
pub(super) fn bound(load: usize, count: usize) -> usize {
    let (load, count) = (load.saturating_add(1), count.max(1));
    let share = load.div_ceil(count);
    let by_chance = share.saturating_add(share.isqrt().saturating_mul(3));
    let quarters = load.saturating_mul(5);
    quarters.div_ceil(count.saturating_mul(4)).max(by_chance).max(FREE)
}
