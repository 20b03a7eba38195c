//! From Docker's words to ours. Pure: a listing in, plain data out.
//!
//! Left out: services without any label of Hiveway, ports other than TCP, tasks that have ended,
//! the mesh's `ingress` and the networks that nodes have by themselves, and virtual addresses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Listing;
use super::model::{Attachment, Port, Service, Task};
use crate::inventory::{Inventory, Network, PublishedPort, Replicas, SwarmService, SwarmTask};

/// Beginning of every label of ours, in either case of letters.
const LABEL_PREFIX: &str = "hiveway.";

/// Carries the stack's name on everything that `docker stack deploy` makes.
const STACK_LABEL: &str = "com.docker.stack.namespace";

/// Digits of a container's id that make its host name.
const HOSTNAME_DIGITS: usize = 12;

/// What the listing says, ordered so that equal Swarms give equal inventories.
pub fn inventory(listing: &Listing) -> Inventory {
    let networks = known_networks(&listing.tasks);
    let mut tasks: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
    for task in &listing.tasks {
        tasks.entry(&task.service_id).or_default().push(task);
    }
    let mut services: Vec<SwarmService> = listing
        .services
        .iter()
        .filter(|service| !service.spec.name.is_empty())
        .map(|service| {
            let tasks = tasks.get(service.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            translate_service(service, tasks, &networks)
        })
        .filter(|service| !(service.labels.is_empty() && service.container_labels.is_empty()))
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Inventory { services }
}

/// The overlay networks of the task whose container has this host name, ordered by name.
///
/// None if no task has it: outside a Swarm, under a host name of one's own choice, or in the moment
/// before the manager has heard of the container.
pub fn own_networks(listing: &Listing, hostname: &str) -> Option<Vec<Network>> {
    let own = task_of(listing, hostname)?;
    let mut networks: Vec<Network> = own
        .networks_attachments
        .iter()
        .filter(|attachment| is_overlay(attachment))
        .map(translate_network)
        .collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Some(networks)
}

/// Addresses of the task of `sibling`'s service that runs on the node of `hostname`; both are host
/// names of containers. Empty if either is not known, or there is none.
pub fn sibling_near(listing: &Listing, sibling: &str, hostname: &str) -> Vec<Ipv4Addr> {
    let (Some(sibling), Some(own)) = (task_of(listing, sibling), task_of(listing, hostname)) else {
        return Vec::new();
    };
    let is_near = |task: &&Task| {
        let is_sibling = task.service_id == sibling.service_id && task.node_id == own.node_id;
        is_sibling && task.desired_state == "running" && task.status.state == "running"
    };
    listing.tasks.iter().filter(is_near).flat_map(|task| addresses(task).into_values()).collect()
}

/// The task whose container has this host name.
fn task_of<'l>(listing: &'l Listing, hostname: &str) -> Option<&'l Task> {
    if hostname.len() < HOSTNAME_DIGITS {
        return None;
    }
    let mut tasks = listing.tasks.iter();
    tasks.find(|task| task.status.container_status.container_id.starts_with(hostname))
}

/// Networks by id, as tasks tell them; none for those that never carry our traffic.
fn known_networks(tasks: &[Task]) -> BTreeMap<&str, Option<Network>> {
    tasks
        .iter()
        .flat_map(|task| &task.networks_attachments)
        .map(|attachment| {
            let network = is_overlay(attachment).then(|| translate_network(attachment));
            (attachment.network.id.as_str(), network)
        })
        .collect()
}

fn is_overlay(attachment: &Attachment) -> bool {
    let network = &attachment.network;
    let of_the_node = matches!(network.driver_state.name.as_str(), "host" | "bridge" | "null");
    !(network.spec.ingress || network.spec.name == "ingress" || of_the_node)
}

fn translate_network(attachment: &Attachment) -> Network {
    let subnet = ipv4(attachment).map(|address| address.trunc());
    let network = &attachment.network;
    Network { id: network.id.clone(), name: network.spec.name.clone(), subnet }
}

fn ipv4(attachment: &Attachment) -> Option<Ipv4Net> {
    attachment.addresses.iter().find_map(|address| address.parse().ok())
}

