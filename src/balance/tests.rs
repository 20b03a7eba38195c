mod keys;
mod model;
mod parked;
mod shares;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::slow_start::{FULL, LEAST, SlowStart};
use super::*;
use crate::affinity::{Key, Mark};
use crate::health::checks::Checks;
use crate::health::ejection::{Failed, Siblings};
use crate::spec::{Check, Eject, HashBy};
use crate::upstream::silence;

fn endpoint(name: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new("127.0.0.1:1".parse().unwrap(), name, 1))
}

const NOW: Timestamp = Timestamp::from_micros(60_000_000);

fn eject(endpoint: &Endpoint, at: Timestamp) {
    let policy = Eject { consecutive: 1, ..Eject::default() };
    let others = || Siblings { healthy: 1, ..Siblings::default() };
    let ejected =
        endpoint.health.failed(&Failed { sent: at, at, jitter: 0, cut: false }, &policy, others);
    assert!(ejected.is_some());
}

/// Endpoints by their states: `h`ealthy, `s`uspect, `e`jected, `u`nhealthy, `d`raining, `p`ending,
/// down `x`; on probation, with nobody trying it (`o`) or with somebody (`t`).
fn endpoints(states: &str) -> Vec<Arc<Endpoint>> {
    let made = states.chars().zip(1..).map(|(state, slot)| {
        let endpoint = endpoint(&state.to_string());
        endpoint.set_mark(Mark::from_bits(slot).unwrap());
        if state != 'p' {
            endpoint.health.connected();
        }
        match state {
            's' => endpoint.health.dial_overdue(),
            'd' => endpoint.health.set_draining(true, NOW),
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
fn picks(endpoints: &[Arc<Endpoint>], balance: &Balance) -> BTreeMap<String, usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut picks = BTreeMap::new();
    for turn in 0..1000_usize {
        let mut search = Search::by(balance, NOW);
        search.wish.key = hashes(balance).then(|| Key::of(&turn.to_le_bytes()));
        let picked = pick(endpoints, &search, || turn, &mut rng);
        let name = picked.map_or_else(|| "-".to_owned(), |picked| picked.name.load().to_string());
        *picks.entry(name).or_default() += 1;
    }
    picks
}

const BALANCES: [Balance; 4] =
    [Balance::LeastRequest, Balance::RoundRobin, Balance::Ewma, Balance::Hash(HashBy::ClientIp)];

const fn hashes(balance: &Balance) -> bool {
    matches!(balance, Balance::Hash(_))
}

fn check(states: &str, picked: &str) {
    for balance in &BALANCES {
        let names: String = picks(&endpoints(states), balance).into_keys().collect();
        assert_eq!(names, picked, "{states} {balance:?}");
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
            let search = Search::by(&Balance::RoundRobin, NOW);
            pick(&endpoints, &search, || turn, &mut rng)
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
    let balance = Balance::LeastRequest;
    let search = Search { tried: &tried, ..Search::by(&balance, NOW) };
    for _ in 0..100 {
        let picked = pick(&endpoints, &search, || 0, &mut rng);
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
            let search = Search::by(&Balance::LeastRequest, NOW);
            let picked = pick(&endpoints, &search, || 0, &mut rng);
            prop_assert_ne!(picked.unwrap().id, endpoints[0].id);
        }
    }

    #[test]
    fn someone_is_picked_whenever_someone_accepts_and_nobody_else(
        states in "[hseotudpx]{0,6}", seed: u64, balance in 0_usize..4, session in 1_u64..8,
        slow: bool, key: Option<u64>, loads in prop::collection::vec(0_usize..20, 6),
    ) {
        let endpoints = endpoints(&states);
        let mut guards = Vec::new();
        for (slot, endpoint) in endpoints.iter().enumerate() {
            endpoint.set_mark(Mark::from_bits(slot as u64 + 1).unwrap());
            guards.extend((0..loads[slot]).map(|_| endpoint.start_request()));
        }
        let now = NOW;
        let mut search = Search::by(&BALANCES[balance], now);
        search.wish.session = Mark::from_bits(session);
        search.wish.key = key.map(|key| Key::of(&key.to_le_bytes()));
        search.slow_start = Duration::from_secs(u64::from(slow));
        let mut rng = fastrand::Rng::with_seed(seed);
        let picked = pick(&endpoints, &search, || 3, &mut rng);
        let tiers = endpoints.iter().filter_map(|endpoint| tier(endpoint, now));
        let best = tiers.min();
        prop_assert_eq!(picked.is_some(), best.is_some());
        let Some(picked) = picked else { return Ok(()) };
        let of_session = picked.mark() == search.wish.session;
        let found = tier(picked, now);
        prop_assert!(found == best || (of_session && found == Some(Tier::Suspect)), "{states}");
        let full: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        search.tried = &full;
        prop_assert!(pick(&endpoints, &search, || 3, &mut rng).is_none());
    }
}

#[test]
fn who_has_just_stopped_answering_is_passed_over_until_others_have_more_to_do() {
    let endpoints = endpoints("hh");
    let [dead, other] = &endpoints[..] else { panic!("two endpoints") };
    let _swallowed = dead.start_request();
    dead.silence.asked(Timestamp::from_micros(NOW.as_micros() - 450_000));
    let mut rng = fastrand::Rng::with_seed(7);
    for balance in [Balance::LeastRequest, Balance::Hash(HashBy::ClientIp)] {
        let mut in_flight = Vec::new();
        let mut goes_to_other = || {
            let search = Search::by(&balance, NOW);
            let mut picked = |_| pick(&endpoints, &search, || 0, &mut rng).unwrap().id == other.id;
            (0..100).all(&mut picked)
        };
        for _ in 0..=silence::MOST {
            assert!(goes_to_other(), "{} in flight", in_flight.len());
            in_flight.push(other.start_request());
        }
        in_flight.push(other.start_request());
        assert!(!goes_to_other());
    }
}

#[test]
fn two_are_compared_also_where_a_third_drains() {
    let endpoints = endpoints("dhh");
    let [_, busy, idle] = &endpoints[..] else { panic!("three endpoints") };
    let _request = busy.start_request();
    let mut rng = fastrand::Rng::with_seed(7);
    let search = Search::by(&Balance::LeastRequest, NOW);
    for _ in 0..100 {
        assert_eq!(pick(&endpoints, &search, || 0, &mut rng).unwrap().id, idle.id);
    }
}
