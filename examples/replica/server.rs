//! Connections: accepted, served, closed when idle, finished or dropped on SIGTERM.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::answers::{self, Replica};
use crate::{OnSigterm, Options};

/// First bytes of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What one connection is doing. Whoever still works for it keeps it, and with it the replica.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The same socket as hyper's, for options that hyper does not know.
    twin: std::net::TcpStream,
    opened: Instant,
    under_way: AtomicUsize,
    /// When the last request ended, in microseconds after `opened`.
    last_end: AtomicU64,
    ending: watch::Receiver<bool>,
    /// Never sent on: the replica waits until every copy is gone.
    _alive: mpsc::Sender<()>,
}

impl Connection {
    /// Lets the socket be closed by RST instead of FIN.
    pub(crate) fn reset_at_close(&self) -> io::Result<()> {
        SockRef::from(&self.twin).set_linger(Some(Duration::ZERO))
    }

    /// Ready when the replica was told to end.
    pub(crate) async fn told_to_end(&self) {
        // The sender lives until the replica is over; without it nothing is left to wait for.
        let _ = self.ending.clone().wait_for(|ending| *ending).await;
    }

    /// Ready when the replica was told to end, and has read what its kernel had taken: a request that was not
    /// read yet is under way, too.
    async fn may_end(&self) {
        self.told_to_end().await;
        while self.twin.peek(&mut [0]).is_ok_and(|length| length > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// When it will have been idle for `limit`, if nothing comes.
    fn idle_until(&self, limit: Duration) -> Instant {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Instant::now() + limit;
        }
        self.opened + Duration::from_micros(self.last_end.load(Ordering::Relaxed)) + limit
    }
}

/// Counts a request as under way until its last byte is handed over.
#[derive(Debug)]
pub(crate) struct UnderWay(pub(crate) Arc<Connection>);

impl UnderWay {
    /// Counts one more on that connection.
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        connection.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let age = u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.last_end.store(age, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `ended` is ready, and then ends as the options say.
pub(crate) async fn serve(
    options: Arc<Options>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", options.port)).await?;
    let on_sigterm = options.on_sigterm;
    let replica = Arc::new(Replica::new(options)?);
    let (end, ending) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel(1);
    tokio::pin!(ended);
    let serve_one = |stream| {
        tokio::spawn(connection(stream, Arc::clone(&replica), ending.clone(), alive.clone()));
    };
    loop {
        let stream = tokio::select! {
            () = &mut ended => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = stream else {
            // Out of descriptors, or the client is gone already: the next may be well.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        serve_one(stream);
    }
    if on_sigterm == OnSigterm::Die {
        return Ok(());
    }
    // Connections that the kernel has accepted, and nobody here yet, would be reset with the listener.
    let waiting = listener.into_std()?;
    while let Ok((stream, _)) = waiting.accept() {
        stream.set_nonblocking(true)?;
        serve_one(TcpStream::from_std(stream)?);
    }
    drop((waiting, alive));
    end.send_replace(true);
    // Nothing is ever sent: this is ready when the last connection is gone.
    while all_gone.recv().await.is_some() {}
    Ok(())
}

/// An error here is the client's doing, or one that was asked for (`/reset`).
async fn connection(
    stream: TcpStream,
    replica: Arc<Replica>,
    ending: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let idle = replica.options.idle;
    let h2 = replica.options.h2c && speaks_h2(&stream).await?;
    let std = stream.into_std()?;
    let connection = Arc::new(Connection {
        twin: std.try_clone()?,
        opened: Instant::now(),
        under_way: AtomicUsize::new(0),
        last_end: AtomicU64::new(0),
        ending,
        _alive: alive,
    });
    let io = TokioIo::new(TcpStream::from_std(std)?);
    let of_service = Arc::clone(&connection);
    let service = service_fn(move |request| {
        answers::answer(request, Arc::clone(&replica), UnderWay::new(&of_service))
    });
    if h2 {
        let hyper = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        drive(hyper, http2::Connection::graceful_shutdown, &connection, idle).await
    } else {
        let hyper = http1::Builder::new().serve_connection(io, service).with_upgrades();
        drive(hyper, http1::UpgradeableConnection::graceful_shutdown, &connection, idle).await
    }
}

/// Runs hyper's side until it is over, idle for too long, or told to end.
async fn drive<H: Future<Output = hyper::Result<()>>>(
    hyper: H,
    shut_down: impl Fn(Pin<&mut H>),
    connection: &Connection,
    idle: Duration,
) -> io::Result<()> {
    let mut hyper = pin!(hyper);
    let mut told = false;
    loop {
        let idle_end = connection.idle_until(idle);
        tokio::select! {
            ended = hyper.as_mut() => return ended.map_err(io::Error::other),
            () = connection.may_end(), if !told => {
                told = true;
                shut_down(hyper.as_mut());
            }
            () = tokio::time::sleep_until(idle_end), if !idle.is_zero() => {
                if connection.idle_until(idle) <= Instant::now() {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the client's first bytes are those of HTTP/2. They stay in the socket.
async fn speaks_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        let seen = first.get(..length).unwrap_or_default();
        if length == 0 || !PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
