//! Connections to replicas, kept for further requests.
//!
//! Each core keeps its own, so that a request and its connection live on one core. A core without an
//! idle one borrows another core's before it dials: a wake-up across cores costs 2 to 20 us, a new
//! connection 40 us here and 30 us at the replica. The first is paid with each request though, the
//! second once; so a core that goes on borrowing dials one of its own. A service with few requests
//! keeps few connections, whatever the cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use foldhash::HashMap;
use hyper::client::conn::http2;
use tokio::sync::OnceCell;

use crate::proxy::dial::DialError;
use crate::proxy::http1::Http1;
use crate::proxy::pipe::Begun;
use crate::proxy::upload::UploadBody;
use crate::spec::KeepAlive;
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, EndpointId};

/// Below what servers close at (gunicorn 2 s, Node 5 s), so that we close first.
const HTTP1_IDLE: Duration = Duration::from_millis(1500);
const HTTP2_IDLE: Duration = Duration::from_mins(5);

/// Idle HTTP/1 connections to one endpoint, on all cores together. Peaks may go above it; what is
/// above it and has not been used since the last sweep is closed by the next.
const MOST_IDLE: usize = 16;

/// A core that has borrowed this often in a row dials a connection of its own.
const MOST_BORROWED: u32 = 4;

/// Streams on one HTTP/2 connection before another one is opened; fewer if the replica says so.
pub const STREAMS_PER_CONNECTION: usize = 100;

/// How often what is over is closed.
pub const SWEEP: Duration = Duration::from_millis(250);

/// A connection to a replica, ready for a request.
#[derive(Debug)]
pub enum Connection {
    /// For one request at a time. Boxed: it is handed from one to the next.
    Http1(Box<Http1>),
    /// For many at once; this is one of its streams.
    Http2(Arc<Stream>),
}

/// Which idle connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The core's own that were in use a moment ago. For what cannot be sent twice: a replica that
    /// stands still for a while closes first what it believes to be idle, and reads afterwards.
    OwnRecent,
    /// The core's own.
    Own,
    /// Other cores' too, but a core that goes on borrowing is better off with one of its own.
    OthersSparingly,
    /// All: no more may be made.
    All,
}

/// What the replica says about an HTTP/2 connection. Apart from [`Http2`], which whoever reads the
/// frames must not hold on to: a connection ends when nobody has its sender any more.
#[derive(Debug)]
pub struct Signals {
    /// What the replica allows now.
    pub max_streams: AtomicUsize,
    /// No further streams: the replica said GOAWAY, or it is too old.
    pub closing: AtomicBool,
    /// The request body that is about to be sent.
    pub begun: Begun,
}

/// An HTTP/2 connection, made when the first stream needs it.
#[derive(Debug)]
pub struct Http2 {
    /// Takes requests; several streams that wait for it wait for one dial.
    sender: OnceCell<http2::SendRequest<UploadBody>>,
    signals: Arc<Signals>,
    streams: AtomicUsize,
    opened: AtomicUsize,
    born: Timestamp,
    used: Mutex<Timestamp>,
}

/// One stream of an HTTP/2 connection. It counts from before the connection is there until both
/// bodies are through: a request's body may outlive its response.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Http2>,
}

impl Stream {
    fn open(connection: &Arc<Http2>) -> Arc<Self> {
        connection.streams.fetch_add(1, Relaxed);
        connection.opened.fetch_add(1, Relaxed);
        Arc::new(Self { connection: Arc::clone(connection) })
    }

    /// The sender, dialled by `dial` if nobody has done so.
    ///
    /// # Errors
    /// That of the dial; the next stream tries again.
    pub async fn sender<F>(&self, dial: F) -> Result<http2::SendRequest<UploadBody>, DialError>
    where
        F: AsyncFnOnce(Arc<Signals>) -> Result<http2::SendRequest<UploadBody>, DialError>,
    {
        let signals = Arc::clone(&self.connection.signals);
        self.connection.sender.get_or_try_init(|| dial(signals)).await.cloned()
    }

    /// Where the connection is told whose request body it begins with.
    pub fn begun(&self) -> &Begun {
        &self.connection.signals.begun
    }

    /// The sender of a connection that is there.
    pub fn made_sender(&self) -> Option<http2::SendRequest<UploadBody>> {
        self.connection.sender.get().cloned()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Relaxed);
    }
}

impl Http2 {
    fn new(born: Timestamp) -> Self {
        Self {
            sender: OnceCell::new(),
            signals: Arc::new(Signals {
                max_streams: AtomicUsize::new(STREAMS_PER_CONNECTION),
                closing: AtomicBool::new(false),
                begun: Begun::default(),
            }),
            streams: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            born,
            used: Mutex::new(born),
        }
    }

