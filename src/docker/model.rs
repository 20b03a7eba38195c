//! The few fields of Docker's API that routing needs, and how they are read.
//!
//! The engine's own models are larger and stricter: one unknown word would fail a whole list, and
//! bollard's `Task` lacks the addresses. Here every field may be missing or `null` (Go writes empty
//! lists so), enumerations are plain text, and an object that cannot be read is left out alone.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A service, as `GET /services` lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Swarm's id.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// When it was last written, in the time of the managers' log.
    #[serde(deserialize_with = "or_default")]
    pub version: Version,
    /// RFC 3339 in UTC; Go leaves out final zeros of the fraction.
    #[serde(deserialize_with = "or_default")]
    pub created_at: String,
    /// What was asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What became of its ports.
    #[serde(deserialize_with = "or_default")]
    pub endpoint: Endpoint,
}

/// When an object was last written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// Of the entry in the Raft log: it only grows.
    #[serde(deserialize_with = "or_default")]
    pub index: u64,
}

/// What a service asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Full name with the stack's prefix.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The service's own labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// How its tasks are made.
    #[serde(deserialize_with = "or_default")]
    pub task_template: TaskTemplate,
    /// Replicated, global or a job.
    #[serde(deserialize_with = "or_default")]
    pub mode: Mode,
    /// Ports that were asked for.
    #[serde(deserialize_with = "or_default")]
    pub endpoint_spec: Endpoint,
    /// Where networks stood before `TaskTemplate.Networks`.
    #[serde(deserialize_with = "or_default")]
    pub networks: Vec<NetworkTarget>,
}

/// How a service's tasks are made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskTemplate {
    /// Absent for plugins.
    #[serde(deserialize_with = "or_default")]
    pub container_spec: ContainerSpec,
    /// Networks that every task is attached to, without `ingress`.
    #[serde(deserialize_with = "or_default")]
    pub networks: Vec<NetworkTarget>,
}

/// What a container is made from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// The container's labels, `labels` of a stack file.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// A network by its id.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkTarget {
    /// The engine replaces names by ids before it stores a service.
    #[serde(deserialize_with = "or_default")]
    pub target: String,
}

/// How many tasks a service wants; jobs have none of the fields here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mode {
    /// Present if the number of tasks is written down.
    pub replicated: Option<Replicated>,
    /// Present if each node is to have a task; it says nothing more.
    pub global: Option<IgnoredAny>,
}

/// A number of tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replicated {
    /// The engine fills in 1 if nothing was asked for.
    pub replicas: Option<u64>,
}

/// The ports of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// Empty until the allocator has seen the service.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
}

/// One published port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    #[serde(deserialize_with = "or_default")]
    pub protocol: String,
    /// Port in the container.
    #[serde(deserialize_with = "or_default")]
    pub target_port: u16,
    /// Port on the node; 0 if Swarm is to choose.
    #[serde(deserialize_with = "or_default")]
    pub published_port: u16,
    /// `ingress` (the default) or `host`.
    #[serde(deserialize_with = "or_default")]
    pub publish_mode: String,
}

/// A task, as `GET /tasks` lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// Swarm's id.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// When it was last written, in the time of the managers' log.
    #[serde(deserialize_with = "or_default")]
    pub version: Version,
    /// The service that it runs.
    #[serde(rename = "ServiceID", deserialize_with = "or_default")]
    pub service_id: String,
    /// The node that it runs on; empty while it is pending.
    #[serde(rename = "NodeID", deserialize_with = "or_default")]
    pub node_id: String,
    /// Number among its siblings, from 1; 0 for tasks of global services.
    #[serde(deserialize_with = "or_default")]
    pub slot: u64,
    /// RFC 3339 in UTC; Go leaves out final zeros of the fraction.
    #[serde(deserialize_with = "or_default")]
    pub created_at: String,
    /// `ready` and `running` if Swarm wants it; `shutdown` or `remove` if not.
    #[serde(deserialize_with = "or_default")]
    pub desired_state: String,
    /// What it does.
    #[serde(deserialize_with = "or_default")]
    pub status: Status,
    /// Its addresses; absent for tasks without a network.
    #[serde(deserialize_with = "or_default")]
    pub networks_attachments: Vec<Attachment>,
}

