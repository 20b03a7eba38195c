//! A steady load on several nodes at once, told apart by node.

use std::fmt;
use std::time::Duration;

use super::addresses;
use crate::load::{Load, Plan, Target};
use crate::report::Report;

/// Requests per second on each node, half GET and half POST, by IPv4 and IPv6 in turn.
const RATE: u32 = 100;

/// The load that is running.
#[derive(Debug)]
pub(super) struct Everywhere(Vec<(u8, Load)>);

impl Everywhere {
    /// Starts on these nodes, for one host.
    pub(super) fn start(host: &str, nodes: &[u8]) -> Self {
        Self::at(RATE, host, nodes)
    }

    /// The same at another rate.
    pub(super) fn at(per_second: u32, host: &str, nodes: &[u8]) -> Self {
        let load = |&node: &u8| {
            let target = |address| Target { address, host: host.to_owned(), path: "/".to_owned() };
            let targets = addresses(node, 80).map(target).to_vec();
            // Longer than an edge lets a request wait for a replica.
            let timeout = Duration::from_secs(30);
            (node, Load::start(Plan { timeout, ..Plan::mixed(targets, per_second) }))
        };
        Self(nodes.iter().map(load).collect())
    }

    /// Stops it, and waits for what is still due.
    pub(super) fn stop(self) -> Outcome {
        let stopped = self.0.into_iter().map(|(node, load)| (node, load.stop()));
        Outcome(stopped.map(|(node, report)| (node, report.expect("a report"))).collect())
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome(pub(super) Vec<(u8, Report)>);

impl Outcome {
    /// Tells the figures, and fails if a single request did.
    pub(super) fn assert_nothing_failed(&self, what: &str) {
        eprintln!("{what}: {self}");
        for (node, report) in &self.0 {
            assert_eq!(report.failed(), 0, "{what}, on node {node}: {report}");
        }
    }

    /// How many requests failed.
    pub(super) fn failed(&self) -> u64 {
        self.0.iter().map(|(_, report)| report.failed()).sum()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent: u64 = self.0.iter().map(|(_, report)| report.sent).sum();
        write!(f, "{sent} requests, {} failed; longest wait ", self.failed())?;
        for (place, (node, report)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{:.0?} on node {node}", report.latency(1.0))?;
        }
        Ok(())
    }
}