    fn is_open(&self) -> bool {
        !self.signals.closing.load(Relaxed)
            && self.sender.get().is_none_or(|sender| !sender.is_closed())
    }

    fn has_room(&self) -> bool {
        let allowed = self.signals.max_streams.load(Relaxed);
        self.streams.load(Relaxed) < allowed.min(STREAMS_PER_CONNECTION)
    }

    fn is_worn(&self, keep: &KeepAlive, now: Timestamp) -> bool {
        let opened = u64::try_from(self.opened.load(Relaxed)).unwrap_or(u64::MAX);
        keep.requests.is_some_and(|most| opened >= most)
            || keep.age.is_some_and(|most| now.since(self.born) >= most)
    }

    /// Whether nothing has used it for so long that it may go.
    fn is_idle(&self, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if self.streams.load(Relaxed) > 0 {
            *used = now;
        }
        now.since(*used) >= HTTP2_IDLE
    }
}

/// All connections that wait for requests, one shard per core.
#[derive(Debug)]
pub struct Pools {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

#[derive(Debug, Default)]
struct Shard {
    http1: HashMap<EndpointId, Kept>,
    http2: HashMap<EndpointId, (Arc<Endpoint>, Vec<Arc<Http2>>)>,
}

/// One core's HTTP/1 connections to one endpoint.
#[derive(Debug, Default)]
struct Kept {
    /// Newest last.
    idle: Vec<Idle>,
    /// How often in a row this core has borrowed one.
    borrowed: u32,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    since: Timestamp,
    expires: Timestamp,
}

impl Idle {
    fn is_over(&mut self, now: Timestamp) -> bool {
        self.expires <= now || self.connection.is_spoiled()
    }

    /// Whether two thirds of its time are still to come.
    fn is_recent(&self, now: Timestamp) -> bool {
        now.since(self.since) < self.expires.since(self.since) / 3
    }
}

impl Pools {
    /// Pools for that many cores.
    pub fn new(cores: usize) -> Self {
        Self { shards: (0..cores.max(1)).map(|_| CachePadded::default()).collect() }
    }

    fn shard(&self, core: usize) -> Option<MutexGuard<'_, Shard>> {
        self.shards.get(core).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An idle HTTP/1 connection: this core's newest, else one borrowed from another core.
    pub fn check_out(
        &self,
        core: usize,
        endpoint: &Endpoint,
        which: Which,
        now: Timestamp,
    ) -> Option<Box<Http1>> {
        if endpoint.idle_connections.load(Relaxed) == 0 {
            return None;
        }
        let own = self.shard(core)?.take_own(endpoint.id, which, now);
        let connection = match own {
            Ok(own) => own,
            Err(MayBorrow(true)) => self.borrow(core, endpoint.id, now)?,
            Err(MayBorrow(false)) => return None,
        };
        endpoint.idle_connections.fetch_sub(1, Relaxed);
        Some(connection)
    }

    /// Another core's connection. A core that is busy with its own is passed over.
    fn borrow(&self, core: usize, endpoint: EndpointId, now: Timestamp) -> Option<Box<Http1>> {
        let others = self.shards.iter().enumerate().filter(|(other, _)| *other != core);
        others
            .filter_map(|(_, shard)| shard.try_lock().ok())
            .find_map(|mut shard| shard.http1.get_mut(&endpoint)?.take(now, false))
    }

    /// Closes a connection that is idle on another core, so that this one may make its own.
    pub fn close_other(&self, core: usize, endpoint: &Endpoint, now: Timestamp) -> bool {
        let closed = self.borrow(core, endpoint.id, now).is_some();
        if closed {
            endpoint.idle_connections.fetch_sub(1, Relaxed);
        }
        closed
    }

    /// Keeps a connection for further requests, unless it has served its time.
    pub fn check_in(&self, connection: Box<Http1>, keep: &KeepAlive, now: Timestamp) {
        let worn = keep.requests.is_some_and(|most| connection.requests >= most)
            || keep.age.is_some_and(|most| now.since(connection.born) >= most);
        if worn || connection.endpoint.health.is_draining() {
            return;
        }
        let Some(mut shard) = self.shard(connection.core) else {
            return;
        };
        connection.endpoint.idle_connections.fetch_add(1, Relaxed);
        let expires = now + keep.idle.unwrap_or(HTTP1_IDLE);
        let kept = shard.http1.entry(connection.endpoint.id).or_default();
        kept.idle.push(Idle { connection, since: now, expires });
    }

