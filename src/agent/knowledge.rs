//! What an agent knows: the present edition, a few earlier ones, and how old all that is.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::watch;
use tracing::error;

use super::Counts;
use crate::clock;
use crate::docker::{EngineError, Listing, translate};
use crate::feed::Edition;
use crate::feed::message::{Message, Standing, Whole};
use crate::feed::order::RaftTime;
use crate::provider::docker::Recipient;
use crate::timestamp::Timestamp;

/// Editions that are kept, for followers that have one of them. They share what is equal in them.
const EDITIONS: usize = 32;

/// What an agent knows at a time; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Earlier editions, and the present one at the end; none before the first list.
    editions: Vec<Arc<Edition>>,
    /// The present one as a message, written when somebody needs it.
    whole: Arc<OnceLock<Bytes>>,
    /// What the engine listed last.
    pub listing: Arc<Listing>,
    raft: RaftTime,
    /// When that list was asked for.
    pub listed_at: Timestamp,
    /// When the last list was asked for that has succeeded or failed.
    pub tried_at: Timestamp,
    /// Why that one failed; none if it succeeded.
    pub trouble: Option<Arc<str>>,
    /// When the last list that succeeded was asked for, in seconds since 1970; 0 before the first.
    pub listed_unix: f64,
}

impl Knowledge {
    /// The present edition.
    pub fn edition(&self) -> Option<&Arc<Edition>> {
        self.editions.last()
    }

    /// The edition of that version, if it is still kept.
    pub(super) fn earlier(&self, version: &str) -> Option<&Arc<Edition>> {
        self.editions.iter().find(|edition| edition.version().as_str() == version)
    }

    /// The line that tells the present edition as a whole; all followers share its bytes.
    pub(super) fn whole(&self) -> Bytes {
        let written = self.whole.get_or_init(|| {
            let services = self.edition().map(|edition| edition.services().clone());
            line(&Message::Whole(Whole { services: services.unwrap_or_default() }))
        });
        written.clone()
    }

    /// What is told of it at a time.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        Standing {
            version: self.edition().map(|edition| edition.version().clone()),
            cluster: self.raft.cluster.clone(),
            raft: self.raft.index,
            age_ms: u64::try_from(now.since(self.listed_at).as_millis()).unwrap_or(u64::MAX),
            trouble: self.trouble.as_deref().map(str::to_owned),
        }
    }
}

/// A message with the end of its line; nothing if it could not be written, which none can cause.
pub(super) fn line(message: &Message) -> Bytes {
    match message.write() {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            bytes.into()
        }
        Err(error) => {
            error!(%error, "a message could not be written");
            Bytes::new()
        }
    }
}

/// Takes what the engine tells.
#[derive(Debug)]
pub(super) struct Reader {
    knowledge: watch::Sender<Knowledge>,
    counts: Arc<Counts>,
}

impl Reader {
    /// A reader, and where its knowledge can be seen.
    pub(super) fn new(counts: Arc<Counts>) -> (Self, watch::Receiver<Knowledge>) {
        let (sender, receiver) = watch::channel(Knowledge::default());
        (Self { knowledge: sender, counts }, receiver)
    }
}

impl Recipient for Reader {
    fn listed(&mut self, listing: Listing, at: Timestamp) -> Option<usize> {
        let present = self.knowledge.borrow().edition().cloned();
        let inventory = translate::inventory(&listing);
        let next = match Edition::of_inventory(&inventory, present.as_deref()) {
            Ok(next) => next,
            Err(error) => {
                error!(%error, "the inventory could not be written");
                return None;
            }
        };
        let is_new = present.is_none_or(|present| present.version() != next.version());
        self.knowledge.send_modify(|known| {
            if is_new {
                let excess = (known.editions.len() + 1).saturating_sub(EDITIONS);
                known.editions.drain(..excess);
                known.editions.push(Arc::new(next));
                known.whole = Arc::default();
            }
            known.raft.advance(&listing.cluster, listing.raft);
            known.listing = Arc::new(listing);
            (known.listed_at, known.tried_at, known.trouble) = (at, at, None);
            known.listed_unix = clock::unix_seconds() - clock::now().since(at).as_secs_f64();
        });
        is_new.then_some(inventory.services.len())
    }

    fn failed(&mut self, error: &EngineError, at: Timestamp) {
        self.counts.errors.fetch_add(1, Relaxed);
        self.knowledge.send_modify(|known| {
            known.tried_at = at;
            known.trouble = Some(error.to_string().into());
        });
    }

    fn stream_ended(&mut self) {
        self.counts.errors.fetch_add(1, Relaxed);
    }

    fn wants_cluster(&self) -> bool {
        let known = self.knowledge.borrow();
        // A node that left a Swarm for another has failed in between.
        known.raft.cluster.is_empty() || known.trouble.is_some()
    }
}
