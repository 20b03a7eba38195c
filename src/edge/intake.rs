//! Where the sockets of listeners meet the cores: each core accepts, and each socket is accepted on.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info};

use super::binding::Doors;
use super::holding::Holder;
use super::worker::{self, Accepting, Left, Share};
use crate::clock;
use crate::config::{self, Config};
use crate::handover::Held;
use crate::listener::{self, ListenerOptions, Throttle};
use crate::proxy::Core;
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

/// The counts of as many listeners, which share the seats.
pub(super) fn connections(config: &Config, listeners: usize) -> Vec<Arc<Connections>> {
    let seats = Seats::new(config.limits.connections.unwrap_or_else(most_connections));
    let seats = Arc::new(seats);
    (0..listeners).map(|_| Arc::new(Connections::new(&seats))).collect()
}

/// What is done with the connections of each listener, and their counts.
///
/// # Errors
/// If there is no randomness for TLS.
pub(super) fn places(
    config: &Config,
    listeners: &[config::Listener],
    certificates: &Arc<Certificates>,
    connections: Vec<Arc<Connections>>,
) -> Result<Vec<Place>, rustls::Error> {
    let each = listeners.iter().zip(connections).enumerate().map(|(index, (listener, counts))| {
        let terms = || Terms::new(certificates, listener.protocols, config.tls.min_version);
        let options = ListenerOptions {
            index,
            http1: listener.protocols.http1,
            http2: listener.protocols.h2,
            max_streams: listener.max_streams,
            limits: config.limits,
            tls: listener.tls.then(terms).transpose()?,
            // Each core has its own.
            handshakes: None,
        };
        Ok((options, counts))
    });
    each.collect()
}

/// A listener, and its connections.
pub(super) type Place = (ListenerOptions, Arc<Connections>);

/// A core that can be given sockets.
#[derive(Debug)]
struct Seat {
    runtime: Handle,
    core: Arc<Core>,
    handshakes: Option<Arc<Throttle>>,
}

/// Gives sockets to cores.
#[derive(Debug)]
pub(super) struct Intake {
    seats: Vec<Seat>,
    listeners: Vec<Place>,
    accepts: watch::Receiver<Accepting>,
    /// The sockets that are left to the next edge at the end.
    pub(super) left: Left,
}

impl Intake {
    /// For these cores and listeners.
    pub(super) fn new(
        cores: &[(Handle, Arc<Core>)],
        listeners: Vec<Place>,
        accepts: watch::Receiver<Accepting>,
    ) -> Self {
        let limit = listeners.first().and_then(|(options, _)| options.limits.handshakes);
        let seat = |(runtime, core): &(Handle, Arc<Core>)| Seat {
            runtime: runtime.clone(),
            core: Arc::clone(core),
            handshakes: limit.map(|limit| Arc::new(Throttle::new(limit, clock::now()))),
        };
        Self { seats: cores.iter().map(seat).collect(), listeners, accepts, left: Left::default() }
    }

    /// Opens what there is at the start. It comes back once more: the sockets that are shared, and those
    /// that only this process has.
    pub(super) fn open_all(&self, doors: Vec<Doors>, holder: &mut Holder) -> [Vec<Held>; 2] {
        let [mut all_shared, mut all_own] = [Vec::new(), Vec::new()];
        for (index, Doors { shared, own, address: _ }) in doors.into_iter().enumerate() {
            let shared: Vec<Held> = shared.into_iter().filter(|it| holder.remember(it)).collect();
            self.open(index, &shared);
            self.open(index, &own);
            all_shared.extend(shared);
            all_own.extend(own);
        }
        [all_shared, all_own]
    }

    /// Sees to it that these sockets of a listener are accepted on once the edge accepts. With fewer
    /// of them than cores, some cores share one; with more, some cores have several.
    fn open(&self, listener: usize, sockets: &[Held]) {
        if sockets.is_empty() {
            return;
        }
        let count = sockets.len().max(self.seats.len());
        let pairs = sockets.iter().cycle().zip(self.seats.iter().cycle());
        for (held, seat) in pairs.take(count) {
            if let Err(error) = self.place(listener, held, seat) {
                unusable(&error);
            }
        }
    }

    /// The same for sockets of several listeners, all of them shared. Those that no listener wants are
    /// closed again.
    pub(super) fn open_fitting(&self, mut sockets: Vec<Held>, listeners: &[config::Listener]) {
        for (index, config::Listener { name, address, .. }) in listeners.iter().enumerate() {
            let fit: Vec<Held> = sockets.extract_if(.., |it| it.fits(name, *address)).collect();
            self.open(index, &fit);
            let Some(first) = fit.first() else { continue };
            if *self.accepts.borrow() == Accepting::Yes {
                let heard: io::Result<()> =
                    fit.iter().try_for_each(|it| listener::listen(&it.socket));
                heard.unwrap_or_else(|error| unusable(&error));
            }
            info!(listener = name, address = %first.address, sockets = fit.len(), "accepting on more");
        }
    }

    fn place(&self, listener: usize, held: &Held, seat: &Seat) -> io::Result<()> {
        let Some((options, connections)) = self.listeners.get(listener) else { return Ok(()) };
        let share = Share {
            options: ListenerOptions { handshakes: seat.handshakes.clone(), ..options.clone() },
            socket: held.socket.try_clone()?,
            connections: Arc::clone(connections),
            inode: held.inode()?,
            left: Arc::clone(&self.left),
        };
        let (core, accepts) = (Arc::clone(&seat.core), self.accepts.clone());
        seat.runtime.spawn(async move {
            if let Err(error) = worker::serve(core, share, accepts).await {
                unusable(&error);
            }
        });
        Ok(())
    }
}

fn unusable(error: &io::Error) {
    error!(%error, "a socket cannot be used");
}
