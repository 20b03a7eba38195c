//! A modest, constant load, sent through the edge like anybody's traffic, and how it fared.

use std::collections::BTreeMap;
use std::error::Error;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::replica;
use crate::clock;

/// Requests in a second.
pub(super) const RATE: u32 = 50;

/// Of so many requests one is a gRPC call.
const GRPC_EVERY: u32 = 5;

/// A gRPC message that says `hello` in its first field.
const HELLO: &[u8] = b"\0\0\0\0\x07\x0a\x05hello";

type Failure = Box<dyn Error + Send + Sync>;
type Sender = http2::SendRequest<Full<Bytes>>;

/// What became of the requests of some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// All of them.
    pub(super) requests: u64,
    /// Those without a good answer.
    pub(super) failed: u64,
    /// Answers by the name of the replica.
    pub(super) by_replica: BTreeMap<String, u64>,
    /// From request to the answer's last byte.
    pub(super) slowest: Duration,
    /// Why the last of those that failed did.
    pub(super) last_failure: Option<String>,
}

impl Tally {
    /// Adds what became of the requests of another time.
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.slowest = self.slowest.max(other.slowest);
        self.last_failure = other.last_failure.or(self.last_failure.take());
        for (replica, answers) in other.by_replica {
            *self.by_replica.entry(replica).or_default() += answers;
        }
    }
}

/// An answer to the end.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    replica: String,
    /// Whether it is what was asked for. A gRPC call says so in its trailers.
    is_good: bool,
}

/// Traffic, until it is told to end.
#[derive(Debug)]
pub(super) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: oneshot::Sender<()>,
    sending: JoinHandle<()>,
}

impl Load {
    /// Begins to send.
    pub(super) fn start(edge: SocketAddr) -> Self {
        let tally = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let sending = tokio::spawn(send_all(edge, Arc::clone(&tally), stopped));
        Self { tally, stop, sending }
    }

    /// What became of the requests since this was last asked.
    pub(super) fn take(&self) -> Tally {
        mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends no more, waits for the answers under way, and tells of those not taken yet.
    pub(super) async fn end(self) -> Tally {
        let Self { tally, stop, sending } = self;
        let _ = stop.send(());
        let _ = sending.await;
        mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn send_all(edge: SocketAddr, tally: Arc<Mutex<Tally>>, mut stopped: oneshot::Receiver<()>) {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    let mut client = Client::new(edge);
    for turn in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => break,
        }
        while under_way.try_join_next().is_some() {}
        let sender = client.sender().await;
        let tally = Arc::clone(&tally);
        under_way.spawn(async move { tally_one(turn, edge.port(), sender, &tally).await });
    }
    under_way.join_all().await;
}

async fn tally_one(turn: u32, port: u16, sender: Result<Sender, Failure>, tally: &Mutex<Tally>) {
    let started = clock::now();
    let url = url(turn, port);
    let answer = match sender {
        Ok(sender) => ask(sender, &url).await,
        Err(failure) => Err(failure),
    };
    let took = clock::now().since(started);
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.requests += 1;
    tally.slowest = tally.slowest.max(took);
    match answer {
        Ok(answer) if answer.is_good => {
            *tally.by_replica.entry(answer.replica).or_default() += 1;
        }
        Ok(answer) => {
            tally.failed += 1;
            tally.last_failure = Some(format!("{url}: {}", answer.status));
        }
        Err(failure) => {
            tally.failed += 1;
            tally.last_failure = Some(format!("{url}: {failure}"));
        }
    }
}

fn url(turn: u32, port: u16) -> String {
    match turn % GRPC_EVERY {
        0 => format!("http://grpc.localhost:{port}/demo.Echo/Say"),
        1 | 3 => format!("http://shop.localhost:{port}/"),
        _ => format!("http://shop.localhost:{port}/api/cart"),
    }
}

/// A connection to the edge: HTTP/2, so that one is enough.
#[derive(Debug)]
pub(super) struct Client {
    edge: SocketAddr,
    sender: Option<Sender>,
}

impl Client {
    /// A client that has yet to connect.
    pub(super) fn new(edge: SocketAddr) -> Self {
        Self { edge, sender: None }
    }

    /// What the edge answers to a request, over the connection or a new one if it is over.
    pub(super) async fn ask(&mut self, url: &str) -> Result<Answer, Failure> {
        ask(self.sender().await?, url).await
    }

    async fn sender(&mut self) -> Result<Sender, Failure> {
        if let Some(sender) = self.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.edge).await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        // Its end shows in the requests that are on it.
        tokio::spawn(connection);
        Ok(self.sender.insert(sender).clone())
    }
}

async fn ask(mut sender: Sender, url: &str) -> Result<Answer, Failure> {
    let is_grpc = url.contains("//grpc.");
    let request = if is_grpc {
        let request = Request::post(url).header(CONTENT_TYPE, "application/grpc");
        request.header(TE, "trailers").body(Full::from(HELLO))?
    } else {
        Request::get(url).body(Full::default())?
    };
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let name = head.headers.get(replica::NAME).and_then(|name| name.to_str().ok());
    let grpc_status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    Ok(Answer {
        status: head.status,
        replica: name.unwrap_or_default().to_owned(),
        is_good: head.status == StatusCode::OK
            && (!is_grpc || grpc_status.is_some_and(|status| status == "0")),
    })
}
