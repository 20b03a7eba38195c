//! A replica: well behaved, and it counts what it is asked for.

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

/// What is large.
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
    requests: Arc<AtomicU64>,
}

impl Origin {
    /// Starts it on a free port; `thread_starts` is called on its thread.
    pub(crate) fn start(thread_starts: fn()) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let (address, requests) = (listener.local_addr().unwrap(), Arc::default());
        let counts = Arc::clone(&requests);
        thread::spawn(move || {
            thread_starts();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(listener, counts));
        });
        Self { address, requests }
    }

    /// How many have come so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

async fn serve(listener: std::net::TcpListener, requests: Arc<AtomicU64>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let large = Bytes::from(vec![b'x'; LARGE_SIZE]);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (requests, large) = (Arc::clone(&requests), large.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            requests.fetch_add(1, Relaxed);
            let answer = if request.uri().path() == LARGE {
                large.clone()
            } else {
                Bytes::from_static(b"served")
            };
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
