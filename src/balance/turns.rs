//! Endpoints in turns, each as often as its weight says.

use std::sync::Arc;

use crate::balance::slow_start::SlowStart;
use crate::upstream::Endpoint;

/// 2^64 divided by the golden ratio: its multiples are spread over all numbers as evenly as can be,
/// however many of them are taken (Weyl 1916).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whose turn it is. While weights differ, turns fall by weight and well mixed, like nginx's smooth
/// weighted round robin, which would need weights that run, and a lock around them.
pub(super) fn choose<'e>(
    candidates: impl Iterator<Item = &'e Arc<Endpoint>> + Clone,
    turn: usize,
    slow_start: SlowStart,
) -> Option<&'e Arc<Endpoint>> {
    let mut weights = candidates.clone().map(|endpoint| slow_start.weight(endpoint));
    let first = weights.next()?;
    let mut are_equal = true;
    let (count, total) = weights.fold((1_usize, u64::from(first)), |(count, total), weight| {
        are_equal &= weight == first;
        (count.saturating_add(1), total.saturating_add(weight.into()))
    });
    if are_equal {
        return candidates.clone().nth(turn.checked_rem(count)?);
    }
    let place = (turn as u64).wrapping_mul(GOLDEN);
    let mut drawn = u64::try_from((u128::from(place) * u128::from(total)) >> 64).ok()?;
    for endpoint in candidates {
        match drawn.checked_sub(slow_start.weight(endpoint).into()) {
            Some(rest) => drawn = rest,
            None => return Some(endpoint),
        }
    }
    None
}
