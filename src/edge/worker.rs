//! A worker: one core's thread, which accepts and serves until all is over.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::clock;
use crate::listener::{self, ListenerOptions};
use crate::memory::Pressure;
use crate::proxy::Core;
use crate::proxy::activity::Connections;
use crate::proxy::pool::SWEEP;

/// What the workers do about new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accepting {
    NotYet,
    Yes,
    NoLonger,
    /// Every connection is over, or its time is.
    Ended,
}

/// One core's share of a listener.
pub(super) struct Share {
    pub(super) options: ListenerOptions,
    pub(super) socket: StdListener,
    pub(super) connections: Arc<Connections>,
}

/// A thread with a runtime of its own, which accepts and serves until all is over.
pub(super) fn start(
    core: Arc<Core>,
    shares: Vec<Share>,
    accepts: watch::Receiver<Accepting>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let name = format!("core-{}", core.index);
    let serve = move || runtime.block_on(work(core, shares, accepts));
    let thread = std::thread::Builder::new().name(name).spawn(serve)?;
    Ok((handle, thread))
}

async fn work(core: Arc<Core>, shares: Vec<Share>, mut accepts: watch::Receiver<Accepting>) {
    tokio::spawn(Arc::clone(&core.deadlines).tick());
    tokio::spawn(sweep(Arc::clone(&core)));
    let is = |wanted: Accepting| move |now: &Accepting| *now >= wanted;
    let _ = accepts.wait_for(is(Accepting::Yes)).await;
    for Share { options, socket, connections } in shares {
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let mut accepts = accepts.clone();
                let stop = async move {
                    let _ = accepts.wait_for(is(Accepting::NoLonger)).await;
                };
                let core = Arc::clone(&core);
                tokio::spawn(listener::accept(core, socket, options, connections, stop));
            }
            Err(error) => error!(%error, "a socket cannot be used"),
        }
    }
    let _ = accepts.wait_for(is(Accepting::Ended)).await;
}

async fn sweep(core: Arc<Core>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.pools.sweep(core.index, clock::now());
        if core.proxy.memory.is_at(Pressure::Idle) {
            // Idle connections look whether they are to go only when they are woken.
            core.deadlines.wake_all();
        }
    }
}
