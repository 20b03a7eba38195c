//! The least that a proxy on hyper does: `bare http1|h2c LISTEN WORKERS ENDPOINT...`, in clear text.
//!
//! One thread, runtime and pool per worker, endpoints in turn, X-Forwarded-For, and nothing else: no
//! routes, no metrics, no limits, no retries, no order at its end. It is the yardstick of
//! `benches/compare` for what features cost.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;

use http::header::{CONNECTION, HOST};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self as upstream, SendRequest};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;
type Idle = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// What one worker has: its endpoints with their idle connections, and whose turn it is.
struct Worker {
    endpoints: Vec<(SocketAddr, Idle)>,
    turn: Cell<usize>,
}

/// A response's body, with the connection that it comes from.
struct Leased {
    body: Incoming,
    connection: Option<SendRequest<Incoming>>,
    idle: Idle,
}

impl Body for Leased {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.idle.borrow_mut().extend(self.connection.take());
        }
    }
}

impl Worker {
    async fn forward(
        &self,
        mut request: Request<Incoming>,
        client: HeaderValue,
    ) -> Result<Response<Leased>, Failure> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let place = turn.checked_rem(self.endpoints.len());
        let (address, idle) = place.and_then(|p| self.endpoints.get(p)).ok_or("no endpoint")?;
        let mut connection = connect(*address, idle).await?;
        if request.version() == Version::HTTP_2 {
            make_http1(&mut request)?;
        }
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().insert("x-forwarded-for", client);
        let mut response = connection.send_request(request).await?;
        response.headers_mut().remove(CONNECTION);
        let idle = Rc::clone(idle);
        Ok(response.map(|body| Leased { body, connection: Some(connection), idle }))
    }

    async fn accept(self: Rc<Self>, http2: bool, listener: TcpListener) -> Result<(), Failure> {
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let client = HeaderValue::try_from(peer.ip().to_string())?;
            let worker = Rc::clone(&self);
            let service = service_fn(move |request| {
                let (worker, client) = (Rc::clone(&worker), client.clone());
                async move { worker.forward(request, client).await }
            });
            let stream = TokioIo::new(stream);
            if http2 {
                spawn_local(http2::Builder::new(Here).serve_connection(stream, service));
            } else {
                spawn_local(http1::Builder::new().serve_connection(stream, service));
            }
        }
    }
}

/// Runs tasks on the worker that they come from.
#[derive(Clone)]
struct Here;

impl<T: Future<Output = ()> + 'static> Executor<T> for Here {
    fn execute(&self, task: T) {
        spawn_local(task);
    }
}

/// Writes a request of HTTP/2 as HTTP/1.1 wants it.
fn make_http1(request: &mut Request<Incoming>) -> Result<(), Failure> {
    *request.version_mut() = Version::HTTP_11;
    let uri = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = uri.authority {
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    let path = uri.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

/// An idle connection, else a new one.
async fn connect(address: SocketAddr, idle: &Idle) -> Result<SendRequest<Incoming>, Failure> {
    loop {
        let Some(mut connection) = idle.borrow_mut().pop() else { break };
        if connection.ready().await.is_ok() {
            return Ok(connection);
        }
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = upstream::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    Ok(sender)
}

fn work(http2: bool, address: SocketAddr, endpoints: &[SocketAddr]) -> Result<(), Failure> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    let endpoints = endpoints.iter().map(|address| (*address, Idle::default())).collect();
    let worker = Rc::new(Worker { endpoints, turn: Cell::default() });
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        worker.accept(http2, TcpListener::from_std(socket.into())?).await
    })
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare http1|h2c LISTEN WORKERS ENDPOINT...";
    let http2 = match arguments.next().as_deref() {
        Some("http1") => false,
        Some("h2c") => true,
        _ => return Err(usage.into()),
    };
    let address = arguments.next().ok_or(usage)?.parse()?;
    let workers: usize = arguments.next().ok_or(usage)?.parse()?;
    let endpoints = arguments.map(|endpoint| endpoint.parse()).collect::<Result<Vec<_>, _>>()?;
    let each = || {
        let endpoints = endpoints.clone();
        thread::spawn(move || work(http2, address, &endpoints))
    };
    let threads: Vec<_> = (0..workers).map(|_| each()).collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}
