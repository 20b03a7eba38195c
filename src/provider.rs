//! Where the inventory comes from, kept up to date.
//!
//! A provider runs beside everything else and never fails: what goes wrong is logged once, counted,
//! and tried again, and until then the last inventory stands. `agent` follows agents, `docker` reads an
//! engine, `file` a list that a person wrote; `saved` stands in for one that is silent at the start. Nothing is
//! decided here; whoever follows parses and compiles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::feed::order::RaftTime;
use crate::inventory::{Inventory, Network};
use crate::timestamp::Timestamp;

pub mod agent;
pub mod docker;
pub mod file;
pub mod given;
pub mod saved;

/// One state of the Swarm. Another one is published only if it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What the Swarm runs.
    pub inventory: Arc<Inventory>,
    /// Networks that this process is attached to, by name; none if it did not find its own task,
    /// or where there is no Swarm.
    pub networks: Option<Arc<[Network]>>,
    /// When that became so, in Swarm's own time; none if nobody told.
    pub time: Option<RaftTime>,
}

/// What others hold of a provider. When the last one is dropped the provider goes on.
#[derive(Clone, Debug)]
pub struct Provider {
    updates: watch::Receiver<Option<Update>>,
    asked: Arc<Notify>,
    shared: Arc<Shared>,
}

/// An agent, as an edge sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStanding {
    /// Address and port.
    pub address: String,
    /// Whether it is the one that is followed.
    pub followed: bool,
    /// What was wrong with it last; none if nothing was.
    pub trouble: Option<String>,
}

/// What is told about a provider apart from inventories.
#[derive(Debug, Default)]
struct Shared {
    /// When the list behind the present state was asked for, in microseconds since the start.
    listed_at: AtomicU64,
    /// The same for people, as the bits of seconds since 1970.
    listed_unix: AtomicU64,
    errors: AtomicU64,
    agents: Mutex<Vec<AgentStanding>>,
}

/// The provider's own end: it publishes and counts.
#[derive(Debug)]
struct Publisher {
    updates: watch::Sender<Option<Update>>,
    shared: Arc<Shared>,
}

fn channel() -> (Provider, Publisher) {
    let (sender, receiver) = watch::channel(None);
    let shared = Arc::new(Shared::default());
    let asked = Arc::default();
    let provider = Provider { updates: receiver, asked, shared: Arc::clone(&shared) };
    (provider, Publisher { updates: sender, shared })
}

impl Provider {
    /// The present state and each one after it; none until the first list has succeeded, or the
    /// state that an earlier process saved has been taken up.
    pub fn updates(&self) -> watch::Receiver<Option<Update>> {
        self.updates.clone()
    }

    /// Asks for a new list at once. Asking often is the same as asking once: lists keep a distance.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// When the last list that succeeded was asked for, whether or not anything had changed;
    /// [`Timestamp::START`] before the first.
    pub fn listed_at(&self) -> Timestamp {
        Timestamp::from_micros(self.shared.listed_at.load(Ordering::Relaxed))
    }

    /// The same in seconds since 1970, for metrics; 0 before the first.
    pub fn last_success_unix_seconds(&self) -> f64 {
        f64::from_bits(self.shared.listed_unix.load(Ordering::Relaxed))
    }

    /// Lists and event streams that have failed so far.
    pub fn errors_total(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Agents that it knows, for provider `agent`.
    pub fn agents(&self) -> Vec<AgentStanding> {
        self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Publisher {
    /// A list that was asked for at that time has succeeded. Whether it brought anything new.
    fn succeeded(
        &self,
        inventory: Inventory,
        networks: Option<Vec<Network>>,
        at: Timestamp,
    ) -> bool {
        let networks = networks.map(Arc::from);
        let is_new = self.publish(Update { inventory: Arc::new(inventory), networks, time: None });
        self.confirmed(at);
        is_new
    }

    /// Makes a state the present one. Whether it differs from the last.
    fn publish(&self, update: Update) -> bool {
        self.updates.send_if_modified(|current| {
            let is_new = current.as_ref() != Some(&update);
            if is_new {
                *current = Some(update);
            }
            is_new
        })
    }

    /// The present state was looked at and still holds.
    fn confirmed(&self, at: Timestamp) {
        self.shared.listed_at.store(at.as_micros(), Ordering::Relaxed);
        let unix = clock::unix_seconds() - clock::now().since(at).as_secs_f64();
        self.shared.listed_unix.store(unix.to_bits(), Ordering::Relaxed);
    }

    fn agents(&self, agents: Vec<AgentStanding>) {
        *self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner) = agents;
    }

    fn failed(&self) {
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
