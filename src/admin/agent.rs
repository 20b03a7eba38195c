//! What an agent's admin port says.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Speaker, view};
use crate::agent::Agent;
use crate::agent::knowledge::Knowledge;
use crate::clock;
use crate::metrics::Metrics;
use crate::timestamp::Timestamp;

/// What the admin port of an agent tells, and whom.
#[derive(Debug)]
pub struct AgentAdmin {
    agent: Arc<Agent>,
    metrics: Metrics,
    networks: Vec<IpNet>,
}

impl AgentAdmin {
    /// Tells of this agent to these networks, beside loopback; to everybody if there are none.
    ///
    /// # Errors
    /// Like [`Metrics::new`].
    pub fn new(agent: Arc<Agent>, networks: Vec<IpNet>) -> prometheus::Result<Self> {
        let metrics = Metrics::of_agent(Arc::clone(&agent))?;
        Ok(Self { agent, metrics, networks })
    }
}

impl Speaker for AgentAdmin {
    fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    fn metrics(&self) -> prometheus::Result<String> {
        self.metrics.render()
    }

    fn readiness(&self) -> Result<String, String> {
        readiness(&self.agent.knowledge(), clock::now())
    }

    fn list(&self, name: &str) -> Option<serde_json::Result<String>> {
        (name == "version").then(|| serde_json::to_string_pretty(&view::version()))
    }
}

/// Ready is who has something to tell: an agent is not started anew because its engine is silent.
fn readiness(known: &Knowledge, now: Timestamp) -> Result<String, String> {
    let trouble = known.trouble.as_deref();
    if known.edition().is_none() {
        let trouble = trouble.unwrap_or("the engine has not answered yet");
        return Err(format!("no list yet: {trouble}"));
    }
    let age = now.since(known.listed_at).as_secs();
    Ok(trouble
        .map_or("ok".to_owned(), |why| format!("ok, but the inventory is {age} s old: {why}")))
}
