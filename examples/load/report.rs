//! What came of a load: how many were lost and how, how long the others took, who answered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::exchange::Failure;

/// Failures that are kept one by one; more are only counted.
const SAMPLES: usize = 10_000;

/// Failures that are told one by one.
const TOLD: usize = 20;

/// What a client may notice.
pub(crate) const LATE: Duration = Duration::from_millis(250);

/// One request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// When it was to be sent, after the start of the load.
    pub(crate) at: Duration,
    /// How it failed.
    pub(crate) failure: Failure,
    /// What it was, for example `POST reused 10.99.0.1:80 shop.example.com`.
    pub(crate) request: String,
    /// Its `X-Client-Id`.
    pub(crate) id: String,
    /// Who answered, where the answer says so.
    pub(crate) replica: Option<String>,
}

/// The sum of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Requests that were due; each is in `answered` or in `failures`.
    pub(crate) sent: u64,
    /// Requests with the right answer.
    pub(crate) answered: u64,
    /// Requests that failed, by the way they did.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The first failures.
    pub(crate) lost: Vec<Lost>,
    /// Right answers by `X-Replica`; `-` where an answer names nobody.
    pub(crate) replicas: BTreeMap<String, u64>,
    /// Connections that were found closed while idle, before anything was sent: no failure.
    pub(crate) idle_closed: u64,
    /// Connections whose last answer announced their end.
    pub(crate) announced: u64,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Time from when a request was due to its last byte; right answers only.
    latencies: Vec<Duration>,
}

impl Report {
    /// Counts a right answer.
    pub(crate) fn succeed(&mut self, latency: Duration, replica: Option<&str>) {
        self.sent += 1;
        self.answered += 1;
        self.latencies.push(latency);
        *self.replicas.entry(replica.unwrap_or("-").to_owned()).or_default() += 1;
    }

    /// Counts a failure.
    pub(crate) fn fail(&mut self, lost: Lost) {
        self.sent += 1;
        *self.failures.entry(lost.failure).or_default() += 1;
        if self.lost.len() < SAMPLES {
            self.lost.push(lost);
        }
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// How many right answers took longer than that.
    pub(crate) fn later_than(&self, limit: Duration) -> usize {
        self.latencies.iter().filter(|&&latency| latency > limit).count()
    }

    /// Latency that `share` (0 to 1) of the right answers did not exceed; zero without any.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        quantile(&sorted, share)
    }
}

/// The value of a sorted list that `share` (0 to 1) of its values do not exceed; zero if empty.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are far below 2^52 and never negative"
)]
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests, {} failed", self.sent, self.failed())?;
        for (failure, count) in &self.failures {
            writeln!(f, "  {count:>6}  {failure}")?;
        }
        for lost in self.lost.iter().take(TOLD) {
            let Lost { at, failure, request, id, replica } = lost;
            let replica = replica.as_deref().unwrap_or("-");
            writeln!(f, "  at {:.3} s: {request} {id}: {failure} ({replica})", at.as_secs_f64())?;
        }
        writeln!(
            f,
            "latency p50 {:.1?}  p99 {:.1?}  max {:.1?}, {} later than {LATE:?}",
            self.latency(0.5),
            self.latency(0.99),
            self.latency(1.0),
            self.later_than(LATE)
        )?;
        writeln!(
            f,
            "connections: {} opened, {} closed as announced, {} found closed while idle",
            self.opened, self.announced, self.idle_closed
        )?;
        for (replica, count) in &self.replicas {
            writeln!(f, "  {count:>6}  answered by {replica}")?;
        }
        Ok(())
    }
}
