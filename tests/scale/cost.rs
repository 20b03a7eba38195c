//! What a stretch of time cost, and what it may cost.

use std::time::Instant;

/// All that is counted, at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Lists of services, and calls to the engine of any kind.
    pub(crate) lists: u32,
    pub(crate) calls: u32,
    /// Bytes on the wire from the agent.
    pub(crate) bytes: u32,
    pub(crate) queries: u32,
    /// Seconds on a CPU.
    pub(crate) agent_cpu: f64,
    pub(crate) edge_cpu: f64,
}

/// What a stretch of time cost: the same, as differences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) lists: u32,
    pub(crate) calls: u32,
    pub(crate) bytes: u32,
    pub(crate) queries: u32,
    agent_cpu: f64,
    edge_cpu: f64,
}

impl Cost {
    pub(crate) fn between(from: Reading, to: Reading) -> Self {
        Self {
            seconds: (to.at - from.at).as_secs_f64(),
            lists: to.lists - from.lists,
            calls: to.calls - from.calls,
            bytes: to.bytes - from.bytes,
            queries: to.queries - from.queries,
            agent_cpu: to.agent_cpu - from.agent_cpu,
            edge_cpu: to.edge_cpu - from.edge_cpu,
        }
    }

    fn in_a_minute(&self, cost: impl Into<f64>) -> f64 {
        cost.into() * 60.0 / self.seconds
    }

    pub(crate) fn tell(&self, what: &str) {
        eprintln!(
            "300 services, {what}, in a minute: {:.0} calls to the engine, CPU of the agent {:.2} s, \
             of the edge {:.2} s, {:.0} KB from the agent; {:.0} DNS queries a second",
            self.in_a_minute(self.calls),
            self.in_a_minute(self.agent_cpu),
            self.in_a_minute(self.edge_cpu),
            self.in_a_minute(self.bytes) / 1e3,
            f64::from(self.queries) / self.seconds,
        );
    }

    /// Panics if agent or edge used more seconds of a CPU in a minute.
    pub(crate) fn check_cpu(&self, what: &str, agent: f64, edge: f64) {
        let (of_agent, of_edge) =
            (self.in_a_minute(self.agent_cpu), self.in_a_minute(self.edge_cpu));
        assert!(of_agent <= agent, "{what}: the agent used {of_agent:.2} s of CPU in a minute");
        assert!(of_edge <= edge, "{what}: the edge used {of_edge:.2} s of CPU in a minute");
    }
}
