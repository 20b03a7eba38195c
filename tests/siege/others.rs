//! Everybody else: 200 requests a second, each sent when it is due, whatever became of the others.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::exchange::{Connection, Failure, request};

/// From one request to the next.
const GAP: Duration = Duration::from_millis(5);
/// What each has, from when it is due to its last byte.
const TIME: Duration = Duration::from_secs(10);

/// How requests are made, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1 on a kept connection.
    Kept,
    /// HTTP/1.1 on a connection of its own.
    New,
    /// One of many streams of a kept HTTP/2 connection.
    KeptStreams,
    /// The only stream of an HTTP/2 connection.
    NewStream,
}

/// All of them.
pub(crate) const EVERY_WAY: &[Way] = &[Way::Kept, Way::New, Way::KeptStreams, Way::NewStream];

/// What came of the requests of some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How long each right answer took since the request was due, in order once taken.
    latencies: Vec<Duration>,
    /// What failed, and how.
    pub(crate) failures: Vec<String>,
}

impl Seen {
    /// This and that together.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.latencies.extend(more.latencies);
        self.latencies.sort_unstable();
        self.failures.extend(more.failures);
        self
    }

    /// How many there were.
    pub(crate) fn sent(&self) -> usize {
        self.latencies.len() + self.failures.len()
    }

    /// What 99 of 100 right answers did not exceed; zero without any.
    pub(crate) fn p99(&self) -> Duration {
        let rank = (self.latencies.len() * 99).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// They go on until this is dropped.
#[derive(Debug)]
pub(crate) struct Others {
    seen: Arc<Mutex<Seen>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Others {
    /// Starts on a thread of its own.
    pub(crate) fn start(address: SocketAddr, ways: &'static [Way]) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let seen = Arc::<Mutex<Seen>>::default();
        let tells = Arc::clone(&seen);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.unwrap(), async move {
                tokio::select! {
                    () = go_on(address, ways, tells) => {}
                    // Also when it was dropped.
                    _ = stopped => {}
                }
            });
        });
        Self { seen, _stop: stop }
    }

    /// What was answered since this was last asked.
    pub(crate) fn take(&self) -> Seen {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.latencies.sort_unstable();
        seen
    }
}

/// Connections that are kept.
#[derive(Debug, Default)]
struct Kept {
    http1: Vec<Connection>,
    http2: Option<SendRequest<Bytes>>,
}

async fn go_on(address: SocketAddr, ways: &[Way], seen: Arc<Mutex<Seen>>) {
    let (start, kept) = (Instant::now(), Rc::<RefCell<Kept>>::default());
    for number in 0_u32.. {
        let due = start + GAP * number;
        tokio::time::sleep_until(due).await;
        let way = ways[number as usize % ways.len()];
        let (kept, seen) = (Rc::clone(&kept), Arc::clone(&seen));
        tokio::task::spawn_local(async move {
            let one = ask(address, way, &kept);
            let ended = tokio::time::timeout_at(due + TIME, one).await;
            let ended = ended.unwrap_or_else(|_| Err(format!("{way:?}: {}", Failure::Timeout)));
            let mut seen = seen.lock().unwrap();
            match ended {
                Ok(()) => seen.latencies.push(due.elapsed()),
                Err(failure) => seen.failures.push(failure),
            }
        });
    }
}

async fn ask(address: SocketAddr, way: Way, kept: &RefCell<Kept>) -> Result<(), String> {
    match way {
        Way::Kept | Way::New => {
            let asked = ask_http1(address, way, kept).await;
            asked.map_err(|failure| format!("{way:?}: {failure}"))
        }
        Way::KeptStreams | Way::NewStream => {
            let asked = ask_http2(address, way, kept).await;
            asked.map_err(|error| format!("{way:?}: {error}"))
        }
    }
}

async fn ask_http1(address: SocketAddr, way: Way, kept: &RefCell<Kept>) -> Result<(), Failure> {
    let free = || {
        let mut kept = kept.borrow_mut();
        // One that the edge has closed in good order costs nothing.
        kept.http1.retain(|connection| !connection.is_closed());
        kept.http1.pop()
    };
    let mut connection = match (way == Way::Kept).then(free).flatten() {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let last = if way == Way::New { "Connection: close" } else { "Connection: keep-alive" };
    let answer = connection.exchange(&request("GET", "/", &["Host: shop.test", last], &[])).await?;
    if answer.status != 200 {
        return Err(Failure::Status(answer.status));
    }
    if answer.body != b"served" {
        return Err(Failure::WrongBody);
    }
    if way == Way::Kept && answer.keep {
        kept.borrow_mut().http1.push(connection);
    }
    Ok(())
}

type Problem = Box<dyn std::error::Error>;

async fn ask_http2(address: SocketAddr, way: Way, kept: &RefCell<Kept>) -> Result<(), Problem> {
    let free = if way == Way::KeptStreams { kept.borrow().http2.clone() } else { None };
    let sender = if let Some(sender) = free { sender } else { open_http2(address).await? };
    if way == Way::KeptStreams {
        kept.borrow_mut().http2 = Some(sender.clone());
    }
    let asked = ask_on(sender).await;
    if asked.is_err() {
        // The next one opens another.
        kept.borrow_mut().http2 = None;
    }
    asked
}

async fn open_http2(address: SocketAddr) -> Result<SendRequest<Bytes>, Problem> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    // It ends with its last sender.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn ask_on(sender: SendRequest<Bytes>) -> Result<(), Problem> {
    let request = http::Request::get("http://shop.test/").body(())?;
    let (answer, _) = sender.ready().await?.send_request(request, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut came = Vec::new();
    while let Some(data) = body.data().await {
        came.extend_from_slice(&data?);
    }
    if head.status == 200 && came == b"served" { Ok(()) } else { Err(head.status.as_str().into()) }
}
