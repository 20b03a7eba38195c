//! A worker: one core's thread, which accepts and serves until all is over.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::StartError;
use crate::clock;
use crate::config::Config;
use crate::listener::{self, ListenerOptions};
use crate::memory::Pressure;
use crate::proxy::activity::Connections;
use crate::proxy::pool::SWEEP;
use crate::proxy::{Core, Proxy};

/// What the workers do about new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accepting {
    NotYet,
    Yes,
    NoLonger,
    /// Every connection is over, or its time is.
    Ended,
}

/// The inodes of sockets that need nobody here any more.
pub(super) type Left = Arc<OnceLock<HashSet<u64>>>;

/// One core's share of a listener.
pub(super) struct Share {
    pub(super) options: ListenerOptions,
    pub(super) socket: StdListener,
    pub(super) connections: Arc<Connections>,
    /// What tells the socket from every other one.
    pub(super) inode: u64,
    /// The sockets that the role `sockets` has as well, by their inodes, once that matters.
    pub(super) left: Left,
}

/// Cores, and the runtimes of their threads.
pub(super) type Cores = Vec<(Handle, Arc<Core>)>;

/// The cores, which can be given sockets, and their threads.
///
/// # Errors
/// If there can be no thread.
pub(super) fn start_all(
    config: &Config,
    proxy: &Arc<Proxy>,
    accepts: &watch::Receiver<Accepting>,
) -> Result<(Cores, Vec<JoinHandle<()>>), StartError> {
    let start = |index| {
        let core = Arc::new(Core::new(index, proxy, config.limits.least_rate()));
        let (handle, thread) = start(Arc::clone(&core), accepts.clone())?;
        Ok(((handle, core), thread))
    };
    (0..config.runtime.threads()).map(start).collect::<io::Result<_>>().map_err(StartError::Worker)
}

/// A thread with a runtime of its own, on which connections are accepted and served until all is over.
fn start(
    core: Arc<Core>,
    accepts: watch::Receiver<Accepting>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let name = format!("core-{}", core.index);
    let serve = move || runtime.block_on(work(core, accepts));
    let thread = std::thread::Builder::new().name(name).spawn(serve)?;
    Ok((handle, thread))
}

async fn work(core: Arc<Core>, mut accepts: watch::Receiver<Accepting>) {
    tokio::spawn(Arc::clone(&core.deadlines).tick());
    tokio::spawn(sweep(core));
    let _ = accepts.wait_for(|now| *now >= Accepting::Ended).await;
}

/// Accepts on a socket for as long as the edge does.
///
/// # Errors
/// If the socket cannot be used.
pub(super) async fn serve(
    core: Arc<Core>,
    share: Share,
    mut accepts: watch::Receiver<Accepting>,
) -> io::Result<()> {
    let Share { options, socket, connections, inode, left } = share;
    match accepts.wait_for(|now| *now >= Accepting::Yes).await {
        Ok(now) if *now == Accepting::Yes => {}
        Ok(_) | Err(_) => return Ok(()),
    }
    // Who holds sockets does not listen: nobody is to wait in one before there is an edge with routes.
    listener::listen(&socket)?;
    let socket = TcpListener::from_std(socket)?;
    let stop = async move {
        let _ = accepts.wait_for(|now| *now >= Accepting::NoLonger).await;
        // Who waits in a socket that the role `sockets` has as well is the next edge's.
        !left.get().is_some_and(|left| left.contains(&inode))
    };
    listener::accept(core, socket, options, connections, stop).await;
    Ok(())
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
