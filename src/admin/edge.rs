//! What an edge's admin port says.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{Admin, Speaker, view};
use crate::clock;
use crate::timestamp::Timestamp;

/// Knowledge of the Swarm that is older is told of: every provider looks more often.
const OLD: Duration = Duration::from_secs(30);

impl Speaker for Admin {
    fn networks(&self) -> &[IpNet] {
        &self.options.networks
    }

    fn metrics(&self) -> prometheus::Result<String> {
        self.metrics.render()
    }

    fn readiness(&self) -> Result<String, String> {
        match (self.obstacle)() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(freshness(self.sources.provider.listed_at(), clock::now())),
        }
    }

    fn list(&self, name: &str) -> Option<serde_json::Result<String>> {
        let snapshot = self.sources.proxy.snapshot.load();
        Some(match name {
            "routes" => json(&view::routes(&snapshot, &self.options.default_listeners)),
            "services" => json(&view::services(&snapshot, clock::now())),
            "endpoints" => json(&view::endpoints(&snapshot, clock::now())),
            "diagnostics" => json(&view::diagnostics(&snapshot)),
            "nodes" => {
                let Self { sources, options, obstacle, .. } = self;
                let agents = sources.provider.agents();
                json(&[view::node(&options.hostname, obstacle(), agents, clock::now())])
            }
            "certificates" => {
                let certificates = self.sources.certificates.load();
                json(&view::certificates(&certificates, clock::date()))
            }
            "version" => json(&view::version()),
            _ => return None,
        })
    }
}

fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value)
}

/// That an edge serves; with the age of what it knows of the Swarm, if that is old.
fn freshness(listed_at: Timestamp, now: Timestamp) -> String {
    let age = now.since(listed_at);
    if listed_at == Timestamp::START {
        "ok, with the saved inventory: the provider has not answered yet".to_owned()
    } else if age > OLD {
        format!("ok, but the inventory is {} s old", age.as_secs())
    } else {
        "ok".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_knowledge_is_no_obstacle_but_is_told() {
        let at = |seconds| Timestamp::START + Duration::from_secs(seconds);
        assert_eq!(freshness(at(60), at(90)), "ok");
        assert_eq!(freshness(at(60), at(160)), "ok, but the inventory is 100 s old");
        assert!(freshness(at(0), at(60)).starts_with("ok, with the saved inventory"));
    }
}
