//! The least that a proxy on hyper does: `bare LISTEN WORKERS ENDPOINT...`, HTTP/1.1 in clear text.
//!
//! One thread, runtime and pool per worker, endpoints in turn, X-Forwarded-For, and nothing else:
//! no routes, no metrics, no limits, no retries, no order at its end. What Hiveway costs beyond it is what
//! its features cost.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self as upstream, SendRequest};
use hyper::server::conn::http1;
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
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().insert("x-forwarded-for", client);
        let mut response = connection.send_request(request).await?;
        response.headers_mut().remove(CONNECTION);
        let idle = Rc::clone(idle);
        Ok(response.map(|body| Leased { body, connection: Some(connection), idle }))
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) -> Result<(), Failure> {
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let client = HeaderValue::try_from(peer.ip().to_string())?;
            let worker = Rc::clone(&self);
            let service = service_fn(move |request| {
                let (worker, client) = (Rc::clone(&worker), client.clone());
                async move { worker.forward(request, client).await }
            });
            spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }
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

fn work(address: SocketAddr, endpoints: &[SocketAddr]) -> Result<(), Failure> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    let endpoints = endpoints.iter().map(|address| (*address, Idle::default())).collect();
    let worker = Rc::new(Worker { endpoints, turn: Cell::default() });
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new()
        .block_on(&runtime, async { worker.accept(TcpListener::from_std(socket.into())?).await })
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare LISTEN WORKERS ENDPOINT...";
    let address = arguments.next().ok_or(usage)?.parse()?;
    let workers: usize = arguments.next().ok_or(usage)?.parse()?;
    let endpoints = arguments.map(|endpoint| endpoint.parse()).collect::<Result<Vec<_>, _>>()?;
    let each = || {
        let endpoints = endpoints.clone();
        thread::spawn(move || work(address, &endpoints))
    };
    let threads: Vec<_> = (0..workers).map(|_| each()).collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}
