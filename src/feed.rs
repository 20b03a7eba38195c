//! What agents tell edges: editions of the inventory, and what has changed between two of them.
//!
//! An [`Edition`] is the inventory as canonical JSON, service by service; its version is the hash of
//! that, so that agents which never spoke with each other name equal states alike. An edge keeps
//! the text as it came: what a newer agent adds to a service is part of the hash, whether or not the
//! edge can read it. Messages are in `message`, who is believed is decided in `order`.

pub mod lines;
pub mod message;
pub mod order;
pub mod request;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::inventory::{Inventory, SwarmService};

/// The protocol that is spoken, and the only one: messages of one number understand each other,
/// whatever fields and kinds the newer side has added.
pub const PROTOCOL: u32 = 1;

/// Bytes of a hash that make a version: no two states will ever share one.
const VERSION_BYTES: usize = 16;

/// The name of a state: equal states have equal ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    /// A version as somebody else wrote it; it is good for nothing but to be compared.
    pub fn named(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// 32 hexadecimal digits, if it was made here.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One service in its canonical form, which many editions and followers share.
#[derive(Clone, Debug)]
pub struct Service(Arc<RawValue>);

impl Service {
    fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.text() == other.text()
    }
}

impl Eq for Service {}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
    }
}

/// Services by Swarm's id.
pub type Services = BTreeMap<String, Service>;

/// One state of the inventory, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    version: Version,
    services: Services,
}

/// What leads from one edition to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Services that are new or differ, whole.
    pub changed: Services,
    /// Ids of services that are gone.
    pub removed: Vec<String>,
}

impl Edition {
    /// The edition of these services, as they are.
    pub fn of(services: Services) -> Self {
        let mut hash = Context::new(&SHA256);
        for (id, service) in &services {
            for part in [id.as_str(), service.text()] {
                // With their lengths, so that no two states run together to the same bytes.
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
        }
        let digest = hash.finish();
        let mut version = String::with_capacity(VERSION_BYTES * 2);
        for byte in digest.as_ref().iter().take(VERSION_BYTES) {
            let _ = write!(version, "{byte:02x}");
        }
        Self { version: Version(version), services }
    }

    /// The inventory in its canonical form. What has not changed since `previous` is shared with it.
    ///
    /// # Errors
    /// If a service cannot be written as JSON, which none of ours can cause.
    pub fn of_inventory(
        inventory: &Inventory,
        previous: Option<&Self>,
    ) -> Result<Self, serde_json::Error> {
        let mut services = Services::new();
        for service in &inventory.services {
            let written = Service(Arc::from(to_raw_value(service)?));
            let same = previous.and_then(|previous| previous.services.get(&service.id));
            let shared = same.filter(|same| **same == written).cloned();
            services.insert(service.id.clone(), shared.unwrap_or(written));
        }
        Ok(Self::of(services))
    }

    /// Its name.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Its services.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// What leads from this one to `next`.
    pub fn changes(&self, next: &Self) -> Changes {
        let differs =
            |(id, service): &(&String, &Service)| self.services.get(*id) != Some(*service);
        let changed = next.services.iter().filter(differs);
        let gone = self.services.keys().filter(|id| !next.services.contains_key(*id));
        Changes {
            changed: changed.map(|(id, service)| (id.clone(), service.clone())).collect(),
            removed: gone.cloned().collect(),
        }
    }

    /// The edition to which these changes lead from this one.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Self {
        let mut services = self.services.clone();
        services.retain(|id, _| !changes.removed.contains(id));
        let changed = changes.changed.iter();
        services.extend(changed.map(|(id, service)| (id.clone(), service.clone())));
        Self::of(services)
    }

    /// The inventory, ordered by name, and how many services cannot be read by this version of
    /// Hiveway and are left out.
    pub fn inventory(&self) -> (Inventory, usize) {
        let read = |service: &Service| serde_json::from_str::<SwarmService>(service.text()).ok();
        let mut services: Vec<_> = self.services.values().filter_map(read).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let unreadable = self.services.len() - services.len();
        (Inventory { services }, unreadable)
    }
}

#[cfg(test)]
mod tests;
