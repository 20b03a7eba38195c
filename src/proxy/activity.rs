//! What a client's connection is doing, so that one that does nothing can be closed, and how many
//! there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;

use crate::deadline::Deadline;

/// How many connections there may be, on all listeners together.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    all: usize,
}

impl Seats {
    /// That many, all of them free.
    pub fn new(all: usize) -> Self {
        Self { taken: AtomicUsize::new(0), all }
    }
}

/// Counts of one listener.
#[derive(Debug)]
pub struct Connections {
    /// Open now, with those that have been upgraded.
    pub open: AtomicUsize,
    /// Accepted so far.
    pub accepted: AtomicU64,
    /// Sockets that are accepted from.
    sockets: AtomicUsize,
    /// One has ended.
    ended: Notify,
    seats: Arc<Seats>,
}

impl Connections {
    /// None yet; each will take one of the seats.
    pub fn new(seats: &Arc<Seats>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            sockets: AtomicUsize::new(0),
            ended: Notify::new(),
            seats: Arc::clone(seats),
        }
    }

    /// Waits until none is open, and none can come any more.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.sockets.load(Relaxed) == 0 && self.open.load(Relaxed) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Counts a socket for as long as connections may come from it.
#[derive(Debug)]
pub struct Listening(Arc<Connections>);

impl Listening {
    /// Counts one more.
    pub fn count(connections: &Arc<Connections>) -> Self {
        connections.sockets.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// Counts a connection until it ends, also by a panic.
#[derive(Debug)]
pub struct Open(Arc<Connections>);

impl Open {
    /// Counts one more; none if all seats are taken.
    pub fn count(connections: &Arc<Connections>) -> Option<Self> {
        let seats = &connections.seats;
        connections.accepted.fetch_add(1, Relaxed);
        connections.open.fetch_add(1, Relaxed);
        let before = seats.taken.fetch_add(1, Relaxed);
        let open = Self(Arc::clone(connections));
        (before < seats.all).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.seats.taken.fetch_sub(1, Relaxed);
        self.0.open.fetch_sub(1, Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// How long a connection may do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From a head's first byte to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// The requests of one connection, and the time limit while there is none.
#[derive(Debug)]
pub struct Activity {
    requests: AtomicUsize,
    /// It has had a request.
    used: AtomicBool,
    in_head: AtomicBool,
    deadline: Deadline,
    patience: Patience,
    /// Whoever has a part in the connection holds on to this: an upgraded one outlives its HTTP.
    _open: Open,
}

impl Activity {
    /// A connection that has just been accepted.
    pub fn new(deadline: Deadline, patience: Patience, open: Open) -> Self {
        deadline.set(Some(patience.idle));
        let (requests, used) = (AtomicUsize::new(0), AtomicBool::new(false));
        let in_head = AtomicBool::new(false);
        Self { requests, used, in_head, deadline, patience, _open: open }
    }

    /// A TLS handshake begins, and may take that long.
    pub fn handshake_started(&self, limit: Duration) {
        self.deadline.set(Some(limit));
    }

    /// A TLS handshake is over: the first request is waited for.
    pub fn handshake_ended(&self) {
        self.deadline.set(Some(self.patience.idle));
    }

    /// Bytes came: between two requests they begin a head.
    pub fn bytes_came(&self) {
        if self.requests.load(Relaxed) == 0 && !self.in_head.swap(true, Relaxed) {
            self.deadline.set(Some(self.patience.head));
        }
    }

    /// What came was no head but the preface of HTTP/2, after which there may be a pause.
    pub fn greeted(&self) {
        self.in_head.store(false, Relaxed);
        self.deadline.set(Some(self.patience.idle));
    }

    /// From now on a connection without a request has only that long.
    pub fn hurry(&self, patience: Duration) {
        self.deadline.set(Some(patience.min(self.patience.head)));
    }

    /// A head is complete.
    pub fn request_started(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        self.deadline.set(None);
    }

    /// A response is through, or its client has left.
    pub fn request_ended(&self) {
        if self.requests.fetch_sub(1, Relaxed) == 1 {
            self.used.store(true, Relaxed);
            self.deadline.set(Some(self.patience.idle));
        }
    }

    /// Whether it has had requests, and has none now.
    pub fn has_paused(&self) -> bool {
        self.requests.load(Relaxed) == 0 && self.used.load(Relaxed)
    }

    /// Ready when the connection has done nothing for too long.
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        self.deadline.poll_passed(cx)
    }
}
