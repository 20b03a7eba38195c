//! What the Swarm runs right now, as plain data.
//!
//! A provider fills it in; `labels` and `snapshot` read it. Nothing here knows of Docker's API, of
//! sockets or of time, so a test writes an [`Inventory`] literal and needs no Swarm.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Everything a provider knows. Two equal inventories route alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Ordered by name, so that equal Swarms give equal inventories.
    pub services: Vec<SwarmService>,
}

/// One service and the tasks that run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmService {
    /// Swarm's id; the name where there is no Swarm.
    pub id: String,
    /// Full name with the stack's prefix, for example `shop_web`.
    pub name: String,
    /// The stack it was deployed with (label `com.docker.stack.namespace`).
    pub stack: Option<String>,
    /// When it was created: RFC 3339 in UTC with nine digits of a second, so that text order is age
    /// order. Of two services that claim the same traffic the older one has it.
    pub created_at: String,
    /// The service's own labels, `deploy.labels` of a stack file; only those of Hiveway.
    pub labels: BTreeMap<String, String>,
    /// Hiveway's labels that stand on the containers instead, where they do nothing.
    pub container_labels: BTreeMap<String, String>,
    /// Overlay networks the service is attached to, without `ingress`.
    pub networks: Vec<Network>,
    /// Ports that the service publishes.
    pub ports: Vec<PublishedPort>,
    /// Where its replicas come from.
    pub replicas: Replicas,
}

/// An overlay network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Swarm's id.
    pub id: String,
    /// Name as DNS knows it, for example `shop_default`; empty while no task has told it.
    pub name: String,
    /// Addresses outside it are never replicas; none while no task has told it.
    pub subnet: Option<Ipv4Net>,
}

/// A port that a service publishes (`ports:` in a stack file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub target: u16,
    /// Port on the node; none if Swarm is to choose.
    pub published: Option<u16>,
    /// Whether the routing mesh publishes it on every node, rather than `mode: host`.
    pub mesh: bool,
}

/// Where the addresses of a service's replicas come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replicas {
    /// Swarm's tasks; `tasks.<service>` DNS says which of them are ready.
    Tasks {
        /// Tasks that Swarm wants to run, whatever they do at the moment.
        desired: u64,
        /// The tasks that are there, ordered by id.
        tasks: Vec<SwarmTask>,
    },
    /// Written down by hand, for provider `file`.
    Fixed(Vec<FixedReplica>),
}

impl Default for Replicas {
    fn default() -> Self {
        Self::Tasks { desired: 0, tasks: Vec::new() }
    }
}

/// One task of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmTask {
    /// Swarm's id; an endpoint's health and counters belong to it, not to its address.
    pub id: String,
    /// What tells it from its siblings across restarts: the slot, or the node of a global service.
    pub slot: String,
    /// When it was created, written like [`SwarmService::created_at`]: of two tasks in one slot it
    /// tells the newer one.
    pub created_at: String,
    /// Whether Swarm wants it to run and says that it does.
    pub running: bool,
    /// Whether Swarm has decided that it ends, which is never taken back. Agents and files that do not
    /// know of it leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
    /// Its address on each network, by network id.
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

/// A replica that was written down by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FixedReplica {
    /// An address and port, used as they are.
    Address(SocketAddr),
    /// A name and port; the name is resolved again and again, like `tasks.<service>`.
    Name(String, u16),
}
