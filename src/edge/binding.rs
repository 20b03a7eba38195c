//! The sockets of an edge: every listener's, once for each core.

use std::net::TcpListener as StdListener;
use std::sync::Arc;

use super::worker::Share;
use super::{Bound, StartError};
use crate::clock;
use crate::config::{self, Config};
use crate::listener::{self, ListenerOptions, Throttle};
use crate::proxy::activity::{Connections, Seats};
use crate::tls::{Certificates, Terms};

/// As many connections as the limit of open files allows: each takes a second one to its replica.
fn most_connections() -> usize {
    const RESERVE: usize = 1024;
    const ENOUGH: usize = 50_000;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let files = soft.map_or(ENOUGH, |soft| soft.parse().unwrap_or(usize::MAX));
    // Of a small limit half is kept for everything else.
    (files.saturating_sub(RESERVE.min(files / 2)) / 2).clamp(1, ENOUGH)
}

/// Binds every listener once for each core. What comes back second are the cores' shares.
///
/// # Errors
/// If an address cannot be bound, or there is no randomness for TLS.
pub(super) fn bind_all(
    config: &Config,
    listeners: &[config::Listener],
    certificates: &Arc<Certificates>,
    cores: usize,
) -> Result<(Vec<Bound>, Vec<Vec<Share>>), StartError> {
    let most = config.limits.connections.unwrap_or_else(most_connections);
    let seats = Arc::new(Seats::new(most));
    let throttle = |limit| Arc::new(Throttle::new(limit, clock::now()));
    let throttles: Vec<_> = (0..cores).map(|_| config.limits.handshakes.map(throttle)).collect();
    let mut bound = Vec::new();
    let mut shares: Vec<Vec<Share>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, listener) in listeners.iter().enumerate() {
        let failed = |source| StartError::Bind {
            listener: listener.name.clone(),
            address: listener.address,
            source,
        };
        let sockets = listener::bind(listener.address, cores).map_err(failed)?;
        let address = sockets.first().map_or(Ok(listener.address), StdListener::local_addr);
        let address = address.map_err(failed)?;
        let connections = Arc::new(Connections::new(&seats));
        let options = options(index, listener, config, certificates)?;
        for ((share, socket), handshakes) in shares.iter_mut().zip(sockets).zip(&throttles) {
            let options = ListenerOptions { handshakes: handshakes.clone(), ..options.clone() };
            let connections = Arc::clone(&connections);
            share.push(Share { options, socket, connections });
        }
        let (name, default) = (listener.name.clone(), listener.default);
        bound.push(Bound { name, address, default, connections });
    }
    Ok((bound, shares))
}

fn options(
    index: usize,
    listener: &config::Listener,
    config: &Config,
    certificates: &Arc<Certificates>,
) -> Result<ListenerOptions, StartError> {
    let terms = || Terms::new(certificates, listener.protocols, config.tls.min_version);
    Ok(ListenerOptions {
        index,
        http1: listener.protocols.http1,
        http2: listener.protocols.h2,
        max_streams: listener.max_streams,
        limits: config.limits,
        tls: listener.tls.then(terms).transpose()?,
        // Each core has its own.
        handshakes: None,
    })
}
