//! What a client's connection is doing, so that one that does nothing can be closed, and how many
//! there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;

use crate::deadline::Deadline;
use crate::timestamp::Timestamp;

/// How many connections there may be, on all listeners together.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    all: usize,
    /// With more than these taken, idle connections have to go soon.
    enough: usize,
}

impl Seats {
    /// That many, all of them free.
    pub fn new(all: usize) -> Self {
        Self { taken: AtomicUsize::new(0), all, enough: all.saturating_sub(all / 10) }
    }

    fn are_scarce(&self) -> bool {
        self.taken.load(Relaxed) > self.enough
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

    /// Whether more than nine of ten seats are taken.
    pub fn is_crowded(&self) -> bool {
        self.0.seats.are_scarce()
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

/// How a request ended, as far as its connection is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Part of it may still be on its way.
    pub unread: bool,
    /// The client gave it up soon, and before there was an answer.
    pub given_up: bool,
}

/// Why a connection is closed whatever is under way on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Its frames are about nothing.
    Flood,
    /// It gives up most of its requests at once (CVE-2023-44487).
    Resets,
}

impl Offence {
    /// The word in metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Flood => "h2_flood",
            Self::Resets => "h2_resets",
        }
    }
}

/// Requests of a connection that are judged together: when there are as many, half of them are
/// forgotten.
const JUDGED: u32 = 1000;

/// Given up so many and most of its requests, a connection may be that of an attacker.
const DOUBTFUL: u32 = 8;

/// How long a connection may do nothing between two requests while seats are scarce.
const IDLE_WHEN_CROWDED: Duration = Duration::from_secs(2);

/// The requests of one connection, and the time limit while there is none.
#[derive(Debug)]
pub struct Activity {
    requests: AtomicUsize,
    in_head: AtomicBool,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    /// Of the last requests, how many have ended.
    ended: AtomicU32,
    /// How many of them their client gave up early.
    given_up: AtomicU32,
    /// Frames and bytes of responses' bodies that have not been asked for.
    sent: (AtomicU64, AtomicU64),
    flooded: AtomicBool,
    deadline: Deadline,
    patience: Patience,
    /// Whoever has a part in the connection holds on to this: an upgraded one outlives its HTTP.
    open: Open,
}

