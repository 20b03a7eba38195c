//! What one follower is told, and when.
//!
//! Messages are made when the connection has room for them, from what is known at that moment: a
//! slow follower misses states in between and costs no memory for them. The first word about the
//! Swarm rests on a list that was made after the follower came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::knowledge::{Knowledge, line};
use super::{Agent, Counts};
use crate::clock;
use crate::docker::{Listing, translate};
use crate::feed::Version;
use crate::feed::message::{Beat, Change, Hello, Message, You};
use crate::timestamp::Timestamp;

/// Between two signs of life: a follower goes elsewhere after it has missed three.
pub(super) const BEAT: Duration = Duration::from_millis(600);

/// How long a new follower waits for a list that was made after it came.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that are handed to the connection at once.
const PIECE: usize = 16 << 10;

/// When a follower last had room for more.
#[derive(Debug)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    pub(super) fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_micros()))
    }

    pub(super) fn last(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Relaxed))
    }
}

/// An edge that follows.
#[derive(Debug)]
pub(super) struct Follower {
    agent: Arc<Agent>,
    knowledge: watch::Receiver<Knowledge>,
    hostname: String,
    came: Timestamp,
    /// Until when it waits for its first list; none once it has got it.
    patience: Option<Instant>,
    pulse: Arc<Pulse>,
    /// Pieces of messages that are made and not sent.
    pieces: VecDeque<Bytes>,
    beat_due: Instant,
    told: Told,
    _counted: Counted,
}

/// What was said last.
#[derive(Debug, Default)]
struct Told {
    /// From which `you` was worked out.
    listing: Option<Arc<Listing>>,
    version: Option<Version>,
    you: Option<You>,
    trouble: Option<String>,
}

/// Counts a follower for as long as it follows.
#[derive(Debug)]
struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Relaxed);
    }
}

impl Follower {
    /// A follower with this host name that has come now. It has the edition of that version.
    pub(super) fn new(
        agent: Arc<Agent>,
        pulse: Arc<Pulse>,
        hostname: &str,
        have: Option<&str>,
    ) -> Self {
        agent.counts.followers.fetch_add(1, Relaxed);
        agent.asked.notify_one();
        let now = Instant::now();
        Self {
            knowledge: agent.knowledge.clone(),
            hostname: hostname.to_owned(),
            came: clock::now(),
            patience: Some(now + PATIENCE),
            pulse,
            pieces: VecDeque::new(),
            beat_due: now,
            told: Told { version: have.map(Version::named), ..Told::default() },
            _counted: Counted(Arc::clone(&agent.counts)),
            agent,
        }
    }

    /// The next bytes, when there is something to say.
    pub(super) async fn next(&mut self) -> Bytes {
        self.pulse.0.store(clock::now().as_micros(), Relaxed);
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                self.agent.counts.sent_bytes.fetch_add(piece.len() as u64, Relaxed);
                return piece;
            }
            let known = self.knowledge.borrow_and_update().clone();
            let now = Instant::now();
            if self.patience.is_some_and(|until| now < until && !self.is_fresh(&known)) {
                if self.beat_due <= now {
                    self.say(&Message::Hello(Hello { hiveway: VERSION.to_owned() }));
                }
            } else {
                self.patience = None;
                self.tell(&known);
            }
            if self.pieces.is_empty() {
                let due = self.patience.map_or(self.beat_due, |until| until.min(self.beat_due));
                tokio::select! {
                    // The agent outlives its followers.
                    _ = self.knowledge.changed() => {}
                    () = sleep_until(due) => {}
                }
            }
        }
    }

    /// Whether what is known was asked for after the follower came, or is known to be in trouble.
    fn is_fresh(&self, known: &Knowledge) -> bool {
        known.tried_at > self.came || known.trouble.is_some()
    }

    /// Says what has changed since the last time, and that the agent lives if it is time to.
    fn tell(&mut self, known: &Knowledge) {
        self.tell_you(&known.listing);
        let mut standing = known.standing(clock::now());
        if standing.version != self.told.version && standing.version.is_some() {
            self.tell_edition(known);
            self.told.version.clone_from(&standing.version);
        }
        if !self.is_fresh(known) {
            standing.trouble = Some(format!("the engine has not answered within {PATIENCE:?}"));
        }
        let is_news = !self.pieces.is_empty() || standing.trouble != self.told.trouble;
        if is_news || self.beat_due <= Instant::now() {
            self.told.trouble.clone_from(&standing.trouble);
            self.say(&Message::Beat(Beat { standing }));
        }
    }

    fn tell_you(&mut self, listing: &Arc<Listing>) {
        let seen = self.told.listing.replace(Arc::clone(listing));
        if seen.is_some_and(|seen| Arc::ptr_eq(&seen, listing)) {
            return;
        }
        let you = You {
            networks: translate::own_networks(listing, &self.hostname),
            near: translate::sibling_near(listing, &self.agent.hostname, &self.hostname),
        };
        if self.told.you.as_ref() != Some(&you) {
            self.say(&Message::You(you.clone()));
            self.told.you = Some(you);
        }
    }

    fn tell_edition(&mut self, known: &Knowledge) {
        let told = self.told.version.as_ref().map(Version::as_str);
        let earlier = told.and_then(|version| known.earlier(version));
        if let (Some(earlier), Some(present)) = (earlier, known.edition()) {
            let (from, changes) = (earlier.version().clone(), earlier.changes(present));
            self.say(&Message::Change(Change { from, changes }));
        } else {
            self.push(known.whole());
        }
    }

    fn say(&mut self, message: &Message) {
        self.push(line(message));
    }

    fn push(&mut self, mut line: Bytes) {
        while !line.is_empty() {
            self.pieces.push_back(line.split_to(line.len().min(PIECE)));
        }
        self.beat_due = Instant::now() + BEAT;
    }
}

/// The version that an agent says it is.
const VERSION: &str = env!("CARGO_PKG_VERSION");