    /// A stream on the least loaded HTTP/2 connection of this core that has room; on a new
    /// connection, not yet dialled, if there is none. Where `most` connections are open already, on
    /// another core's; none if they have no room either.
    pub fn open_stream(
        &self,
        core: usize,
        endpoint: &Arc<Endpoint>,
        keep: &KeepAlive,
        most: Option<usize>,
        now: Timestamp,
    ) -> Option<Arc<Stream>> {
        let is_full = most.is_some_and(|most| endpoint.connections.load(Relaxed) >= most);
        let mut shard = self.shard(core)?;
        let (_, connections) =
            shard.http2.entry(endpoint.id).or_insert_with(|| (Arc::clone(endpoint), Vec::new()));
        for connection in connections.iter().filter(|connection| connection.is_worn(keep, now)) {
            connection.signals.closing.store(true, Relaxed);
        }
        connections.retain(|connection| connection.is_open());
        if let Some(connection) = least_loaded(connections, is_full) {
            return Some(Stream::open(connection));
        }
        if is_full {
            drop(shard);
            return self.borrow_stream(core, endpoint.id);
        }
        let connection = Arc::new(Http2::new(now));
        connections.push(Arc::clone(&connection));
        Some(Stream::open(&connection))
    }

    /// A stream on another core's connection.
    fn borrow_stream(&self, core: usize, endpoint: EndpointId) -> Option<Arc<Stream>> {
        let others = self.shards.iter().enumerate().filter(|(other, _)| *other != core);
        others.filter_map(|(other, _)| self.shard(other)).find_map(|shard| {
            let (_, connections) = shard.http2.get(&endpoint)?;
            least_loaded(connections, true).map(Stream::open)
        })
    }

    /// Closes what is over on one core: expired, closed by the replica, more than are kept, or
    /// leading to an endpoint that leaves.
    pub fn sweep(&self, core: usize, now: Timestamp) {
        let Some(mut shard) = self.shard(core) else {
            return;
        };
        shard.http1.retain(|_, kept| {
            sweep_idle(&mut kept.idle, now);
            !kept.idle.is_empty()
        });
        shard.http2.retain(|_, (endpoint, connections)| {
            let leaves = endpoint.health.is_draining();
            connections.retain(|connection| {
                let unused = leaves && connection.streams.load(Relaxed) == 0;
                connection.is_open() && !unused && !connection.is_idle(now)
            });
            !connections.is_empty()
        });
    }
}

/// The connection with the fewest streams among those that take more; if they must be there already,
/// among those that have been dialled.
fn least_loaded(connections: &[Arc<Http2>], made: bool) -> Option<&Arc<Http2>> {
    let usable = |connection: &&Arc<Http2>| {
        connection.has_room() && connection.is_open() && (!made || connection.sender.initialized())
    };
    let usable = connections.iter().filter(usable);
    usable.min_by_key(|connection| connection.streams.load(Relaxed))
}

fn sweep_idle(idle: &mut Vec<Idle>, now: Timestamp) {
    let Some(endpoint) = idle.first().map(|idle| Arc::clone(&idle.connection.endpoint)) else {
        return;
    };
    let before = idle.len();
    let leaves = endpoint.health.is_draining();
    idle.retain_mut(|idle| !leaves && !idle.is_over(now));
    // The oldest go first: those at the front have been idle for longest.
    let all = endpoint.idle_connections.load(Relaxed).saturating_sub(before - idle.len());
    let unused = idle.iter().take_while(|idle| now.since(idle.since) >= SWEEP).count();
    let surplus = all.saturating_sub(MOST_IDLE).min(unused);
    idle.drain(..surplus);
    endpoint.idle_connections.fetch_sub(before - idle.len(), Relaxed);
}

/// There is no idle connection; says whether another core's may be taken.
struct MayBorrow(bool);

impl Shard {
    fn take_own(
        &mut self,
        endpoint: EndpointId,
        which: Which,
        now: Timestamp,
    ) -> Result<Box<Http1>, MayBorrow> {
        let kept = self.http1.entry(endpoint).or_default();
        if let Some(own) = kept.take(now, which == Which::OwnRecent) {
            kept.borrowed = 0;
            return Ok(own);
        }
        let may_borrow = match which {
            Which::OwnRecent | Which::Own => false,
            Which::OthersSparingly => kept.borrowed < MOST_BORROWED,
            Which::All => true,
        };
        kept.borrowed = if may_borrow { kept.borrowed.saturating_add(1) } else { 0 };
        Err(MayBorrow(may_borrow))
    }
}

impl Kept {
    /// The newest connection that can take a request now. What is over is left for the next sweep.
    fn take(&mut self, now: Timestamp, recent: bool) -> Option<Box<Http1>> {
        let suits = |idle: &mut Idle| (!recent || idle.is_recent(now)) && !idle.is_over(now);
        let at = self.idle.iter_mut().rposition(suits)?;
        Some(self.idle.remove(at).connection)
    }
}
