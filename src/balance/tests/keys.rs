//! Hashing and sessions: what stays where it is, what moves, and how full anybody gets.

use super::*;
use crate::balance::hashing::bound;
use crate::upstream::InFlight;

/// Healthy endpoints with the marks of slots from 1 on, at addresses that say nothing.
fn slots(count: usize) -> Vec<Arc<Endpoint>> {
    let slots = (1..=count).map(|slot| {
        let endpoint = endpoint(&slot.to_string());
        endpoint.set_mark(Mark::of_slot("id", "shop_web", &slot.to_string()));
        endpoint.health.connected();
        endpoint
    });
    slots.collect()
}

fn by_key(endpoints: &[Arc<Endpoint>], key: usize) -> &Arc<Endpoint> {
    let balance = Balance::Hash(HashBy::ClientIp);
    let mut search = Search::by(&balance, Timestamp::START);
    search.wish.key = Some(Key::of(format!("client {key}").as_bytes()));
    pick(endpoints, &search, || 0, &mut fastrand::Rng::with_seed(0)).unwrap()
}

fn name(endpoint: &Endpoint) -> String {
    endpoint.name.load().to_string()
}

#[test]
fn when_one_of_ten_leaves_only_what_it_had_moves_and_to_all_the_others() {
    const KEYS: usize = 20_000;
    let before = slots(10);
    let mut after = before.clone();
    let gone = after.remove(3);
    let mut moved_to = BTreeMap::<_, usize>::new();
    for key in 0..KEYS {
        let (was, is) = (by_key(&before, key), by_key(&after, key));
        if was.id == gone.id {
            *moved_to.entry(name(is)).or_default() += 1;
        } else {
            assert_eq!(was.id, is.id, "key {key} moved without need");
        }
    }
    let moved: usize = moved_to.values().sum();
    assert!((KEYS * 9 / 100..=KEYS * 11 / 100).contains(&moved), "{moved} of {KEYS} moved");
    assert_eq!(moved_to.len(), 9);
    let most = moved_to.values().max().unwrap();
    assert!(most * 9 <= moved * 13 / 10, "{moved_to:?}");
}

#[test]
fn all_edges_agree_whatever_the_addresses_and_their_order() {
    let here = slots(7);
    let mut there: Vec<_> = slots(7);
    there.reverse();
    for key in 0..1000 {
        assert_eq!(name(by_key(&here, key)), name(by_key(&there, key)));
    }
}

#[test]
fn one_key_that_everybody_has_fills_nobody_above_the_bound() {
    let endpoints = slots(10);
    let mut guards = Vec::<InFlight>::new();
    for load in 0..1000 {
        let picked = by_key(&endpoints, 7);
        assert!(picked.in_flight() < bound(load, 10), "{} of {load}", picked.in_flight());
        guards.push(picked.start_request());
    }
    let most = endpoints.iter().map(|endpoint| endpoint.in_flight()).max().unwrap();
    assert!(most <= 131, "{most} of 1000 on one of ten");
}

#[test]
fn few_requests_of_one_key_stay_together() {
    let endpoints = slots(10);
    let first = by_key(&endpoints, 7);
    let guards: Vec<_> = (0..8).map(|_| by_key(&endpoints, 7).start_request()).collect();
    assert!(guards.iter().all(|guard| guard.endpoint().id == first.id));
    assert_ne!(by_key(&endpoints, 7).id, first.id);
}

#[test]
fn a_session_stays_with_its_slot_until_that_takes_no_requests() {
    let endpoints = slots(3);
    let mut search = Search::by(&Balance::LeastRequest, Timestamp::START);
    search.wish.session = endpoints[1].mark();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut picked = |search: &Search<'_>| {
        let all: Vec<_> =
            (0..50).map(|_| name(pick(&endpoints, search, || 0, &mut rng).unwrap())).collect();
        all.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<String>()
    };
    let _busy: Vec<_> = (0..100).map(|_| endpoints[1].start_request()).collect();
    assert_eq!(picked(&search), "2", "however busy it is");
    assert_eq!(picked(&Search { room: Some(5), ..search.clone() }), "2", "it is waited for");
    endpoints[1].health.dial_overdue();
    assert_eq!(picked(&search), "2");
    endpoints[1].health.overdue_dial_ended();
    assert_eq!(picked(&Search { tried: &[endpoints[1].id], ..search.clone() }), "13");
    endpoints[1].health.set_draining(true, NOW);
    assert_eq!(picked(&search), "13");
    search.wish.key = Some(Key::of(b"203.0.113.7"));
    assert_eq!(picked(&search).len(), 1, "by its key it moves once");
}

proptest! {
    #[test]
    fn the_bound_leaves_room_for_one_more_and_is_a_quarter_above_the_share_or_what_chance_does(
        loads in prop::collection::vec(0_usize..300, 1..20),
    ) {
        let (load, count) = (loads.iter().sum::<usize>(), loads.len());
        let most = bound(load, count);
        prop_assert!(loads.iter().any(|load| *load < most));
        let share = (load + 1).div_ceil(count);
        let by_chance = most <= share + 3 * share.isqrt();
        prop_assert!(most <= 8 || by_chance || (most - 1) * 4 * count < (load + 1) * 5);
    }

    /// The slow reference: all ranks sorted, the first below the bound.
    #[test]
    fn hashing_chooses_as_by_a_sorted_list(
        loads in prop::collection::vec(0_usize..30, 1..8), key: usize,
    ) {
        let endpoints = slots(loads.len());
        let mut guards = Vec::new();
        for (endpoint, load) in endpoints.iter().zip(&loads) {
            guards.extend((0..*load).map(|_| endpoint.start_request()));
        }
        let hashed = Key::of(format!("client {key}").as_bytes());
        let mut ranked = endpoints.clone();
        ranked.sort_by_key(|endpoint| std::cmp::Reverse(hashed.rank(endpoint.mark().unwrap().bits())));
        let most = bound(loads.iter().sum(), loads.len());
        let expected = ranked.iter().find(|endpoint| endpoint.in_flight() < most).unwrap();
        prop_assert_eq!(by_key(&endpoints, key).id, expected.id);
    }
}
