//! New connections to replicas, and what they tell about an endpoint's health.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::clock;
use crate::health::Transition;
use crate::proxy::greeting::Greeted;
use crate::proxy::http1::{self, Http1, OpenConnection};
use crate::proxy::pool::{STREAMS_PER_CONNECTION, Signals};
use crate::proxy::socket::Socket;
use crate::proxy::upload::UploadBody;
use crate::tls::replica::{Offer, TlsError, Trust};
use crate::upstream::{Endpoint, Upstream};

/// A dial that has not been answered by then is raced by one to another replica: a lost node
/// swallows packets without a word.
pub const RACE_AFTER: Duration = Duration::from_millis(250);

/// Windows for responses on one HTTP/2 connection. All streams that it may have together do not use up
/// the connection's: clients that do not read hold up nobody else's responses, however many they
/// are. A stream comes to 64 MB/s over a way of 4 ms, and a connection holds 32 MiB at worst.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 32 << 20;
const _: () =
    assert!(STREAMS_PER_CONNECTION * STREAM_WINDOW as usize <= CONNECTION_WINDOW as usize);
/// What one stream may have waiting to be written.
const SEND_BUFFER: usize = 64 << 10;
/// gRPC error details travel in trailers and are long.
const HEADER_LIST: u32 = 64 << 10;

/// For the replica's kernel to acknowledge what it is sent (RFC 5482), and that it is still there while
/// nothing is. Clients of gRPC try again for some ten seconds, so they must be told well before. A
/// little more than for HTTP/1: others' streams are on the same connection, and a replica that stands
/// still and does not read is not told from a lost node once its kernel has no room for more.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);
/// How often TCP asks whether the other kernel is still there, once it has said nothing for a while. A PING
/// would ask the replica itself, which may count those that come while it has nothing to say, and say
/// GOAWAY; its kernel answers always.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Questions without an answer after which it is not, where nothing else says how long to wait.
const ASK: u32 = 3;

