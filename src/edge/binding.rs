//! The sockets of an edge when it starts: those that the role `sockets` holds, those that outlived an
//! earlier process of this edge, or new ones, once for each core.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use tracing::warn;

use super::{Bound, StartError};
use crate::config::{self, Config};
use crate::handover::Held;
use crate::listener;
use crate::proxy::activity::Connections;
use crate::proxy::{ListenerPolicy, Proxy};
use crate::tls::{Certificates, Watch};

/// The sockets of one listener.
#[derive(Debug)]
pub(super) struct Doors {
    /// Where it is bound, with the port that the kernel chose if none was given.
    pub(super) address: SocketAddr,
    /// Those that the role `sockets` has as well.
    pub(super) shared: Vec<Held>,
    /// Those that nobody else accepts on.
    pub(super) own: Vec<Held>,
}

/// The listeners, and what watches certificates and authorities: theirs, and those of replicas.
///
/// # Errors
/// If there is no randomness for a first certificate.
pub(super) fn with_certificates(
    config: &Config,
) -> Result<(Vec<config::Listener>, Watch), rustls::Error> {
    let watch = Watch::begin(&config.tls.certificates, config.tls.client_ca.as_deref());
    let is_empty = watch.certificates().load().all().is_empty();
    let listeners = config.listeners(!is_empty);
    if is_empty && listeners.iter().any(|it| it.tls) {
        watch.certificates().sign_own(&config.tls.certificates)?;
    }
    Ok((listeners, watch))
}

/// The sockets of every listener, in their order. `held` is what the role `sockets` has, none if there
/// is no such role; `kept` is what outlived an earlier process.
///
/// # Errors
/// If an address cannot be bound, and no listener's sockets are held elsewhere.
pub(super) fn bind_all(
    listeners: &[config::Listener],
    held: Option<Vec<Held>>,
    mut kept: Vec<Held>,
    cores: usize,
) -> Result<Vec<Doors>, StartError> {
    let has_role = held.is_some();
    let mut held = held.unwrap_or_default();
    if has_role {
        complain_of_missing(listeners, &held);
    }
    let mut all = Vec::new();
    for listener in listeners {
        let fit = |it: &mut Held| it.fits(&listener.name, listener.address);
        let shared: Vec<Held> = held.extract_if(.., fit).collect();
        let mut own: Vec<Held> = kept.extract_if(.., fit).collect();
        // Sockets that come from another network leave the address free in this one, where callers
        // within the Swarm look for the edge.
        if own.is_empty() && (shared.is_empty() || listener::is_free(listener.address)) {
            own = match bind(listener, cores) {
                Ok(bound) => bound,
                // What the role holds is served all the same.
                Err(error) if has_role => {
                    warn!(listener = listener.name, %error, "cannot be bound here either");
                    Vec::new()
                }
                Err(source) => return Err(failed(listener, source)),
            };
        }
        let first = shared.first().or(own.first());
        let address = first.map_or(listener.address, |first| first.address);
        all.push(Doors { address, shared, own });
    }
    Ok(all)
}

fn bind(listener: &config::Listener, cores: usize) -> io::Result<Vec<Held>> {
    let held = |socket: StdListener| {
        let address = socket.local_addr()?;
        Ok(Held { listener: listener.name.clone(), address, socket })
    };
    listener::bind(listener.address, cores)?.into_iter().map(held).collect()
}

fn failed(listener: &config::Listener, source: io::Error) -> StartError {
    StartError::Bind { listener: listener.name.clone(), address: listener.address, source }
}

/// What is told of each listener.
pub(super) fn bound(
    listeners: &[config::Listener],
    doors: &[Doors],
    connections: &[Arc<Connections>],
) -> Vec<Bound> {
    let each = listeners.iter().zip(doors).zip(connections);
    let bound = each.map(|((listener, doors), connections)| Bound {
        name: listener.name.clone(),
        address: doors.address,
        default: listener.default,
        connections: Arc::clone(connections),
    });
    bound.collect()
}

/// A proxy without routes, for requests on these listeners.
pub(super) fn proxy(
    listeners: &[config::Listener],
    bound: &[Bound],
    cores: usize,
    certificates: &Arc<Certificates>,
) -> Arc<Proxy> {
    Arc::new(Proxy::new(policies(listeners, bound), cores, certificates))
}

/// What requests of each listener are treated by.
fn policies(listeners: &[config::Listener], bound: &[Bound]) -> Vec<ListenerPolicy> {
    let policy = |(listener, bound): (&config::Listener, &Bound)| ListenerPolicy {
        name: listener.name.clone(),
        port: bound.address.port(),
        allow: listener.allow.clone(),
        trusted_proxies: listener.trusted_proxies.clone(),
        health_path: listener.health_path.clone(),
    };
    listeners.iter().zip(bound).map(policy).collect()
}

/// Says what to add to the options of the role `sockets`, if it has not all that is wanted of it.
pub(super) fn complain_of_missing(listeners: &[config::Listener], held: &[Held]) {
    for config::Listener { name, address, .. } in listeners {
        let mut same = held.iter().filter(|it| it.listener == *name);
        if same.clone().any(|it| it.fits(name, *address)) {
            continue;
        }
        let has = same.next().map_or_else(
            || "does not hold it".to_owned(),
            |other| format!("holds it on {}", other.address),
        );
        let variable = name.replace('-', "_").to_uppercase();
        warn!(
            listener = name,
            %address,
            "the role `sockets` {has}: this edge binds the address itself, and clients will notice \
             when it is replaced; give `hiveway sockets` the same \
             HIVEWAY_LISTENERS_{variable}_ADDRESS={address}"
        );
    }
}
