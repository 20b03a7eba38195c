//! Who gets how much: many picks on one core and on four, with requests that take their time.

#![expect(clippy::print_stdout, reason = "the shares are figures that somebody may want to read")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use super::*;

const PICKS: usize = 100_000;

/// So many requests are in flight at once on each core.
const AT_ONCE: usize = 16;

fn healthy(count: usize) -> Vec<Arc<Endpoint>> {
    let made = (1..=count as u64).map(|slot| {
        let endpoint = endpoint("h");
        endpoint.health.connected();
        endpoint.set_mark(Mark::of_slot("id", "shop_web", &slot.to_string()));
        endpoint
    });
    made.collect()
}

/// How many of 100,000 requests each endpoint gets. An endpoint answers a request after as many
/// others of its core as `pace` says. Cores have randomness of their own; they take turns here, since
/// threads that are stopped in the middle would occupy endpoints for as long as the machine likes.
fn shares(balance: &Balance, cores: usize, paces: &[usize], slow_start: Duration) -> Vec<usize> {
    let mut shares = vec![0; paces.len()];
    for at in picked(balance, cores, &healthy(paces.len()), paces, slow_start) {
        shares[at] += 1;
    }
    shares
}

/// The places of those that 100,000 requests get, one after the other; see [`shares`].
fn picked(
    balance: &Balance,
    cores: usize,
    endpoints: &[Arc<Endpoint>],
    paces: &[usize],
    slow_start: Duration,
) -> Vec<usize> {
    let mut rngs: Vec<_> = (0..cores as u64).map(fastrand::Rng::with_seed).collect();
    let mut all = Vec::with_capacity(PICKS);
    let mut open = BinaryHeap::<Reverse<(usize, usize, usize)>>::new();
    let mut guards = BTreeMap::new();
    for step in 0..PICKS {
        let now = Timestamp::from_micros(3_600_000_000 + step as u64 * 100);
        while open.peek().is_some_and(|Reverse((due, ..))| *due <= step) {
            let Reverse((_, began, at)) = open.pop().unwrap();
            let took = Duration::from_micros((step - began) as u64 * 100);
            endpoints[at].latency.observe(took, now);
            guards.remove(&began);
        }
        let rng = &mut rngs[step % cores];
        let mut search = Search { slow_start, ..Search::by(balance, now) };
        search.wish.key = hashes(balance).then(|| Key::of(&rng.u64(..).to_le_bytes()));
        let picked = pick(endpoints, &search, || step, rng).unwrap();
        let at = endpoints.iter().position(|endpoint| endpoint.id == picked.id).unwrap();
        all.push(at);
        guards.insert(step, picked.start_request());
        open.push(Reverse((step + paces[at] * cores, step, at)));
    }
    all
}

/// Each share in percent of a fair one.
fn percent(shares: &[usize]) -> Vec<usize> {
    shares.iter().map(|share| share * shares.len() * 100 / PICKS).collect()
}

