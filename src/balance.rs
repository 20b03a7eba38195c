//! Which endpoint takes the next request.
//!
//! Pure choices over a slice: no lock, no queue, no allocation. Randomness and turns are passed in.

use std::sync::Arc;

use fastrand::Rng;

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

/// Chooses an endpoint that accepts connections and is not in `tried`; none if there is none.
///
/// `turn` is used by round robin, `rng` by least request.
pub fn pick<'e>(
    endpoints: &'e [Arc<Endpoint>],
    balance: Balance,
    tried: &[EndpointId],
    now: Timestamp,
    turn: impl FnOnce() -> usize,
    rng: &mut Rng,
) -> Option<&'e Arc<Endpoint>> {
    let usable = |endpoint: &Endpoint, wanted| {
        tier(endpoint, now) == Some(wanted) && !tried.contains(&endpoint.id)
    };
    if balance == Balance::LeastRequest
        && let Some((one, other)) = draw_two(endpoints, rng)
        && usable(one, Tier::Healthy)
        && usable(other, Tier::Healthy)
    {
        return Some(less_loaded(one, other));
    }
    let candidates = |wanted| endpoints.iter().filter(move |endpoint| usable(endpoint, wanted));
    let best = TIERS.into_iter().find(|&wanted| candidates(wanted).next().is_some())?;
    match (best, balance) {
        (Tier::Ejected, _) => {
            candidates(best).min_by_key(|endpoint| endpoint.health.ejected_until())
        }
        (_, Balance::RoundRobin) => {
            let count = candidates(best).count();
            candidates(best).nth(turn().checked_rem(count)?)
        }
        (_, Balance::LeastRequest) => {
            let count = candidates(best).count();
            let one = candidates(best).nth(rng.usize(..count))?;
            let other = candidates(best).nth(rng.usize(..count))?;
            Some(less_loaded(one, other))
        }
    }
}

/// Two different endpoints, each pair as likely as any other; none if there are fewer than two.
fn draw_two<'e>(
    endpoints: &'e [Arc<Endpoint>],
    rng: &mut Rng,
) -> Option<(&'e Arc<Endpoint>, &'e Arc<Endpoint>)> {
    let others = endpoints.len().checked_sub(1).filter(|others| *others > 0)?;
    let first = rng.usize(..endpoints.len());
    // One of the others: those from the first one on move up by one.
    let second = rng.usize(..others);
    let second = if second >= first { second.saturating_add(1) } else { second };
    Some((endpoints.get(first)?, endpoints.get(second)?))
}

/// Power of two choices (Mitzenmacher 2001): nearly as even as asking all, and no herd runs to the
/// one that was idle a moment ago.
fn less_loaded<'e>(one: &'e Arc<Endpoint>, other: &'e Arc<Endpoint>) -> &'e Arc<Endpoint> {
    if other.in_flight() < one.in_flight() { other } else { one }
}