fn translate_service(
    service: &Service,
    tasks: &[&Task],
    known: &BTreeMap<&str, Option<Network>>,
) -> SwarmService {
    let spec = &service.spec;
    let mut tasks: Vec<&Task> = tasks.to_vec();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    SwarmService {
        id: service.id.clone(),
        name: spec.name.clone(),
        stack: spec.labels.get(STACK_LABEL).cloned(),
        created_at: with_nine_digits(&service.created_at),
        labels: own_labels(&spec.labels),
        container_labels: own_labels(&spec.task_template.container_spec.labels),
        networks: service_networks(service, known),
        ports: published_ports(service),
        replicas: Replicas::Tasks {
            desired: desired(service, &tasks),
            tasks: tasks.into_iter().map(translate_task).collect(),
        },
    }
}

fn own_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels
        .iter()
        .filter(|(name, _)| {
            name.get(..LABEL_PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(LABEL_PREFIX))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// In the order of the service; a network that no task has told keeps its id alone.
fn service_networks(service: &Service, known: &BTreeMap<&str, Option<Network>>) -> Vec<Network> {
    let spec = &service.spec;
    let targets = match spec.task_template.networks.as_slice() {
        [] => spec.networks.as_slice(),
        targets => targets,
    };
    targets
        .iter()
        .filter_map(|target| match known.get(target.target.as_str()) {
            Some(network) => network.clone(),
            None => Some(Network { id: target.target.clone(), ..Network::default() }),
        })
        .collect()
}

/// Those that were given; those that were asked for while none are given yet.
fn published_ports(service: &Service) -> Vec<PublishedPort> {
    let ports: &[Port] = match service.endpoint.ports.as_slice() {
        [] => &service.spec.endpoint_spec.ports,
        ports => ports,
    };
    ports
        .iter()
        .filter(|port| matches!(port.protocol.as_str(), "" | "tcp"))
        .map(|port| PublishedPort {
            target: port.target_port,
            published: (port.published_port != 0).then_some(port.published_port),
            mesh: port.publish_mode != "host",
        })
        .collect()
}

/// The number written down; for global services and jobs the tasks that Swarm wants now.
///
/// A task that is `ready` counts: in a stop-first update it is all that a node has while the old
/// one stops. A global service never wants none, as nobody can scale it to zero: a manager that
/// returns after a while may take all nodes for lost, and every task is told to end before the nodes
/// have told that they are there and get new ones.
fn desired(service: &Service, tasks: &[&Task]) -> u64 {
    let mode = &service.spec.mode;
    let wanted = || tasks.iter().filter(|task| is_wanted(task)).map(|_| 1).sum();
    match &mode.replicated {
        Some(replicated) => replicated.replicas.unwrap_or(1),
        None if mode.global.is_some() => u64::max(wanted(), 1),
        None => wanted(),
    }
}

/// Whether a task is more than history: Swarm wants it, or it is stopping and serves meanwhile.
pub(super) fn is_live(task: &Task) -> bool {
    is_wanted(task) || task.status.state == "running"
}

fn is_wanted(task: &Task) -> bool {
    matches!(task.desired_state.as_str(), "ready" | "running")
}

fn translate_task(task: &Task) -> SwarmTask {
    SwarmTask {
        id: task.id.clone(),
        slot: if task.slot == 0 { task.node_id.clone() } else { task.slot.to_string() },
        created_at: with_nine_digits(&task.created_at),
        running: task.desired_state == "running" && task.status.state == "running",
        ending: !is_wanted(task),
        addresses: addresses(task),
    }
}

fn addresses(task: &Task) -> BTreeMap<String, Ipv4Addr> {
    task.networks_attachments
        .iter()
        .filter(|attachment| is_overlay(attachment))
        .filter_map(|attachment| Some((attachment.network.id.clone(), ipv4(attachment)?.addr())))
        .collect()
}

/// The same time with a fraction of nine digits, so that text order is age order: Go leaves out
/// final zeros, and `.5Z` would stand behind `.55Z`. What is no UTC time stays as it is.
fn with_nine_digits(time: &str) -> String {
    let Some(utc) = time.strip_suffix('Z') else {
        return time.to_owned();
    };
    let (seconds, fraction) = utc.split_once('.').unwrap_or((utc, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

#[cfg(test)]
mod tests;
