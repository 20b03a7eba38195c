//! Follows a Docker engine.
//!
//! An event says "look again" and nothing more. A burst of them makes one list, one list at most is
//! under way, and an event that comes meanwhile makes another one after it. A list is made every
//! ten seconds in any case: event streams of demoted managers stay open and silent.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{Provider, Publisher, channel};
use crate::clock;
use crate::docker::{Engine, EngineError, Listing, translate};
use crate::timestamp::Timestamp;

/// How fast the provider goes.
#[derive(Clone, Debug)]
pub struct Pace {
    /// From the first event of a burst to the list.
    pub debounce: Duration,
    /// Between two lists when nothing happens.
    pub resync: Duration,
    /// Between two lists at least, however often somebody asks.
    pub distance: Duration,
    /// After the first failure; twice as long after each further one in a row.
    pub backoff: Duration,
    /// After a failure at most.
    pub max_backoff: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(75),
            resync: Duration::from_secs(10),
            distance: Duration::from_millis(100),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
        }
    }
}

/// What makes the loop go round.
enum Wake {
    /// The engine says that something happened.
    SwarmEvent,
    /// The event stream ended, with a reason or without.
    StreamEnded(Option<EngineError>),
    /// It is time to open the event stream again.
    ReopenDue,
    /// It is time for a list: after an event, a failure, or ten quiet seconds.
    ListDue,
    /// Somebody met an address that no list names.
    Asked,
    /// The list under way has ended.
    Listed(Result<Listing, EngineError>),
}

type Listed = Pin<Box<dyn Future<Output = Result<Listing, EngineError>> + Send>>;

/// The provider, and what drives it: to be spawned once, it never ends. `hostname` is the own
/// container's, by which the own task and its networks are found.
pub fn follow(
    engine: Engine,
    hostname: String,
    pace: Pace,
) -> (Provider, impl Future<Output = ()> + Send) {
    let (provider, publisher) = channel();
    let asked = Arc::clone(&provider.asked);
    (provider, follow_for(Edge { hostname, publisher }, engine, pace, asked))
}

/// Who takes what an engine tells.
pub trait Recipient: Send {
    /// A list that was asked for at that time has succeeded. How many services there are, if it
    /// brings anything new.
    fn listed(&mut self, listing: Listing, at: Timestamp) -> Option<usize>;

    /// A list that was asked for at that time has failed.
    fn failed(&mut self, error: &EngineError, at: Timestamp);

    /// The event stream has ended.
    fn stream_ended(&mut self);

    /// Whether lists are to name the Swarm too.
    fn wants_cluster(&self) -> bool;
}

/// An edge that reads an engine itself.
struct Edge {
    hostname: String,
    publisher: Publisher,
}

impl Recipient for Edge {
    fn listed(&mut self, listing: Listing, at: Timestamp) -> Option<usize> {
        let networks = translate::own_networks(&listing, &self.hostname);
        let inventory = translate::inventory(&listing);
        let services = inventory.services.len();
        self.publisher.succeeded(inventory, networks, at).then_some(services)
    }

    fn failed(&mut self, _: &EngineError, _: Timestamp) {
        self.publisher.failed();
    }

    fn stream_ended(&mut self) {
        self.publisher.failed();
    }

    fn wants_cluster(&self) -> bool {
        false
    }
}

/// Tells the recipient what the engine tells, for ever. A list is made at once when `asked` is
/// notified.
pub fn follow_for<R: Recipient>(
    recipient: R,
    engine: Engine,
    pace: Pace,
    asked: Arc<Notify>,
) -> impl Future<Output = ()> + Send {
    let now = Instant::now();
    let follower = Follower {
        engine,
        recipient,
        asked,
        events: None,
        reopen_due: now,
        stream_backoff: Backoff::new(&pace),
        listing: None,
        listed_at: Timestamp::START,
        list_due: now,
        not_before: now,
        list_backoff: Backoff::new(&pace),
        unreadable: 0,
        pace,
    };
    follower.run()
}

struct Follower<R> {
    engine: Engine,
    pace: Pace,
    recipient: R,
    asked: Arc<Notify>,
    /// None while it is closed.
    events: Option<BoxStream<'static, Result<(), EngineError>>>,
    /// When to open it, while it is closed.
    reopen_due: Instant,
    stream_backoff: Backoff,
    /// The list under way.
    listing: Option<Listed>,
    /// When that was asked for.
    listed_at: Timestamp,
    /// When to make the next one, unless one is under way.
    list_due: Instant,
    /// No list before this time, whatever happens.
    not_before: Instant,
    list_backoff: Backoff,
    /// Objects that the last list could not read.
    unreadable: usize,
}