#[cfg(test)]
mod tests {
    mod model;

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Arc, Balance, Endpoint, Timestamp, pick};
    use crate::health::checks::Checks;
    use crate::health::ejection::{Failed, Siblings};
    use crate::spec::{Check, Eject};

    fn endpoint(name: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint::new("127.0.0.1:1".parse().unwrap(), name, 1))
    }

    const NOW: Timestamp = Timestamp::from_micros(60_000_000);

    fn eject(endpoint: &Endpoint, at: Timestamp) {
        let policy = Eject { consecutive: 1, ..Eject::default() };
        let others = || Siblings { healthy: 1, ..Siblings::default() };
        let ejected = endpoint.health.failed(&Failed { sent: at, at, jitter: 0 }, &policy, others);
        assert!(ejected.is_some());
    }

    /// Endpoints by their states: `h`ealthy, `s`uspect, `e`jected, `u`nhealthy, `d`raining, `p`ending,
    /// down `x`; on probation, with nobody trying it (`o`) or with somebody (`t`).
    fn endpoints(states: &str) -> Vec<Arc<Endpoint>> {
        let made = states.chars().map(|state| {
            let endpoint = endpoint(&state.to_string());
            if state != 'p' {
                endpoint.health.connected();
            }
            match state {
                's' => endpoint.health.dial_overdue(),
                'd' => endpoint.health.set_draining(true),
                'x' => drop(endpoint.health.refused()),
                'e' => eject(&endpoint, NOW),
                'o' => eject(&endpoint, Timestamp::START),
                't' => {
                    eject(&endpoint, Timestamp::START);
                    endpoint.health.enter(NOW);
                }
                'u' => {
                    let check = Check { fall: 1, ..Check::default() };
                    Checks::default().failed(&endpoint.health, &check, NOW);
                }
                _ => {}
            }
            endpoint
        });
        made.collect()
    }

    /// How often each state is picked in 1,000 picks.
    fn picks(endpoints: &[Arc<Endpoint>], balance: Balance) -> BTreeMap<String, usize> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut picks = BTreeMap::new();
        for turn in 0..1000 {
            let picked = pick(endpoints, balance, &[], NOW, || turn, &mut rng);
            let name =
                picked.map_or_else(|| "-".to_owned(), |picked| picked.name.load().to_string());
            *picks.entry(name).or_default() += 1;
        }
        picks
    }

    fn check(states: &str, picked: &str) {
        for balance in [Balance::LeastRequest, Balance::RoundRobin] {
            let names: String = picks(&endpoints(states), balance).into_keys().collect();
            assert_eq!(names, picked, "{states}");
        }
    }

    #[test]
    fn the_best_tier_that_has_anyone_takes_the_request() {
        check("", "-");
        check("px", "-");
        check("hsetudpx", "h");
        check("setudpx", "s");
        check("eeudpx", "e");
        check("etudpx", "t");
        check("udpx", "u");
        check("dpx", "d");
        check("dddh", "h");
    }

    #[test]
    fn on_probation_it_takes_part_until_somebody_tries_it() {
        check("hoe", "ho");
        check("hte", "h");
    }

    #[test]
    fn round_robin_takes_turns_among_the_healthy() {
        let endpoints = endpoints("hhphx");
        let mut rng = fastrand::Rng::with_seed(1);
        let turns: Vec<_> = (0..6)
            .map(|turn| {
                pick(&endpoints, Balance::RoundRobin, &[], NOW, || turn, &mut rng)
                    .map(|picked| endpoints.iter().position(|e| e.id == picked.id).unwrap())
                    .unwrap()
            })
            .collect();
        assert_eq!(turns, [0, 1, 3, 0, 1, 3]);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let endpoints = endpoints("hh");
        let tried = [endpoints[0].id];
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let picked = pick(&endpoints, Balance::LeastRequest, &tried, NOW, || 0, &mut rng);
            assert_eq!(picked.unwrap().id, endpoints[1].id);
        }
    }

    proptest! {
        #[test]
        fn least_request_never_picks_the_one_that_is_busiest_by_far(
            loads in prop::collection::vec(0_usize..5, 2..8), seed: u64,
        ) {
            let endpoints: Vec<_> = loads.iter().map(|_| endpoint("h")).collect();
            let mut guards = Vec::new();
            for (endpoint, load) in endpoints.iter().zip(&loads) {
                endpoint.health.connected();
                guards.extend((0..*load).map(|_| endpoint.start_request()));
            }
            guards.extend((0..10).map(|_| endpoints[0].start_request()));
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..50 {
                let picked = pick(
                    &endpoints, Balance::LeastRequest, &[], NOW, || 0, &mut rng,
                );
                prop_assert_ne!(picked.unwrap().id, endpoints[0].id);
            }
        }

        #[test]
        fn someone_is_picked_whenever_someone_accepts(states in "[hseotudpx]{0,6}", seed: u64) {
            let endpoints = endpoints(&states);
            let accepts = endpoints.iter().any(|e| e.health.state(NOW).accepts());
            let mut rng = fastrand::Rng::with_seed(seed);
            let picked =
                pick(&endpoints, Balance::LeastRequest, &[], NOW, || 0, &mut rng);
            prop_assert_eq!(picked.is_some(), accepts);
        }
    }
}