/// Why there is no connection. Nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Refused, or the address cannot be reached.
    #[error("no connection to the replica")]
    Unreachable(#[source] io::Error),
    /// Nobody answered in time.
    #[error("the replica did not accept the connection in time")]
    TimedOut,
    /// The connection broke before the protocol was set up.
    #[error("the replica broke the connection off at once")]
    Handshake(#[source] hyper::Error),
    /// `limit.connections` is reached.
    #[error("the replica has as many connections as the route allows")]
    Full,
    /// The replica is not who it must be, or speaks no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It chose another version of HTTP than the last time.
    #[error("the replica has changed the version of HTTP that it speaks")]
    OtherVersion,
    /// The replica closed it without a word of HTTP/2.
    #[error("the replica does not speak HTTP/2 on this port, or is about to end")]
    Silent,
}

/// A new connection, on which nothing has been said but what TLS needs, where the upstream has it: then
/// the replica chooses from what it is offered.
///
/// # Errors
/// If there is none within `limit`, for either step; the endpoint's health has been told.
pub async fn socket(
    trust: &Trust,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    limit: Duration,
    offer: Offer,
) -> Result<Socket, DialError> {
    let stream = connect(upstream, endpoint, limit).await?;
    let Some(tls) = &upstream.key.tls else {
        return Ok(Socket::Plain(stream));
    };
    let shaken = timeout(limit, trust.shake_hands(stream, tls, offer)).await;
    let shaken = shaken.map_or(Err(DialError::TimedOut), |shaken| shaken.map_err(DialError::Tls));
    if let Err(error) = &shaken {
        unusable(upstream, endpoint, error);
    }
    shaken.map(|stream| Socket::Tls(Box::new(stream)))
}

/// Makes it an HTTP/1 connection. Its bytes are read and written on this core.
pub fn http1(
    core: usize,
    upstream: &Upstream,
    endpoint: &Endpoint,
    socket: Socket,
    open: OpenConnection,
) -> Http1 {
    ask_when_quiet(&socket, http1::UNACKNOWLEDGED);
    report(upstream, endpoint, endpoint.health.connected());
    Http1::new(socket, open, core, clock::now())
}

/// Makes it an HTTP/2 connection. It is there when the replica has said its first word, which HTTP/2
/// requires of it (RFC 9113, section 3.4): hyper waits for nothing, and a port that accepts and closes
/// would be dialled without end.
///
/// # Errors
/// If that does not happen within `limit`; the endpoint's health has been told.
pub async fn http2(
    upstream: &Upstream,
    endpoint: &Endpoint,
    limit: Duration,
    socket: Socket,
    signals: Arc<Signals>,
    open: OpenConnection,
) -> Result<http2::SendRequest<UploadBody>, DialError> {
    // Without them a lost node is noticed later.
    let _ = socket.options().set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    ask_when_quiet(&socket, UNACKNOWLEDGED);
    let greeted = timeout(limit, greet(socket, open, signals)).await;
    let greeted = greeted.unwrap_or(Err(DialError::TimedOut));
    match &greeted {
        Ok(_) => report(upstream, endpoint, endpoint.health.connected()),
        Err(error) => unusable(upstream, endpoint, error),
    }
    greeted
}

/// Lets the connection end about so long after the last sign of life, also when all that was sent had been
/// acknowledged, and only the answer is lost.
fn ask_when_quiet(socket: &Socket, limit: Duration) {
    let quiet = limit.saturating_sub(ASK_EVERY);
    let keepalive = TcpKeepalive::new().with_time(quiet).with_interval(ASK_EVERY).with_retries(ASK);
    let _ = socket.options().set_tcp_keepalive(&keepalive);
}

/// Tells an endpoint's health that it accepts connections, but none that can be used.
fn unusable(upstream: &Upstream, endpoint: &Endpoint, error: &DialError) {
    let timed_out = matches!(error, DialError::TimedOut);
    let health = &endpoint.health;
    let transition = if timed_out { health.dial_timed_out() } else { health.refused() };
    report(upstream, endpoint, transition);
}

async fn greet(
    stream: Socket,
    open: OpenConnection,
    signals: Arc<Signals>,
) -> Result<http2::SendRequest<UploadBody>, DialError> {
    let executor = FirstKept::new(&signals);
    let (stream, greeting) = Greeted::new(stream);
    let (sender, connection) = http2::Builder::new(executor.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .handshake::<_, UploadBody>(TokioIo::new(stream))
        .await
        .map_err(DialError::Handshake)?;
    tokio::spawn(async move {
        let _open = open;
        drive(connection, executor, &signals).await;
    });
    greeting.await.map(|()| sender).map_err(|_| DialError::Silent)
}

/// Drives an HTTP/2 connection in one task: first the half that reads frames, then the half that
/// takes requests. hyper would run them apart, and the second would not learn of a GOAWAY or of a
/// new stream limit before somebody sends; like this it knows within a tenth of a millisecond.
async fn drive<C>(connection: C, executor: FirstKept, signals: &Signals)
where
    C: Future<Output = hyper::Result<()>> + StreamLimit,
{
    let mut frames = executor.take();
    let mut requests = pin!(Some(connection));
    poll_fn(|cx| {
        if frames.as_mut().is_some_and(|frames| frames.as_mut().poll(cx).is_ready()) {
            frames = None;
        }
        if let Some(taking) = requests.as_mut().as_pin_mut() {
            // The replica may change its mind at any time (RFC 9113, section 6.5.2).
            signals.max_streams.store(taking.as_ref().stream_limit(), Relaxed);
            if let Poll::Ready(ended) = taking.poll(cx) {
                // GOAWAY, or nobody has a sender: streams that are open go on. The other half ends
                // only when this one is gone.
                requests.set(None);
                signals.closing.store(true, Relaxed);
                if let Err(error) = ended {
                    debug!(%error, "connection to replica ended");
                }
            }
        }
        let over = frames.is_none() && requests.is_none();
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// How many streams the replica allows on a connection.
trait StreamLimit {
    fn stream_limit(self: Pin<&Self>) -> usize;
}

impl<T, B, E> StreamLimit for http2::Connection<T, B, E>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: http_body::Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ClientConnExec<B, T> + Unpin,
{
    fn stream_limit(self: Pin<&Self>) -> usize {
        self.current_max_send_streams()
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs futures as tasks, but for the first one, which it keeps: that is the half of hyper's HTTP/2
/// connection that reads frames.
#[derive(Clone)]
struct FirstKept {
    kept: Arc<Mutex<Kept>>,
    signals: Arc<Signals>,
}

#[derive(Default)]
enum Kept {
    #[default]
    NothingYet,
    First(Task),
    Taken,
}

impl FirstKept {
    fn new(signals: &Arc<Signals>) -> Self {
        Self { kept: Arc::default(), signals: Arc::clone(signals) }
    }

    fn take(&self) -> Option<Task> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *kept, Kept::Taken) {
            Kept::First(task) => Some(task),
            Kept::NothingYet | Kept::Taken => None,
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for FirstKept {
    fn execute(&self, future: F) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match *kept {
            Kept::NothingYet => *kept = Kept::First(Box::pin(future)),
            Kept::First(_) | Kept::Taken => self.signals.begun.spawn(future),
        }
    }
}

/// Connects, and tells the endpoint's health if that fails.
async fn connect(
    upstream: &Upstream,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let mut connecting = pin!(timeout(limit, TcpStream::connect(endpoint.address)));
    let connected = if let Ok(connected) = timeout(RACE_AFTER, &mut connecting).await {
        connected
    } else {
        let _overdue = Overdue::mark(endpoint);
        upstream.doubts.notify_one();
        connecting.await
    };
    match connected {
        Ok(Ok(stream)) => {
            endpoint.silence.reached(clock::now());
            // Small writes of a response must not wait for each other's acknowledgement.
            stream.set_nodelay(true).map_err(DialError::Unreachable)?;
            Ok(stream)
        }
        Ok(Err(error)) => {
            if !is_own_fault(&error) {
                report(upstream, endpoint, endpoint.health.refused());
            }
            Err(DialError::Unreachable(error))
        }
        Err(_) => {
            report(upstream, endpoint, endpoint.health.dial_timed_out());
            Err(DialError::TimedOut)
        }
    }
}

/// Whether a connection failed for want of something here, which says nothing about the replica:
/// file descriptors, memory, or local ports.
pub fn is_own_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory, PermissionDenied};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory | PermissionDenied)
        || lacks_descriptors(error)
}

/// Whether there are too many open files: of the process, or of the system. EMFILE and ENFILE have
/// no kind of their own (errno.h; the same on all of Linux).
pub fn lacks_descriptors(error: &io::Error) -> bool {
    const TOO_MANY_FILES: [i32; 2] = [24, 23];
    error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

/// Marks an endpoint as suspect while a dial to it is overdue.
struct Overdue<'e>(&'e Endpoint);

impl<'e> Overdue<'e> {
    fn mark(endpoint: &'e Endpoint) -> Self {
        endpoint.health.dial_overdue();
        Self(endpoint)
    }
}

impl Drop for Overdue<'_> {
    fn drop(&mut self) {
        self.0.health.overdue_dial_ended();
    }
}

/// Logs a change of an endpoint's health, and wakes those whom it concerns.
pub fn report(upstream: &Upstream, endpoint: &Endpoint, transition: Option<Transition>) {
    let (service, name) = (&upstream.service, endpoint.name.load());
    let address = endpoint.address;
    match transition {
        None => {}
        Some(Transition::Reached) => {
            info!(service, endpoint = %name, %address, "endpoint accepts connections");
            endpoint.begins(clock::now());
            upstream.arrivals.notify_waiters();
        }
        Some(Transition::Passed) => {
            info!(service, endpoint = %name, %address, "endpoint passes its health check");
            upstream.arrivals.notify_waiters();
        }
        Some(Transition::Unwell) => {
            let last = endpoint.last_check.load();
            let reason = last.as_deref().map_or("", String::as_str);
            warn!(service, endpoint = %name, %address, reason, "endpoint fails its health check");
            // Whoever waits for a better one may have it now.
            upstream.arrivals.notify_waiters();
        }
        Some(Transition::Recovered) => {
            info!(service, endpoint = %name, %address, "endpoint answers again");
            endpoint.begins(clock::now());
        }
        Some(Transition::Lost) => {
            warn!(service, endpoint = %name, %address, "endpoint accepts no connections");
            upstream.doubts.notify_one();
        }
        Some(Transition::Ejected { until }) => {
            let seconds = until.since(clock::now()).as_secs();
            warn!(service, endpoint = %name, %address, seconds, "endpoint failed and is left out");
        }
    }
}
