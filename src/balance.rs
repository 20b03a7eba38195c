//! Which endpoint takes the next request.
//!
//! Pure choices over a slice: no lock, no queue, no allocation. Randomness and turns are passed in.
//! First the tier is found, then somebody in it: by the request's session, by its key, or by load.

mod hashing;
mod slow_start;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::affinity::Wish;
use crate::balance::slow_start::SlowStart;
use crate::health::State;
use crate::spec::Balance;
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, EndpointId};

/// How good an endpoint is at this moment. The best tier that has anyone takes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Healthy,
    /// A dial to it is overdue: it may be gone.
    Suspect,
    Ejected,
    /// Says that it is not well. If all do, the check may be wrong.
    Unhealthy,
    /// The last resort: Swarm has announced its end, but it still accepts.
    Draining,
}

const TIERS: [Tier; 5] =
    [Tier::Healthy, Tier::Suspect, Tier::Ejected, Tier::Unhealthy, Tier::Draining];

fn tier(endpoint: &Endpoint, now: Timestamp) -> Option<Tier> {
    match endpoint.health.state(now) {
        State::Probation if endpoint.health.is_being_tried(now) => Some(Tier::Ejected),
        State::Healthy | State::Probation if endpoint.health.is_suspect() => Some(Tier::Suspect),
        State::Healthy | State::Probation => Some(Tier::Healthy),
        State::Ejected => Some(Tier::Ejected),
        State::Unhealthy => Some(Tier::Unhealthy),
        State::Draining => Some(Tier::Draining),
        State::Pending | State::Down => None,
    }
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Search<'s> {
    /// How the route balances.
    pub balance: &'s Balance,
    /// Whether requests are gRPC calls, of which long polls are no load.
    pub calls: bool,
    /// What the request asks for.
    pub wish: Wish,
    /// Over how long new endpoints start.
    pub slow_start: Duration,
    /// An endpoint that has so many requests in flight has no room; none if there is no limit.
    pub room: Option<usize>,
    /// Endpoints that are left out.
    pub tried: &'s [EndpointId],
    /// Whether the request cannot be sent twice: then it is kept from endpoints that may be told to end
    /// at any moment. They close idle connections, and what is on its way on one of them is lost.
    pub once: bool,
    /// The time.
    pub now: Timestamp,
}

impl<'s> Search<'s> {
    /// For an endpoint that is chosen by load alone.
    pub fn by(balance: &'s Balance, now: Timestamp) -> Self {
        let (wish, slow_start) = (Wish::default(), Duration::ZERO);
        Self { balance, calls: false, wish, slow_start, room: None, tried: &[], once: false, now }
    }

    /// How much an endpoint has to do.
    fn load(&self, endpoint: &Endpoint) -> usize {
        if self.calls {
            return endpoint.young_calls(self.now);
        }
        endpoint.in_flight().saturating_add(endpoint.silence.weight(self.now))
    }

    /// Whether an endpoint has room for one more request.
    pub fn has_room(&self, endpoint: &Endpoint) -> bool {
        self.room.is_none_or(|room| endpoint.in_flight() < room)
    }

    fn finds(&self, endpoint: &Endpoint, wanted: Tier) -> bool {
        tier(endpoint, self.now) == Some(wanted)
            && self.has_room(endpoint)
            && !(self.once && endpoint.health.is_about_to_end(self.now))
            && !self.tried.contains(&endpoint.id)
    }
}

/// Chooses an endpoint that accepts connections, has room and is not left out; none if there is none.
/// That of the request's session is chosen also without room: it is worth waiting for.
///
/// `turn` is used by round robin, `rng` by what draws.
pub fn pick<'e>(
    endpoints: &'e [Arc<Endpoint>],
    search: &Search<'_>,
    turn: impl FnOnce() -> usize,
    rng: &mut Rng,
) -> Option<&'e Arc<Endpoint>> {
    // What nearly all requests want, before anything else is asked.
    if matches!(search.balance, Balance::LeastRequest)
        && search.wish == Wish::default()
        && search.slow_start.is_zero()
        && let Some((one, other)) = draw_two(endpoints, rng)
        && search.finds(one, Tier::Healthy)
        && search.finds(other, Tier::Healthy)
    {
        return Some(less_loaded(one, other, search));
    }
    pick_closely(endpoints, search, turn, rng)
}

