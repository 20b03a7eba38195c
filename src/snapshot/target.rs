//! Which port and network a route's replicas are reached on, and what is doubtful about a service
//! as a whole.

use crate::diagnostic::{Diagnostic, Severity};
use crate::inventory::{Network, Replicas, SwarmService};
use crate::snapshot::{Edge, Source};
use crate::spec::Target;
use crate::upstream::UpstreamKey;

/// The upstream that a target names.
///
/// # Errors
/// If port or network cannot be told; the diagnostic says what to write.
pub(super) fn resolve(
    service: &SwarmService,
    target: &Target,
    edge: &Edge,
) -> Result<(UpstreamKey, Source), Box<Diagnostic>> {
    let (port, network, source) = match &service.replicas {
        // The port of a fixed replica stands beside its address.
        Replicas::Fixed(replicas) => (0, String::new(), Source::Fixed(replicas.clone())),
        Replicas::Tasks { desired, tasks } => {
            let port = port(service, target)?;
            let network = network(service, target, edge)?;
            let name = match &*network.name {
                "" => format!("tasks.{}.", service.name),
                name => format!("tasks.{}.{name}.", service.name),
            };
            let id = network.id.clone();
            let (tasks, desired) = (tasks.clone(), *desired);
            (port, id, Source::Tasks { name, network, tasks, desired })
        }
    };
    let service_id = service.id.clone();
    let protocol = target.protocol;
    let tls = protocol.has_tls().then(|| target.tls.clone());
    Ok((UpstreamKey { service_id, port, protocol, tls, network }, source))
}

fn port(service: &SwarmService, target: &Target) -> Result<u16, Box<Diagnostic>> {
    let problem = match (target.port, service.ports.as_slice()) {
        (Some(port), _) => return Ok(port),
        (None, [only]) => return Ok(only.target),
        (None, []) => "does not say which port its containers listen on",
        (None, _) => "publishes several ports and does not say which one is meant",
    };
    let help = "add the label `hiveway.port` with the port the container listens on, for example \
                `hiveway.port=8080`";
    Err(Diagnostic::of_service(Severity::Error, &service.name, problem, help).into())
}

fn network(
    service: &SwarmService,
    target: &Target,
    edge: &Edge,
) -> Result<Network, Box<Diagnostic>> {
    let complain =
        |problem, help| Diagnostic::of_service(Severity::Error, &service.name, problem, help);
    // The entry that came with the edge's own task is the better one: name and subnet are known.
    let attached = |network| {
        let own = edge.networks.iter().find(|own| same(own, network))?;
        Some(if own.subnet.is_some() { own } else { network })
    };
    let shared: Vec<&Network> = service.networks.iter().filter_map(attached).collect();
    if let Some(wanted) = &target.network {
        let named = shared.iter().find(|network| network.name == *wanted);
        return named.map(|network| (*network).clone()).ok_or_else(|| {
            let problem = "names a network that service and edge do not share".to_owned();
            let help = format!("write one of these: {}", names(&shared));
            complain(problem, help).at_label("hiveway.network", wanted).into()
        });
    }
    match shared.as_slice() {
        [only] => Ok((*only).clone()),
        [] if edge.networks.is_empty() => Err(complain(
            "cannot be reached: the edge knows no network of its own".to_owned(),
            "run the edge as a service of the Swarm, or name its networks in the option \
             `[provider] networks`"
                .to_owned(),
        )
        .into()),
        [] => Err(complain(
            "shares no network with the edge, so its replicas cannot be reached".to_owned(),
            format!("attach it to one of the edge's networks: {}", names(&edge.networks)),
        )
        .into()),
        _ => Err(complain(
            format!("shares several networks with the edge: {}", names(&shared)),
            "say which one is meant with the label `hiveway.network`".to_owned(),
        )
        .into()),
    }
}

fn same(one: &Network, other: &Network) -> bool {
    if one.id.is_empty() || other.id.is_empty() {
        return one.name == other.name && !one.name.is_empty();
    }
    one.id == other.id
}

fn names<N: std::borrow::Borrow<Network>>(networks: &[N]) -> String {
    let names: Vec<_> =
        networks.iter().map(|network| format!("`{}`", network.borrow().name)).collect();
    if names.is_empty() { "(there is none)".to_owned() } else { names.join(", ") }
}

/// What is doubtful about a service, whatever its routes say.
pub(super) fn doubts(service: &SwarmService, edge: &Edge) -> Vec<Diagnostic> {
    let mut doubts = Vec::new();
    for (label, value) in &service.container_labels {
        let problem = "is set on the containers, where it does nothing";
        let help = "move it to the service: under `deploy: labels:` in a stack file, or with \
                    `docker service update --label-add`";
        let doubt = Diagnostic::of_service(Severity::Warning, &service.name, problem, help);
        doubts.push(doubt.at_label(label, value));
    }
    if service.labels.is_empty() {
        return doubts;
    }
    for port in service.ports.iter().filter(|port| port.mesh) {
        let taken = |published| edge.listeners.iter().any(|own| own.address.port() == published);
        if let Some(published) = port.published.filter(|&published| taken(published)) {
            let problem = format!(
                "publishes port {published} through the routing mesh, where it meets the edge's own"
            );
            let help = "remove it from `ports:`; the edge reaches the replicas by their network";
            doubts.push(Diagnostic::of_service(Severity::Warning, &service.name, problem, help));
        }
    }
    doubts
}
