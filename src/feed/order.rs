//! Which of several agents is believed: time in a Swarm, by the index of its Raft log.
//!
//! Each object carries the index at which it was last written, so the highest of all only falls
//! when the newest object is removed. A manager that was cut off from the others goes on answering
//! from what it had, for some 20 s; by its index it is known to be behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::Standing;
use crate::timestamp::Timestamp;

/// For how long an agent must go on saying what is older, with lists that it makes meanwhile, until
/// it is believed: longer than a manager without the others answers.
pub const INSISTENCE: Duration = Duration::from_secs(30);

/// Time in one Swarm, which an agent sees advance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftTime {
    /// Swarm's id; empty if it is not known.
    pub cluster: String,
    /// Highest index that was seen.
    pub index: u64,
}

impl RaftTime {
    /// A list was made. Only in another Swarm it can be earlier than before.
    pub fn advance(&mut self, cluster: &str, index: u64) {
        if self.is_other(cluster) {
            self.index = 0;
        }
        if !cluster.is_empty() {
            cluster.clone_into(&mut self.cluster);
        }
        self.index = self.index.max(index);
    }

    /// Whether both are known and differ.
    fn is_other(&self, cluster: &str) -> bool {
        !(self.cluster.is_empty() || cluster.is_empty() || self.cluster == cluster)
    }
}

/// What an edge believes.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Of what is believed now; none before the first word.
    believed: Option<RaftTime>,
    /// When the list was made with which an agent first said something older.
    doubted: BTreeMap<SocketAddr, Timestamp>,
}

impl Order {
    /// Begins with what an earlier process believed.
    pub fn after(believed: Option<RaftTime>) -> Self {
        Self { believed, ..Self::default() }
    }

    /// The time of what is believed now; none before the first word.
    pub fn time(&self) -> Option<&RaftTime> {
        self.believed.as_ref()
    }

    /// Whether what this agent says now is to be believed. `same` if it is what is believed anyway.
    pub fn believes(
        &mut self,
        agent: SocketAddr,
        standing: &Standing,
        same: bool,
        now: Timestamp,
    ) -> bool {
        let Some(believed) = &mut self.believed else {
            let (cluster, index) = (standing.cluster.clone(), standing.raft);
            self.believed = Some(RaftTime { cluster, index });
            return true;
        };
        if same || standing.raft >= believed.index || believed.is_other(&standing.cluster) {
            believed.advance(&standing.cluster, standing.raft);
            self.doubted.clear();
            return true;
        }
        if standing.trouble.is_some() {
            self.doubted.remove(&agent);
            return false;
        }
        let listed_at = listed_at(standing, now);
        let since = *self.doubted.entry(agent).or_insert(listed_at);
        if listed_at.since(since) <= INSISTENCE {
            return false;
        }
        believed.index = standing.raft;
        self.doubted.clear();
        true
    }
}

/// When the list behind a standing was asked for, if that was said now.
pub fn listed_at(standing: &Standing, now: Timestamp) -> Timestamp {
    let age = standing.age_ms.saturating_mul(1000);
    Timestamp::from_micros(now.as_micros().saturating_sub(age))
}
