//! Small servers to be balanced, which can die as a process does: at once, whatever is under way.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::grpc::GRPC_STATUS;

/// The field in which a replica says its name.
pub(super) const NAME: HeaderName = HeaderName::from_static("x-replica");

/// What gRPC calls 0 and 12 (its `doc/statuscodes.md`).
const OK: HeaderValue = HeaderValue::from_static("0");
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

/// `HealthCheckResponse { status: SERVING }` as one gRPC message: not compressed, two bytes long.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];

/// How long the work behind an answer takes, so that a death meets requests under way.
const WORK: Duration = Duration::from_millis(10);

/// Ports that are tried before the kernel chooses one. Those it chooses would not do as well: while
/// a replica is dead, the port could go to any outgoing connection.
const PORTS_TRIED: u16 = 100;

/// The language of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.1.
    Http,
    /// gRPC, over HTTP/2 in clear text.
    Grpc,
}

/// A server on a port of the loopback address. It dies when it is dropped.
#[derive(Debug)]
pub(super) struct Replica {
    /// How it is called.
    pub(super) name: &'static str,
    /// Where it listens while it lives.
    pub(super) address: SocketAddr,
    /// What it speaks.
    pub(super) speaks: Speaks,
    under_way: Arc<AtomicUsize>,
    /// None while it is dead.
    serving: Option<JoinHandle<()>>,
}

impl Replica {
    /// A replica that listens, on the first port from `port` on that is free.
    pub(super) fn start(name: &'static str, speaks: Speaks, port: u16) -> io::Result<Self> {
        let listener = listen_near(port)?;
        let address = listener.local_addr()?;
        let mut replica = Self { name, address, speaks, under_way: Arc::default(), serving: None };
        replica.serve(listener)?;
        Ok(replica)
    }

    /// How many requests it is working on.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Relaxed)
    }

    /// Closes the port and cuts every connection.
    pub(super) async fn die(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Once the task is gone, so are its sockets.
            let _ = serving.await;
        }
    }

    /// Listens on the same port again.
    pub(super) fn come_back(&mut self) -> io::Result<()> {
        self.serve(StdListener::bind(self.address)?)
    }

    fn serve(&mut self, listener: StdListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (name, speaks) = (self.name, self.speaks);
        let under_way = Arc::clone(&self.under_way);
        self.serving = Some(tokio::spawn(accept(listener, name, speaks, under_way)));
        Ok(())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A listener on the first port from `first` on that nobody has on either loopback address: clients
/// that look up `localhost` may try the other one first.
pub(super) fn listen_near(first: u16) -> io::Result<StdListener> {
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let free = (first..first.saturating_add(PORTS_TRIED)).find_map(|port| {
        let other = StdListener::bind((Ipv6Addr::LOCALHOST, port));
        if other.is_err_and(|error| taken(&error)) {
            return None;
        }
        StdListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    free.map_or_else(|| StdListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)
}

/// Serves until it is aborted; all its connections live in this one task and die with it.
async fn accept(
    listener: TcpListener,
    name: &'static str,
    speaks: Speaks,
    under_way: Arc<AtomicUsize>,
) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.push(connection(stream, name, speaks, Arc::clone(&under_way)));
                }
                // Without file descriptors it would fail again at once.
                Err(_) => sleep(WORK).await,
            },
            Some(()) = connections.next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    name: &'static str,
    speaks: Speaks,
    under_way: Arc<AtomicUsize>,
) {
    // Small writes must not wait for each other's acknowledgement.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(stream);
    let service = service_fn(|request: Request<Incoming>| {
        let work = UnderWay::begin(&under_way);
        async move {
            sleep(WORK).await;
            let mut answer = match speaks {
                Speaks::Http => http_answer(name, &request),
                Speaks::Grpc => grpc_answer(request).await?,
            };
            answer.headers_mut().insert(NAME, HeaderValue::from_static(name));
            drop(work);
            hyper::Result::Ok(answer)
        }
    });
    // How a connection ends is the client's business.
    let _ = match speaks {
        Speaks::Http => http1::Builder::new().serve_connection(stream, service).await,
        Speaks::Grpc => {
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        }
    };
}

/// Counts a request until it is answered or cut off.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;
type Body = StreamBody<stream::Iter<<Frames as IntoIterator>::IntoIter>>;

fn body(frames: Frames) -> Body {
    StreamBody::new(stream::iter(frames))
}

/// The request as the replica sees it.
fn http_answer(name: &str, request: &Request<Incoming>) -> Response<Body> {
    let mut text = format!("This is {name}. Your request, as it came here:\n\n");
    let _ = writeln!(text, "  {} {} {:?}", request.method(), request.uri(), request.version());
    for (field, value) in request.headers() {
        let _ = writeln!(text, "  {field}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let length = HeaderValue::from(text.len());
    let mut answer = Response::new(body(vec![Ok(Frame::data(text.into()))]));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}

/// `grpc.health.v1.Health/Check`, and `demo.Echo/Say`, which answers with the message it was sent.
async fn grpc_answer(request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let (message, status) = match request.uri().path() {
        "/grpc.health.v1.Health/Check" => (Some(Bytes::from_static(SERVING)), OK),
        "/demo.Echo/Say" => (Some(request.into_body().collect().await?.to_bytes()), OK),
        _ => (None, UNIMPLEMENTED),
    };
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, status)]);
    let frames = message.map(Frame::data).into_iter().chain([Frame::trailers(trailers)]);
    let mut answer = Response::new(body(frames.map(Ok).collect()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

#[cfg(test)]
mod tests;
