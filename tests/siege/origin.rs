//! The one replica: well behaved, and it knows what came from attackers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// What attackers ask for begins with this.
pub(crate) const ATTACK: &str = "/attack";
/// Below it, what is large.
pub(crate) const LARGE: &str = "/attack/large";
/// How large, in bytes: more than the sockets on its way keep.
const LARGE_SIZE: usize = 16 << 20;
/// What a socket keeps of an answer that is not read. The kernel's memory is not what is attacked.
const SEND_BUFFER: usize = 64 << 10;

/// A replica on a thread of its own, until the process ends.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Requests of attackers so far.
    attacks: Arc<AtomicU64>,
}

impl Origin {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let (address, attacks) = (listener.local_addr().unwrap(), Arc::default());
        let counts = Arc::clone(&attacks);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(listener, counts));
        });
        Self { address, attacks }
    }

    /// Requests of attackers that have come here so far.
    pub(crate) fn attacks(&self) -> u64 {
        self.attacks.load(Relaxed)
    }
}

async fn serve(listener: std::net::TcpListener, attacks: Arc<AtomicU64>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let large = Bytes::from(vec![b'x'; LARGE_SIZE]);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (attacks, large) = (Arc::clone(&attacks), large.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path();
            attacks.fetch_add(u64::from(path.starts_with(ATTACK)), Relaxed);
            let answer = if path == LARGE { large.clone() } else { Bytes::from_static(b"served") };
            async move {
                request.into_body().collect().await?;
                hyper::Result::Ok(Response::new(Full::new(answer)))
            }
        });
        tokio::spawn(async move {
            // How the edge ends its connections is seen by others.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
