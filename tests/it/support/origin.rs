//! Replicas, well behaved and otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::{Wire, h2_echo};

/// A replica. When it is dropped, it dies: its connections are cut and further ones refused.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.running.abort();
    }
}

struct Open(Arc<Log>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Origin {
    /// Answers each request with `name: METHOD /path body`.
    pub(crate) async fn named(name: &str) -> Self {
        Self::named_at(name, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// The same at a certain address.
    pub(crate) async fn named_at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let log = Arc::<Log>::default();
        let (name, requests) = (name.to_owned(), Arc::clone(&log));
        let serve = move |stream, _| {
            let (name, requests) = (name.clone(), Arc::clone(&requests));
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let what = format!("{} {}", request.method(), request.uri());
                requests.requests.lock().unwrap().push(what.clone());
                echo(format!("{name}: {what}"), request)
            });
            async move {
                let serving = hyper::server::conn::http1::Builder::new();
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        Self::accepting(listener, log, serve)
    }

    /// Follows a script with each connection.
    pub(crate) async fn scripted<F, S>(script: F) -> Self
    where
        F: Fn(Wire) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::scripted_by_number(move |wire, _| script(wire)).await
    }

    /// The same, and tells which connection it is: the first one is 0.
    pub(crate) async fn scripted_by_number<F, S>(script: F) -> Self
    where
        F: Fn(Wire, usize) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let serve = move |stream, number| script(Wire::over(stream), number);
        Self::accepting(listener().await, Arc::default(), serve)
    }

    /// Answers every request with these bytes.
    pub(crate) async fn answering(response: &str) -> Self {
        let response = response.to_owned();
        Self::scripted(move |mut wire| {
            let response = response.clone();
            async move {
                while let Some(head) = wire.next_head().await {
                    wire.body(&head).await;
                    wire.write(&response).await;
                }
            }
        })
        .await
    }

    /// Speaks HTTP/2 and answers like [`Origin::named`].
    pub(crate) async fn h2(name: &str) -> Self {
        let name = name.to_owned();
        Self::h2_with(move |request, respond| h2_echo(name.clone(), request, respond)).await
    }

    /// Speaks HTTP/2.
    pub(crate) async fn h2_with<F, S>(answer: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> S + Send + Clone + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let log = Arc::<Log>::default();
        let requests = Arc::clone(&log);
        let serve = move |stream: TcpStream, _| {
            let (answer, requests) = (answer.clone(), Arc::clone(&requests));
            async move {
                // Takes it well if many requests are cancelled at once.
                let mut builder = h2::server::Builder::new();
                builder.max_pending_accept_reset_streams(10_000);
                let Ok(mut connection) = builder.handshake(stream).await else { return };
                let mut streams = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let what = format!("{} {}", request.method(), request.uri().path());
                    requests.requests.lock().unwrap().push(what);
                    streams.spawn(answer(request, respond));
                }
            }
        };
        Self::accepting(listener().await, log, serve)
    }

    /// Does that with each connection.
    pub(crate) async fn connected<F, S>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::accepting(listener().await, Arc::default(), move |stream, _| serve(stream))
    }

    fn accepting<F, S>(listener: TcpListener, log: Arc<Log>, serve: F) -> Self
    where
        F: Fn(TcpStream, usize) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let seen = Arc::clone(&log);
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                seen.open.fetch_add(1, SeqCst);
                let open = Open(Arc::clone(&seen));
                let served = serve(stream, seen.accepted.fetch_add(1, SeqCst));
                connections.spawn(async move {
                    served.await;
                    drop(open);
                });
            }
        });
        Self { address, log, running }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.log.accepted.load(SeqCst)
    }

    /// Connections that it has not done with.
    pub(crate) fn open(&self) -> usize {
        self.log.open.load(SeqCst)
    }

    /// The requests that came: `GET /`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.requests.lock().unwrap().clone()
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn echo(text: String, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let body = std::str::from_utf8(&body).unwrap().to_owned();
    let text = if body.is_empty() { text } else { format!("{text} {body}") };
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// An address that nobody listens on, until somebody does. The port stays taken meanwhile.
pub(crate) struct Deserted {
    pub(crate) address: SocketAddr,
    socket: Socket,
}

impl Deserted {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, socket }
    }

    /// From now on a script is followed with each connection.
    pub(crate) fn following<F, S>(self, script: F) -> Origin
    where
        F: Fn(Wire) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        self.socket.listen(128).unwrap();
        let listener = TcpListener::from_std(self.socket.into()).unwrap();
        Origin::accepting(listener, Arc::default(), move |stream, _| script(Wire::over(stream)))
    }

    /// From now on requests are answered like [`Origin::named`] does it.
    pub(crate) fn inhabited_by(self, name: &'static str) -> Origin {
        self.socket.listen(128).unwrap();
        let listener = TcpListener::from_std(self.socket.into()).unwrap();
        Origin::accepting(listener, Arc::default(), move |stream, _| async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                echo(format!("{name}: {} {}", request.method(), request.uri()), request)
            });
            let serving = hyper::server::conn::http1::Builder::new();
            let _ = serving.serve_connection(TokioIo::new(stream), service).await;
        })
    }
}

/// A replica that accepts one connection and closes it, and swallows every further one without an
/// answer, as a lost node does: Linux drops what comes to a listener whose queue is full.
pub(crate) struct Deaf {
    pub(crate) address: SocketAddr,
    filled: oneshot::Receiver<Vec<TcpStream>>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let (sender, filled) = oneshot::channel();
        tokio::spawn(async move {
            let (first, _) = listener.accept().await.unwrap();
            drop(first);
            let mut waiting = Vec::new();
            let fill = Duration::from_millis(100);
            while let Ok(stream) = tokio::time::timeout(fill, TcpStream::connect(address)).await {
                waiting.push(stream.unwrap());
            }
            let _ = sender.send(waiting);
            std::future::pending::<()>().await;
            drop(listener);
        });
        Self { address, filled }
    }

    /// Waits until it answers nobody any more. It does so for as long as what is returned lives.
    pub(crate) async fn deaf(self) -> Vec<TcpStream> {
        self.filled.await.unwrap()
    }
}