/// What a task does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// `running` if its container runs and its HEALTHCHECK, if any, has succeeded.
    #[serde(deserialize_with = "or_default")]
    pub state: String,
    /// Absent until there is a container.
    #[serde(deserialize_with = "or_default")]
    pub container_status: ContainerStatus,
}

/// The container of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatus {
    /// 64 hexadecimal digits; the first 12 are the container's host name unless it was given one.
    #[serde(rename = "ContainerID", deserialize_with = "or_default")]
    pub container_id: String,
}

/// A task's place on one network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attachment {
    /// The network.
    #[serde(deserialize_with = "or_default")]
    pub network: Network,
    /// Addresses with the length of the subnet's prefix: `10.0.3.5/24`. None on the host's network.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
}

/// A network, as a task's attachment describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Swarm's id.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// What was asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: NetworkSpec,
    /// Which driver makes it.
    #[serde(deserialize_with = "or_default")]
    pub driver_state: Driver,
}

/// What a network asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSpec {
    /// Name as DNS knows it.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Whether it carries the routing mesh.
    #[serde(deserialize_with = "or_default")]
    pub ingress: bool,
}

/// What makes a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    /// `overlay`, or `host` and the like for networks that nodes have by themselves.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// An engine about itself, as `GET /info` tells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Its part in a Swarm.
    #[serde(deserialize_with = "or_default")]
    pub swarm: SwarmInfo,
}

/// An engine's part in a Swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// Told by managers only.
    #[serde(deserialize_with = "or_default")]
    pub cluster: Cluster,
}

/// A Swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cluster {
    /// Given when it was made, and never to another.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
}

/// The elements of a JSON list that can be read and that `keep` wants, and how many cannot be read.
///
/// # Errors
/// If the bytes are no JSON list (or `null`).
pub fn decode_list<T: DeserializeOwned>(
    json: &[u8],
    keep: impl Fn(&T) -> bool,
) -> Result<(Vec<T>, usize), serde_json::Error> {
    let elements: Option<Vec<&RawValue>> = serde_json::from_slice(json)?;
    let mut kept = Vec::new();
    let mut unreadable = 0;
    for element in elements.unwrap_or_default() {
        match serde_json::from_str::<T>(element.get()) {
            Ok(value) if keep(&value) => kept.push(value),
            Ok(_history) => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok((kept, unreadable))
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, ids: &[&str], unreadable: usize) {
        let (tasks, failed) = decode_list(json.as_bytes(), |task: &Task| task.slot != 9).unwrap();
        let found: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!((found.as_slice(), failed), (ids, unreadable), "{json}");
    }

    #[test]
    fn nulls_unknown_words_and_missing_fields_are_read() {
        check("null", &[], 0);
        check("[]", &[], 0);
        check(r#"[{"ID": "a"}]"#, &["a"], 0);
        check(r#"[{"ID": "a", "Status": null, "NetworksAttachments": null}]"#, &["a"], 0);
        check(r#"[{"ID": "a", "DesiredState": "levitating", "Mood": {"x": [1]}}]"#, &["a"], 0);
        check(r#"[{"ID": null, "NetworksAttachments": [{"Network": null}]}]"#, &[""], 0);
    }

    #[test]
    fn an_odd_object_is_left_out_alone() {
        check(r#"[{"ID": 7}, null, "x", {"ID": "b", "Slot": -1}, {"ID": "c"}]"#, &["c"], 4);
    }

    #[test]
    fn what_is_not_wanted_is_no_mistake() {
        check(r#"[{"ID": "a", "Slot": 9}, {"ID": "b"}]"#, &["b"], 0);
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for json in ["", "{}", "[", "<html>"] {
            assert!(decode_list(json.as_bytes(), |_: &Task| true).is_err(), "{json}");
        }
    }
}
