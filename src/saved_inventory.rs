//! The last good inventory as it is kept for the next start.
//!
//! One JSON object: the version of this form, the networks that the edge was attached to, and the
//! inventory. Equal states give equal bytes. Nothing in it is secret: labels name secrets, never
//! their content. Who keeps the bytes, and when they are needed, is not known here.

use serde::{Deserialize, Serialize};

use crate::feed::order::RaftTime;
use crate::inventory::{Inventory, Network};

/// The form that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// Longest form that is written or read, in bytes: some 100,000 tasks.
pub const MOST_BYTES: usize = 32 << 20;

/// What an earlier process knew last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedInventory {
    /// What the Swarm ran.
    pub inventory: Inventory,
    /// Networks that the edge was attached to; none if it did not know.
    pub networks: Option<Vec<Network>>,
    /// When that was so, in Swarm's own time; none if nobody told.
    pub time: Option<RaftTime>,
}

/// Why there is nothing to start from, or nothing to keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Longer than [`MOST_BYTES`].
    #[error("it has more than {} MiB", MOST_BYTES >> 20)]
    TooLong,
    /// Of another version of Hiveway.
    #[error("it has version {0} of its form, and this Hiveway reads version {VERSION} only")]
    OtherVersion(u64),
    /// Not this form at all, or only a part of it.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// What must be understood before anything else is.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    networks: Option<&'a [Network]>,
    inventory: &'a Inventory,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a RaftTime>,
}

#[derive(Deserialize)]
struct Read {
    networks: Option<Vec<Network>>,
    inventory: Inventory,
    time: Option<RaftTime>,
}

/// The bytes to keep.
///
/// # Errors
/// If there would be more than [`MOST_BYTES`] of them.
pub fn write(
    inventory: &Inventory,
    networks: Option<&[Network]>,
    time: Option<&RaftTime>,
) -> Result<Vec<u8>, SavedError> {
    let bytes = serde_json::to_vec(&Written { version: VERSION, networks, inventory, time });
    let bytes = bytes.map_err(damaged)?;
    if bytes.len() > MOST_BYTES { Err(SavedError::TooLong) } else { Ok(bytes) }
}

/// Reads what [`write()`] made, by this process or another.
///
/// # Errors
/// If they are other bytes than that.
pub fn read(bytes: &[u8]) -> Result<SavedInventory, SavedError> {
    if bytes.len() > MOST_BYTES {
        return Err(SavedError::TooLong);
    }
    let Head { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(SavedError::OtherVersion(version));
    }
    let Read { networks, inventory, time } = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(SavedInventory { inventory, networks, time })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn damaged(error: serde_json::Error) -> SavedError {
    SavedError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::inventory::{FixedReplica, PublishedPort, Replicas, SwarmService, SwarmTask};

    fn network() -> Network {
        let subnet = "10.0.1.0/24".parse().ok();
        Network { id: "n1".into(), name: "shop_default".into(), subnet }
    }

    fn inventory() -> Inventory {
        let task = SwarmTask {
            id: "t1".into(),
            slot: "1".into(),
            created_at: "2026-01-01T00:00:00.000000000Z".into(),
            running: true,
            ending: false,
            addresses: [("n1".to_owned(), Ipv4Addr::new(10, 0, 1, 3))].into(),
        };
        let shop = SwarmService {
            id: "s1".into(),
            name: "shop_web".into(),
            stack: Some("shop".into()),
            labels: [("hiveway.host".to_owned(), "shop.test".to_owned())].into(),
            networks: vec![network()],
            ports: vec![PublishedPort { target: 80, published: None, mesh: true }],
            replicas: Replicas::Tasks { desired: 1, tasks: vec![task] },
            ..SwarmService::default()
        };
        let name = FixedReplica::Name("db".into(), 80);
        let fixed = Replicas::Fixed(vec![name, FixedReplica::Address(([10, 0, 0, 1], 80).into())]);
        Inventory {
            services: vec![shop, SwarmService { replicas: fixed, ..SwarmService::default() }],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for networks in [None, Some(vec![]), Some(vec![network()])] {
            for time in [None, Some(RaftTime { cluster: "c1".into(), index: 7 })] {
                let bytes = write(&inventory(), networks.as_deref(), time.as_ref()).unwrap();
                let networks = networks.clone();
                let written = SavedInventory { inventory: inventory(), networks, time };
                assert_eq!(read(&bytes), Ok(written));
            }
        }
    }

    /// A changed form needs another [`VERSION`], or Hiveways that are updated misread each other.
    #[test]
    fn the_form_of_this_version_stays_as_it_is() {
        let written_network = r#"{"id":"n1","name":"shop_default","subnet":"10.0.1.0/24"}"#;
        let written = String::from_utf8(write(&inventory(), Some(&[network()]), None).unwrap());
        let expected = format!(
            r#"{{"version":1,"networks":[{written_network}],"inventory":{{"services":[{{"id":"s1","name":"shop_web","stack":"shop","created_at":"","labels":{{"hiveway.host":"shop.test"}},"container_labels":{{}},"networks":[{written_network}],"ports":[{{"target":80,"published":null,"mesh":true}}],"replicas":{{"Tasks":{{"desired":1,"tasks":[{{"id":"t1","slot":"1","created_at":"2026-01-01T00:00:00.000000000Z","running":true,"addresses":{{"n1":"10.0.1.3"}}}}]}}}}}},{{"id":"","name":"","stack":null,"created_at":"","labels":{{}},"container_labels":{{}},"networks":[],"ports":[],"replicas":{{"Fixed":[{{"Name":["db",80]}},{{"Address":"10.0.0.1:80"}}]}}}}]}}}}"#
        );
        assert_eq!(written.unwrap(), expected);
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let text = r#"{"version":2,"inventory":"in some other form"}"#;
        let error = read(text.as_bytes()).unwrap_err();
        assert_eq!(error, SavedError::OtherVersion(2));
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn what_is_too_long_is_not_even_looked_at() {
        assert_eq!(read(&vec![b' '; MOST_BYTES + 1]), Err(SavedError::TooLong));
        let labels = [("hiveway.host".to_owned(), "x".repeat(MOST_BYTES))].into();
        let services = vec![SwarmService { labels, ..SwarmService::default() }];
        assert_eq!(write(&Inventory { services }, None, None), Err(SavedError::TooLong));
    }

    proptest! {
        #[test]
        fn a_part_of_it_is_damaged(cut in 0_usize..700) {
            let bytes = write(&inventory(), None, None).unwrap();
            prop_assume!(cut < bytes.len());
            prop_assert!(matches!(read(&bytes[..cut]), Err(SavedError::Damaged(_))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, at in 0_usize..700, byte: u8) {
            let _ = read(&bytes);
            let mut changed = write(&inventory(), None, None).unwrap();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            let _ = read(&changed);
        }
    }
}