impl Activity {
    /// A connection that has just been accepted.
    pub fn new(deadline: Deadline, patience: Patience, open: Open) -> Self {
        deadline.set(Some(patience.idle));
        Self {
            requests: AtomicUsize::new(0),
            in_head: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            ended: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            sent: (AtomicU64::new(0), AtomicU64::new(0)),
            flooded: AtomicBool::new(false),
            deadline,
            patience,
            open,
        }
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
        if self.is_idle() && !self.in_head.swap(true, Relaxed) {
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
    pub fn request_ended(&self, manner: Manner) {
        self.unread.store(manner.unread, Relaxed);
        self.judge(manner.given_up);
        if self.requests.fetch_sub(1, Relaxed) == 1 {
            self.deadline.set(Some(self.patience.idle));
        }
        if manner.given_up && self.offence().is_some() {
            // The connection need not read anything more to notice.
            self.deadline.set(Some(Duration::ZERO));
        }
    }

    /// Adds a request to those that are judged by. The older ones count less and less.
    fn judge(&self, given_up: bool) {
        let fade = |count: u32| if self.ended.load(Relaxed) >= JUDGED { count / 2 } else { count };
        let all_given_up = fade(self.given_up.load(Relaxed));
        self.ended.store(fade(self.ended.load(Relaxed)).saturating_add(1), Relaxed);
        self.given_up.store(all_given_up.saturating_add(u32::from(given_up)), Relaxed);
    }

    /// A frame of a response's body went out.
    pub fn data_sent(&self, bytes: usize) {
        // One core serves a connection: nobody else adds.
        let add = |to: &AtomicU64, more| to.store(to.load(Relaxed).wrapping_add(more), Relaxed);
        add(&self.sent.0, 1);
        add(&self.sent.1, bytes as u64);
    }

    /// Frames and bytes that went out since this was asked before.
    pub fn take_sent(&self) -> (u64, u64) {
        (self.sent.0.swap(0, Relaxed), self.sent.1.swap(0, Relaxed))
    }

    /// The client's frames are about nothing.
    pub fn flooded(&self) {
        self.flooded.store(true, Relaxed);
    }

    /// Whether the client gives up most of its requests at once: too few to say that it attacks.
    pub fn is_doubtful(&self) -> bool {
        let (ended, given_up) = (self.ended.load(Relaxed), self.given_up.load(Relaxed));
        given_up >= DOUBTFUL && given_up > ended / 2
    }

    /// Why the connection must not go on; none if it may.
    pub fn offence(&self) -> Option<Offence> {
        if self.flooded.load(Relaxed) {
            return Some(Offence::Flood);
        }
        let (ended, given_up) = (self.ended.load(Relaxed), self.given_up.load(Relaxed));
        (ended > JUDGED / 2 && given_up > ended / 2).then_some(Offence::Resets)
    }

    /// Whether no request is under way. That of an upgraded connection is until its end.
    pub fn is_idle(&self) -> bool {
        self.requests.load(Relaxed) == 0
    }

    /// Whether it has had requests, and has none now.
    pub fn has_paused(&self) -> bool {
        self.is_idle() && self.ended.load(Relaxed) > 0
    }

    /// Whether a head has begun to come, and no more than that.
    pub fn is_in_head(&self) -> bool {
        self.is_idle() && self.in_head.load(Relaxed)
    }

    /// Whether the client may be sending still, though it has its last answer.
    pub fn may_send_more(&self) -> bool {
        self.is_idle() && (self.in_head.load(Relaxed) || self.unread.load(Relaxed))
    }

    /// Told to go for having no requests, it has as long again to do so, at most that long.
    pub fn asked_to_go(&self, limit: Duration) {
        self.deadline.set(Some(limit.min(self.patience.idle)));
    }

    /// The time of the core's last tick.
    pub fn ticked(&self) -> Timestamp {
        self.deadline.ticked()
    }

    /// Nothing more is read for the sake of requests: what is left to do has that long.
    pub fn closes(&self, limit: Duration) {
        self.deadline.set(Some(limit));
    }

    /// While seats are scarce, a connection without a request has to go soon.
    pub fn mind_the_crowd(&self) {
        if self.open.is_crowded() && self.is_idle() && !self.in_head.load(Relaxed) {
            self.deadline.bring_forward(IDLE_WHEN_CROWDED);
        }
    }

    /// Whether there is room to do a client a kindness.
    pub fn has_room(&self) -> bool {
        !self.open.is_crowded()
    }

    /// Ready when the connection has done nothing for too long.
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        self.deadline.poll_passed(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadlines;

    fn activity() -> Activity {
        let connections = Arc::new(Connections::new(&Arc::new(Seats::new(1))));
        let patience = Patience { head: Duration::MAX, idle: Duration::MAX };
        let deadline = Arc::new(Deadlines::default()).add();
        Activity::new(deadline, patience, Open::count(&connections).unwrap())
    }

    /// How many of so many requests end like this before it is an offence.
    fn tolerated(activity: &Activity, requests: usize, given_up: bool) -> usize {
        (0..requests)
            .take_while(|_| {
                activity.request_started();
                activity.request_ended(Manner { unread: false, given_up });
                activity.offence().is_none()
            })
            .count()
    }

    #[test]
    fn who_gives_up_most_requests_is_doubted_until_it_does_not() {
        let activity = activity();
        assert_eq!(tolerated(&activity, 7, true), 7);
        assert!(!activity.is_doubtful(), "a page that is left");
        assert_eq!(tolerated(&activity, 1, true), 1);
        assert!(activity.is_doubtful());
        assert_eq!(tolerated(&activity, 8, false), 8);
        assert!(!activity.is_doubtful());
    }

    #[test]
    fn requests_that_are_given_up_are_an_offence_if_they_are_many_and_most() {
        assert_eq!(tolerated(&activity(), 10_000, true), 500);
        let (half, long) = (activity(), activity());
        for _ in 0..10_000 {
            assert_eq!(tolerated(&half, 1, false) + tolerated(&half, 1, true), 2);
        }
        assert_eq!(tolerated(&long, 100_000, false), 100_000);
        let tolerated = tolerated(&long, 10_000, true);
        assert!(tolerated < 1000, "what was long ago excuses {tolerated}");
    }
}
