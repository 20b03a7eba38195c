//! The role `agent`: tells edges what the Swarm runs.
//!
//! It reads an engine as an edge of provider `docker` does, and serves what it knows over HTTP/2
//! within TLS to whoever holds the edges' key. `knowledge` is what is known, `follower` what one
//! edge is told of it and when, `serving` one connection, `seats` how many there are. An agent makes
//! no routes, and keeps nothing that another agent would need.

pub mod knowledge;

mod follower;
mod seats;
mod serving;

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use self::knowledge::{Knowledge, Reader};
use self::seats::Seats;
use crate::docker::Engine;
use crate::identity::AgentKeys;
use crate::listener::PAUSE_AFTER_ERROR;
use crate::provider::docker::{self, Pace};
use crate::timestamp::Timestamp;

/// An agent that is to end goes on for so long while edges follow it. Swarm may have all agents replaced at once,
/// and everything else with them, and DNS names a successor only when its first check has passed: less than
/// `stop_grace_period` in the stack.
const FAREWELL: Duration = Duration::from_secs(8);

/// Between looks whether edges follow.
const LOOK_FOR_FOLLOWERS: Duration = Duration::from_millis(50);

/// How often what recurs is warned of.
const REMINDER: Duration = Duration::from_mins(1);

/// An agent, as its followers and its admin port see it.
#[derive(Debug)]
pub struct Agent {
    knowledge: watch::Receiver<Knowledge>,
    asked: Arc<Notify>,
    /// Its own container's host name, by which its service is found among the tasks.
    hostname: String,
    counts: Arc<Counts>,
}

/// Why a connection was closed before it ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Without the edges' key, or too slow to show it.
    Handshake,
    /// Too many at once.
    Limit,
    /// It takes nothing any more.
    Stalled,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Handshake, Self::Limit, Self::Stalled];

    const fn word(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Limit => "limit",
            Self::Stalled => "stalled",
        }
    }
}

/// What an agent counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Edges that follow now.
    pub followers: AtomicU64,
    /// Bytes of messages so far, before TLS.
    pub sent_bytes: AtomicU64,
    /// Lists and event streams that have failed.
    pub errors: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    /// When a stranger was last warned of, in microseconds since the start.
    warned_at: AtomicU64,
}

impl Counts {
    /// Connections that were closed before they ended by themselves, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Relaxed));
        Refusal::ALL.map(Refusal::word).into_iter().zip(counts)
    }

    fn refuse(&self, reason: Refusal) {
        let counts = Refusal::ALL.iter().zip(&self.refused);
        for (_, count) in counts.filter(|(it, _)| **it == reason) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Whether a stranger is to be warned of: at first, and then once a minute.
    fn may_warn(&self, now: Timestamp) -> bool {
        let warned_at = Timestamp::from_micros(self.warned_at.load(Relaxed));
        let may = warned_at == Timestamp::START || now.since(warned_at) >= REMINDER;
        if may {
            self.warned_at.store(now.as_micros(), Relaxed);
        }
        may
    }
}

/// The agent of this engine, and what drives it: to be spawned once, it never ends.
pub fn follow(
    engine: Engine,
    pace: Pace,
    hostname: String,
) -> (Arc<Agent>, impl Future<Output = ()> + Send) {
    let counts = Arc::<Counts>::default();
    let (reader, knowledge) = Reader::new(Arc::clone(&counts));
    let asked = Arc::<Notify>::default();
    let driver = docker::follow_for(reader, engine, pace, Arc::clone(&asked));
    (Arc::new(Agent { knowledge, asked, hostname, counts }), driver)
}

impl Agent {
    /// What it knows now.
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge.borrow().clone()
    }

    /// What it has counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Completes when the agent may end: when `stop` has completed, and then when no edge follows, after 8 s, or
    /// when `stop` has completed once more.
    pub async fn released(&self, stop: impl AsyncFn()) {
        stop().await;
        if self.is_followed() {
            info!("edges are told on until none follows; a second signal ends this at once");
        }
        tokio::select! {
            () = async { while self.is_followed() { sleep(LOOK_FOR_FOLLOWERS).await } } => {}
            () = sleep(FAREWELL) => {}
            () = stop() => {}
        }
    }

    fn is_followed(&self) -> bool {
        self.counts.followers.load(Relaxed) > 0
    }
}

/// Serves followers on a socket; when this is dropped they are too.
///
/// # Errors
/// If the socket cannot be used by the runtime.
pub async fn serve(socket: StdListener, keys: AgentKeys, agent: Arc<Agent>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from_std(socket)?;
    let seats = Seats::default();
    let mut connections = JoinSet::new();
    let mut failed = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Without file descriptors it would fail a hundred times a second.
                if !failed {
                    warn!(%error, "an edge's connection could not be accepted");
                }
                failed = true;
                sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        failed = false;
        let peer = peer.ip().to_canonical();
        let Some(seat) = seats.take(peer) else {
            agent.counts.refuse(Refusal::Limit);
            debug!(%peer, "too many connections: closed");
            continue;
        };
        let (keys, agent) = (keys.clone(), Arc::clone(&agent));
        connections.spawn(async move {
            serving::converse(stream, peer, &keys, agent).await;
            drop(seat);
        });
    }
}

#[cfg(test)]
mod tests;
