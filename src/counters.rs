//! What is counted about requests, in one cell per core.
//!
//! A core writes only its own cell, so its lock is free but for the moment of a scrape, and no line
//! of memory travels between cores. `metrics` sums the cells when Prometheus asks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use foldhash::{HashMap, HashMapExt};

/// Upper bounds of the latency buckets in seconds; twelve, so that series stay few.
pub const LATENCY_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// One value of `T` per core.
#[derive(Debug)]
pub struct PerCore<T> {
    first: CachePadded<Mutex<T>>,
    others: Box<[CachePadded<Mutex<T>>]>,
}

impl<T: Default> PerCore<T> {
    /// Cells for that many cores, at least one.
    pub fn new(cores: usize) -> Self {
        let others = (1..cores).map(|_| CachePadded::default());
        Self { first: CachePadded::default(), others: others.collect() }
    }

    /// The cell of one core; a core that does not exist shares the first one's.
    pub fn of(&self, core: usize) -> MutexGuard<'_, T> {
        let other = core.checked_sub(1).and_then(|at| self.others.get(at));
        lock(other.unwrap_or(&self.first))
    }

    /// All cells, one after the other.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        std::iter::once(&self.first).chain(&self.others).map(|cell| lock(cell))
    }
}

/// A panic while counting leaves a count behind that is as good as any.
fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long something took, as Prometheus wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket, not accumulated; the last is beyond all bounds.
    pub buckets: [u64; LATENCY_BUCKETS.len() + 1],
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket = bucket.saturating_add(1);
        }
        self.sum += seconds;
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(more);
        }
        self.sum += other.sum;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound in seconds that so many percent of the observations do not exceed; none if there
    /// were none. Beyond all bounds it is the largest, as with Prometheus's `histogram_quantile`.
    pub fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = self.count().saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0_u64;
        let at = self.buckets.iter().position(|within| {
            below = below.saturating_add(*within);
            below >= rank
        })?;
        LATENCY_BUCKETS.get(at).or(LATENCY_BUCKETS.last()).copied()
    }
}

/// Words of counters that only grow.
#[derive(Clone, Debug)]
pub struct Tally<K>(HashMap<K, u64>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + std::hash::Hash + Copy> Tally<K> {
    /// Counts one of this kind.
    pub fn count(&mut self, kind: K) {
        let seen = self.0.entry(kind).or_default();
        *seen = seen.saturating_add(1);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (kind, more) in &other.0 {
            let seen = self.0.entry(*kind).or_default();
            *seen = seen.saturating_add(*more);
        }
    }

    /// Each kind that was seen, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// A method as a metric label: what a client makes up becomes `OTHER`.
pub fn method_word(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// One core's view of one route.
#[derive(Debug, Default)]
pub struct RouteCell {
    /// By listener, method and status code.
    pub requests: Tally<(usize, &'static str, u16)>,
    /// How gRPC calls ended, by the name of the status.
    pub calls: Tally<&'static str>,
    /// From the request head to the last byte of the response.
    pub duration: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
}

/// One core's view of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointCell {
    /// By outcome.
    pub requests: Tally<&'static str>,
    /// From the request's last byte to the response head.
    pub response: Histogram,
    /// Second tries after this endpoint failed, by reason.
    pub retries: Tally<&'static str>,
    /// Times it was left out for failing, by reason.
    pub ejections: Tally<&'static str>,
    /// Active checks, by result.
    pub checks: Tally<&'static str>,
    /// Requests that speak for its health.
    pub well: u64,
    /// Requests that speak against it.
    pub ill: u64,
}

impl EndpointCell {
    /// Counts a request by its outcome, and what it says about the endpoint's health, if anything.
    pub fn count(&mut self, outcome: &'static str, is_well: Option<bool>) {
        self.requests.count(outcome);
        match is_well {
            Some(true) => self.well = self.well.saturating_add(1),
            Some(false) => self.ill = self.ill.saturating_add(1),
            None => {}
        }
    }

    /// A request that was counted as good by the head of its answer was not answered to the end.
    pub fn cut(&mut self) {
        self.well = self.well.saturating_sub(1);
        self.ill = self.ill.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_is_not_below_it() {
        let mut histogram = Histogram::default();
        for micros in [1, 1000, 1001, 20_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        assert_eq!(histogram.buckets.first(), Some(&2));
        assert_eq!(histogram.buckets.get(1), Some(&1));
        assert_eq!(histogram.buckets.last(), Some(&1));
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn a_percentile_is_the_bound_of_the_bucket_that_it_falls_into() {
        let check = |millis: &[u64], percent, bound| {
            let mut histogram = Histogram::default();
            for millis in millis {
                histogram.observe(Duration::from_millis(*millis));
            }
            assert_eq!(histogram.percentile(percent), bound, "p{percent} of {millis:?}");
        };
        check(&[], 99, None);
        check(&[3], 99, Some(0.005));
        check(&[3, 3, 3, 70], 75, Some(0.005));
        check(&[3, 3, 3, 70], 76, Some(0.1));
        check(&[20_000], 50, Some(10.0));
    }

    #[test]
    fn a_core_that_does_not_exist_still_counts() {
        let cells = PerCore::<EndpointCell>::new(2);
        cells.of(0).requests.count("ok");
        cells.of(1).requests.count("ok");
        cells.of(9).requests.count("ok");
        let mut all = Tally::default();
        cells.each().for_each(|cell| all.add(&cell.requests));
        assert_eq!(all.iter().collect::<Vec<_>>(), [("ok", 3)]);
    }
}