#[test]
fn equal_endpoints_have_equal_shares_on_one_core_and_on_four() {
    for (balance, within) in BALANCES.iter().zip([3, 0, 5, 5]) {
        for cores in [1, 4] {
            let shares = percent(&shares(balance, cores, &[AT_ONCE; 5], Duration::ZERO));
            println!("{balance:?} on {cores}: {shares:?} % of a fair share");
            let even = |share: &usize| share.abs_diff(100) <= within + 1;
            assert!(shares.iter().all(even), "{balance:?} on {cores}: {shares:?}");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "100,000 is far below 2^52")]
fn percent_of_picks(count: usize) -> f64 {
    count as f64 * 100.0 / PICKS as f64
}

/// Percent of the keys, each asked for once on as many cores, that move when the fourth of ten leaves.
fn moved(cores: usize, at_once: usize) -> f64 {
    let balance = Balance::Hash(HashBy::ClientIp);
    let before = healthy(10);
    let mut after = healthy(10);
    after.remove(3);
    let names = |endpoints: &[Arc<Endpoint>]| {
        let paces = vec![at_once; endpoints.len()];
        let picked = picked(&balance, cores, endpoints, &paces, Duration::ZERO);
        picked.into_iter().map(|at| endpoints[at].mark()).collect::<Vec<_>>()
    };
    let moved = names(&before).iter().zip(names(&after)).filter(|(was, is)| **was != *is).count();
    percent_of_picks(moved)
}

/// A row for each way to balance, on one core and on four.
fn table() -> String {
    let mut text = "| `balance` | workers | least | most | moved when one of ten leaves |\n\
                    |---|---:|---:|---:|---:|\n"
        .to_owned();
    let names = ["`least-request`", "`round-robin`", "`ewma`", "`hash:client-ip`"];
    for (balance, name) in BALANCES.iter().zip(names) {
        for cores in [1, 4] {
            let shares = shares(balance, cores, &[AT_ONCE; 10], Duration::ZERO);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            let [least, most] = [*least, *most].map(percent_of_picks);
            let moved = if hashes(balance) {
                format!("{:.2} %; {:.2} % under load", moved(1, 0), moved(cores, AT_ONCE))
            } else {
                "-".to_owned()
            };
            writeln!(text, "| {name} | {cores} | {least:.2} % | {most:.2} % | {moved} |").unwrap();
        }
    }
    text
}

#[test]
fn the_shares_that_the_documentation_tells_are_these() {
    let table = table();
    println!("{table}");
    let page = include_str!("../../../docs/health.md");
    assert!(page.contains(&table), "docs/health.md must have this table:\n\n{table}");
}

#[test]
fn when_one_of_ten_leaves_no_more_keys_move_than_it_had_and_a_twentieth() {
    for cores in [1, 4] {
        let moved = [moved(cores, 0), moved(cores, AT_ONCE)];
        assert!(moved.iter().all(|moved| (9.0..=15.0).contains(moved)), "{cores}: {moved:?}");
    }
}

#[test]
fn an_endpoint_that_is_20_times_slower_gets_less_by_load_and_least_by_time() {
    let of = |balance| shares(balance, 1, &[40, 2, 2, 2, 2], Duration::ZERO)[0];
    let (turns, least, ewma) =
        (of(&Balance::RoundRobin), of(&Balance::LeastRequest), of(&Balance::Ewma));
    println!("of {PICKS}: {turns} in turns, {least} by load, {ewma} by time");
    assert_eq!(turns, PICKS / 5);
    assert!(least < turns / 2 && ewma < least / 4 && ewma > 0);
}

/// What one of three endpoints gets, in percent of a fair share, that age after it began; the
/// others are so much older.
fn new_ones_share(balance: &Balance, age: Duration, older: Duration) -> usize {
    let endpoints = healthy(3);
    let start = Timestamp::from_micros(3_600_000_000);
    endpoints[2].begins(start + older);
    endpoints[0].begins(start);
    endpoints[1].begins(start);
    let slow_start = Duration::from_secs(30);
    let search = Search { slow_start, ..Search::by(balance, start + older + age) };
    let mut rng = fastrand::Rng::with_seed(5);
    let picked = (0..PICKS).filter(|turn| {
        let picked = pick(&endpoints, &search, || *turn, &mut rng).unwrap();
        picked.id == endpoints[2].id
    });
    picked.count() * 300 / PICKS
}

#[test]
fn a_new_endpoints_share_grows_until_it_is_fair() {
    for balance in &BALANCES[..3] {
        let ages = [0, 3, 9, 15, 21, 27, 30, 60].map(Duration::from_secs);
        let shares = ages.map(|age| new_ones_share(balance, age, Duration::from_mins(10)));
        println!("{balance:?} at 0, 3, 9, 15, 21, 27, 30, 60 s: {shares:?} % of a fair share");
        assert!(shares.is_sorted_by(|one, next| *one <= next + 2), "{balance:?}: {shares:?}");
        assert!(shares[0] <= 15 && (40..=65).contains(&shares[3]), "{balance:?}: {shares:?}");
        assert!(shares[6].abs_diff(100) <= 3 && shares[7].abs_diff(100) <= 3, "{shares:?}");
    }
}

#[test]
fn where_all_are_new_nobody_starts_slowly() {
    for balance in &BALANCES[..3] {
        let share = new_ones_share(balance, Duration::from_millis(50), Duration::from_millis(900));
        assert!(share.abs_diff(100) <= 3, "{balance:?}: {share} %");
    }
}

proptest! {
    #[test]
    fn a_weight_never_falls_with_age(over in 1_u64..100_000, ages in (0_u64..200_000, 0_u64..200_000)) {
        let endpoint = endpoint("h");
        endpoint.begins(Timestamp::from_micros(1));
        let weight = |age: u64| {
            let now = Timestamp::from_micros(1 + age);
            SlowStart { over: Duration::from_micros(over), now }.weight(&endpoint)
        };
        let (younger, older) = (ages.0.min(ages.1), ages.0.max(ages.1));
        prop_assert!(weight(younger) <= weight(older));
        prop_assert!((LEAST..=FULL).contains(&weight(younger)));
        prop_assert_eq!(weight(over), FULL);
    }

    /// The slow reference: nginx's smooth weighted round robin, which keeps running weights.
    #[test]
    fn turns_by_weight_differ_little_from_those_of_running_weights(
        ages in prop::collection::vec(0_u64..1000, 2..6), first in 0_usize..100_000,
    ) {
        let endpoints = healthy(ages.len());
        for (endpoint, age) in endpoints.iter().zip(&ages) {
            endpoint.begins(Timestamp::from_micros(1_000_000 - age));
        }
        let slow_start =
            SlowStart { over: Duration::from_millis(1), now: Timestamp::from_micros(1_000_000) };
        let weights: Vec<_> =
            endpoints.iter().map(|endpoint| i64::from(slow_start.weight(endpoint))).collect();
        let mut running = vec![0; ages.len()];
        let mut ahead = vec![0_i32; ages.len()];
        for turn in first..first + 500 {
            let picked = turns::choose(endpoints.iter(), turn, slow_start).unwrap();
            ahead[endpoints.iter().position(|endpoint| endpoint.id == picked.id).unwrap()] += 1;
            for (running, weight) in running.iter_mut().zip(&weights) {
                *running += weight;
            }
            let at = (0..running.len()).max_by_key(|at| running[*at]).unwrap();
            running[at] -= weights.iter().sum::<i64>();
            ahead[at] -= 1;
            prop_assert!(ahead.iter().all(|ahead| ahead.abs() <= 5), "{ahead:?} at {turn}");
        }
    }
}
