//! What is believed, whichever agent told it, and how it is passed on.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{info, warn};

use crate::feed::message::{Change, Standing};
use crate::feed::order::{self, Order, RaftTime};
use crate::feed::{Edition, Services, Version};
use crate::inventory::{Inventory, Network};
use crate::provider::{AgentStanding, Publisher, Update};
use crate::timestamp::Timestamp;

/// What is believed.
#[derive(Debug)]
pub(super) struct Held {
    publisher: Publisher,
    order: Order,
    edition: Option<Arc<Edition>>,
    inventory: Arc<Inventory>,
    networks: Option<Arc<[Network]>>,
    /// When the inventory became what it is, in Swarm's own time.
    time: Option<RaftTime>,
    /// When the newest list behind it was asked for.
    listed_at: Timestamp,
}

/// What one agent has told since it is followed.
#[derive(Debug, Default)]
pub(super) struct Heard {
    edition: Option<Arc<Edition>>,
    networks: Option<Arc<[Network]>>,
}

/// What a beat is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Fresh, and believed.
    Fresh,
    /// Known, but not fresh, or not believed; and why.
    Stale(String),
    /// What was heard is not what the agent says it is.
    Misunderstood,
}

impl Heard {
    /// Nothing but what the agent was told that we have.
    pub(super) fn after(held: Option<Arc<Edition>>) -> Self {
        Self { edition: held, networks: None }
    }

    pub(super) fn whole(&mut self, services: Services) {
        self.edition = Some(Arc::new(Edition::of(services)));
    }

    /// Whether the changes start from what was heard before.
    pub(super) fn change(&mut self, change: &Change) -> bool {
        match &self.edition {
            Some(edition) if *edition.version() == change.from => {
                self.edition = Some(Arc::new(edition.with(&change.changes)));
                true
            }
            _ => false,
        }
    }

    pub(super) fn networks(&mut self, networks: Option<Vec<Network>>) {
        self.networks = networks.map(Arc::from);
    }
}

impl Held {
    /// Nothing yet, but what was known before that time is not believed.
    pub(super) fn new(publisher: Publisher, time: Option<RaftTime>) -> Self {
        Self {
            publisher,
            order: Order::after(time),
            edition: None,
            inventory: Arc::default(),
            networks: None,
            time: None,
            listed_at: Timestamp::START,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edition.is_none()
    }

    /// What is believed, for an agent to start from.
    pub(super) fn edition(&self) -> Option<Arc<Edition>> {
        self.edition.clone()
    }

    /// Which agents there are.
    pub(super) fn show(&self, agents: Vec<AgentStanding>) {
        self.publisher.agents(agents);
    }

    pub(super) fn failed(&self) {
        self.publisher.failed();
    }

    /// An agent says what stands; all that was heard before it belongs to it.
    pub(super) fn beat(
        &mut self,
        agent: SocketAddr,
        heard: &Heard,
        standing: &Standing,
        now: Timestamp,
    ) -> Worth {
        let Some(version) = &standing.version else {
            let why = standing.trouble.clone().unwrap_or_else(|| "it has no list yet".to_owned());
            return Worth::Stale(why);
        };
        let Some(edition) = heard.edition.as_ref().filter(|it| it.version() == version) else {
            return Worth::Misunderstood;
        };
        let same = self.version() == Some(version);
        if !self.order.believes(agent, standing, same, now) {
            return Worth::Stale(format!(
                "it knows an older state of the Swarm (index {}) than another agent has told",
                standing.raft
            ));
        }
        self.adopt(edition, heard.networks.as_ref());
        self.listed_at = self.listed_at.max(order::listed_at(standing, now));
        self.publisher.confirmed(self.listed_at);
        standing.trouble.clone().map_or(Worth::Fresh, Worth::Stale)
    }

    fn version(&self) -> Option<&Version> {
        self.edition.as_ref().map(|edition| edition.version())
    }

    fn adopt(&mut self, edition: &Arc<Edition>, networks: Option<&Arc<[Network]>>) {
        if self.version() != Some(edition.version()) {
            let (inventory, unreadable) = edition.inventory();
            let services = inventory.services.len();
            info!(provider = "agent", services, "the inventory has changed");
            if unreadable > 0 {
                let services = unreadable;
                warn!(
                    provider = "agent",
                    services, "left out what cannot be read; update the edges as well"
                );
            }
            self.inventory = Arc::new(inventory);
            self.time = self.order.time().cloned();
        }
        self.edition = Some(Arc::clone(edition));
        if let Some(networks) = networks {
            self.networks = Some(Arc::clone(networks));
        }
        let (inventory, networks) = (Arc::clone(&self.inventory), self.networks.clone());
        self.publisher.publish(Update { inventory, networks, time: self.time.clone() });
    }
}