fn pick_closely<'e>(
    endpoints: &'e [Arc<Endpoint>],
    search: &Search<'_>,
    turn: impl FnOnce() -> usize,
    rng: &mut Rng,
) -> Option<&'e Arc<Endpoint>> {
    let Search { wish, now, .. } = *search;
    let slow_start = SlowStart { over: search.slow_start, now };
    let choose = |one, other, rng: &mut Rng| {
        let chosen = match search.balance {
            Balance::Ewma => sooner(one, other, search),
            Balance::LeastRequest | Balance::RoundRobin | Balance::Hash(_) => {
                less_loaded(one, other, search)
            }
        };
        slow_start.or_older(chosen, if Arc::ptr_eq(chosen, one) { other } else { one }, rng)
    };
    let meant = of_session(endpoints, search).or_else(|| first_of_key(endpoints, search));
    if meant.is_some() {
        return meant;
    }
    if wish.key.is_none()
        && !matches!(search.balance, Balance::RoundRobin)
        && let Some((one, other)) = draw_two(endpoints, rng)
        && search.finds(one, Tier::Healthy)
        && search.finds(other, Tier::Healthy)
    {
        return Some(choose(one, other, rng));
    }
    let candidates =
        |wanted| endpoints.iter().filter(move |endpoint| search.finds(endpoint, wanted));
    let best = TIERS.into_iter().find(|&wanted| candidates(wanted).next().is_some())?;
    match (best, wish.key, search.balance) {
        (Tier::Ejected, _, _) => {
            candidates(best).min_by_key(|endpoint| endpoint.health.ejected_until())
        }
        (_, Some(key), _) => hashing::choose(candidates(best), key, search),
        (_, None, Balance::RoundRobin) => turns::choose(candidates(best), turn(), slow_start),
        (_, None, Balance::LeastRequest | Balance::Ewma | Balance::Hash(_)) => {
            // Other cores may have taken the last one's health or room by now.
            let Some((one, other)) = two_of(candidates(best).count(), rng) else {
                return candidates(best).next();
            };
            Some(choose(candidates(best).nth(one)?, candidates(best).nth(other)?, rng))
        }
    }
}

/// The endpoint that the request's session is on, while it takes requests. A dial to it that is
/// overdue is no reason to move: an open connection may be there.
fn of_session<'e>(
    endpoints: &'e [Arc<Endpoint>],
    search: &Search<'_>,
) -> Option<&'e Arc<Endpoint>> {
    let mark = search.wish.session?;
    endpoints.iter().find(|endpoint| {
        endpoint.mark() == Some(mark)
            && matches!(tier(endpoint, search.now), Some(Tier::Healthy | Tier::Suspect))
            && !search.tried.contains(&endpoint.id)
    })
}

/// The endpoint that the request's key prefers to all others, if it is good and has little to do.
fn first_of_key<'e>(
    endpoints: &'e [Arc<Endpoint>],
    search: &Search<'_>,
) -> Option<&'e Arc<Endpoint>> {
    let first = hashing::first(endpoints, search.wish.key?)?;
    (search.finds(first, Tier::Healthy) && hashing::is_free(first, search)).then_some(first)
}

/// Two different endpoints, each pair as likely as any other; none if there are fewer than two.
fn draw_two<'e>(
    endpoints: &'e [Arc<Endpoint>],
    rng: &mut Rng,
) -> Option<(&'e Arc<Endpoint>, &'e Arc<Endpoint>)> {
    let (one, other) = two_of(endpoints.len(), rng)?;
    Some((endpoints.get(one)?, endpoints.get(other)?))
}

/// The places of two different ones among so many, each pair as likely as any other.
fn two_of(count: usize, rng: &mut Rng) -> Option<(usize, usize)> {
    let others = count.checked_sub(1).filter(|others| *others > 0)?;
    let first = rng.usize(..count);
    // One of the others: those from the first one on move up by one.
    let second = rng.usize(..others);
    Some((first, if second >= first { second.saturating_add(1) } else { second }))
}

/// Power of two choices (Mitzenmacher 2001): nearly as even as asking all, and no herd runs to the
/// one that was idle a moment ago.
fn less_loaded<'e>(
    one: &'e Arc<Endpoint>,
    other: &'e Arc<Endpoint>,
    search: &Search<'_>,
) -> &'e Arc<Endpoint> {
    if search.load(other) < search.load(one) { other } else { one }
}

/// The one of two that is likely to answer sooner.
fn sooner<'e>(
    one: &'e Arc<Endpoint>,
    other: &'e Arc<Endpoint>,
    search: &Search<'_>,
) -> &'e Arc<Endpoint> {
    if expected_micros(other, search) < expected_micros(one, search) { other } else { one }
}

/// How long a request would take that is sent now, if each waited for those before it.
///
/// One that has not been measured gets a request at once, and no more before that is answered: to
/// take it for quick would send it everything there is.
#[expect(clippy::cast_precision_loss, reason = "a difference of one in 16 million is none")]
fn expected_micros(endpoint: &Endpoint, search: &Search<'_>) -> f32 {
    const UNKNOWN: f32 = 1e12;
    let load = search.load(endpoint);
    let micros = endpoint.latency.micros(search.now, load > 0);
    micros.map_or(UNKNOWN * load as f32, |micros| micros * (load as f32 + 1.0))
}

#[cfg(test)]
mod tests;
