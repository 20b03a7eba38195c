//! What a client's connection is doing, so that one that does nothing can be closed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::deadline::Deadline;

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
    in_head: AtomicBool,
    deadline: Deadline,
    patience: Patience,
}

impl Activity {
    /// A connection that has just been accepted.
    pub fn new(deadline: Deadline, patience: Patience) -> Self {
        deadline.set(Some(patience.idle));
        Self { requests: AtomicUsize::new(0), in_head: AtomicBool::new(false), deadline, patience }
    }

    /// Bytes came: between two requests they begin a head.
    pub fn bytes_came(&self) {
        if self.requests.load(Relaxed) == 0 && !self.in_head.swap(true, Relaxed) {
            self.deadline.set(Some(self.patience.head));
        }
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
            self.deadline.set(Some(self.patience.idle));
        }
    }

    /// Ready when the connection has done nothing for too long.
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        self.deadline.poll_passed(cx)
    }
}
