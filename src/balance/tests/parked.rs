//! gRPC calls that stay open for minutes beside calls of milliseconds: what each endpoint gets.

use super::*;

const CALLS: u64 = 20_000;

/// How many of 20,000 calls, one each millisecond, two endpoints get that hold so many parked ones and
/// answer within so many milliseconds.
fn shares(balance: &Balance, parked: [usize; 2], paces: [u64; 2]) -> [usize; 2] {
    let endpoints: Vec<_> = endpoints("hh");
    let millis = |millis| Timestamp::from_micros(3_600_000_000 + millis * 1000);
    let each = || endpoints.iter().zip(parked);
    let _parked: Vec<_> =
        each().flat_map(|(to, many)| (0..many).map(|_| to.start_call(millis(0)))).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut open = BTreeMap::new();
    let mut shares = [0; 2];
    for step in 0..CALLS {
        let now = millis(5000 + step);
        open.retain(|(due, _), _| *due > step);
        let search = Search { calls: true, ..Search::by(balance, now) };
        let picked = pick(&endpoints, &search, || 0, &mut rng).unwrap();
        let at = endpoints.iter().position(|endpoint| endpoint.id == picked.id).unwrap();
        shares[at] += 1;
        if balance == &Balance::Ewma {
            picked.latency.observe(Duration::from_millis(paces[at]), now);
        }
        open.insert((step + paces[at], step), picked.start_call(now));
    }
    shares
}

#[test]
fn parked_calls_do_not_decide_who_gets_the_next() {
    for balance in [Balance::LeastRequest, Balance::Ewma] {
        // The second has just started anew: it holds none of the polls yet.
        let [old, new] = shares(&balance, [600, 0], [5, 5]);
        assert!(old.abs_diff(new) < 20_000 * 3 / 100, "{balance:?}: {old} and {new}");
    }
}

#[test]
fn an_endpoint_that_hangs_never_looks_idle() {
    let [hangs, answers] = shares(&Balance::LeastRequest, [0, 0], [1_000_000, 5]);
    assert!(hangs * 20 < answers, "{hangs} and {answers}");
}