impl<R: Recipient> Follower<R> {
    async fn run(mut self) {
        loop {
            match self.wake().await {
                Wake::SwarmEvent => {
                    self.stream_backoff.reset();
                    // An engine that tells something may answer again.
                    self.not_before = self.not_before.min(Instant::now() + self.pace.distance);
                    self.list_within(self.pace.debounce);
                }
                Wake::StreamEnded(error) => self.close_stream(error.as_ref()),
                Wake::ReopenDue => {
                    self.events = Some(self.engine.events().boxed());
                    // What happened while it was closed was not told; the engine is given a moment
                    // to begin telling.
                    self.list_within(self.pace.debounce);
                }
                Wake::ListDue => self.start_list(),
                Wake::Asked => self.list_within(Duration::ZERO),
                Wake::Listed(Ok(listing)) => self.succeeded(listing),
                Wake::Listed(Err(error)) => self.failed(&error),
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let list_due = self.list_due.max(self.not_before);
        let (is_listing, is_open) = (self.listing.is_some(), self.events.is_some());
        tokio::select! {
            outcome = optional(self.listing.as_mut()) => Wake::Listed(outcome),
            event = optional(self.events.as_mut().map(StreamExt::next)) => match event {
                Some(Ok(())) => Wake::SwarmEvent,
                Some(Err(error)) => Wake::StreamEnded(Some(error)),
                None => Wake::StreamEnded(None),
            },
            () = self.asked.notified() => Wake::Asked,
            () = sleep_until(list_due), if !is_listing => Wake::ListDue,
            () = sleep_until(self.reopen_due), if !is_open => Wake::ReopenDue,
        }
    }

    /// Brings the next list forward; one that is due earlier stays.
    fn list_within(&mut self, wait: Duration) {
        self.list_due = self.list_due.min(Instant::now() + wait);
    }

    fn start_list(&mut self) {
        let engine = self.engine.clone();
        let wants_cluster = self.recipient.wants_cluster();
        self.listing = Some(async move { list(&engine, wants_cluster).await }.boxed());
        self.listed_at = clock::now();
        let now = Instant::now();
        self.list_due = now + self.pace.resync;
        self.not_before = now + self.pace.distance;
    }

    fn succeeded(&mut self, listing: Listing) {
        self.listing = None;
        if self.list_backoff.reset() {
            info!(provider = "docker", "the engine answers again");
        }
        if listing.unreadable != self.unreadable {
            self.unreadable = listing.unreadable;
            warn!(
                provider = "docker",
                objects = listing.unreadable,
                "left out what cannot be read"
            );
        }
        if let Some(services) = self.recipient.listed(listing, self.listed_at) {
            info!(provider = "docker", services, "the inventory has changed");
        }
    }

    fn failed(&mut self, error: &EngineError) {
        self.listing = None;
        self.recipient.failed(error, self.listed_at);
        let cause: &dyn std::error::Error = error;
        if self.list_backoff.is_first() {
            warn!(provider = "docker", cause, "cannot list; the last inventory stands");
        } else {
            debug!(provider = "docker", cause, "cannot list");
        }
        let wait = self.list_backoff.next();
        self.not_before = Instant::now() + wait;
        self.list_due = self.not_before;
        if matches!(error, EngineError::NotManager(_)) && self.events.is_some() {
            // The stream of a demoted manager may stay silent after a promotion.
            self.events = None;
            self.reopen_due = self.not_before;
        }
    }

    fn close_stream(&mut self, error: Option<&EngineError>) {
        self.events = None;
        self.recipient.stream_ended();
        let cause = error.map(|error| error as &dyn std::error::Error);
        debug!(provider = "docker", cause, "the event stream ended");
        self.reopen_due = Instant::now() + self.stream_backoff.next();
    }
}

async fn list(engine: &Engine, wants_cluster: bool) -> Result<Listing, EngineError> {
    if !wants_cluster {
        return engine.list().await;
    }
    let (listing, cluster) = tokio::join!(engine.list(), engine.cluster());
    // A list is worth more than to be lost for a name.
    Ok(Listing { cluster: cluster.unwrap_or_default(), ..listing? })
}

/// Waits for ever if there is nothing to wait for.
async fn optional<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// A wait that doubles with each failure in a row.
#[derive(Clone, Debug)]
struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    fn new(pace: &Pace) -> Self {
        Self { first: pace.backoff, max: pace.max_backoff, next: pace.backoff }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        wait
    }

    /// Whether no failure has been met since the last success.
    fn is_first(&self) -> bool {
        self.next == self.first
    }

    /// Whether there was a failure.
    fn reset(&mut self) -> bool {
        let failed = !self.is_first();
        self.next = self.first;
        failed
    }
}
