//! A connection from its first byte to its last: which protocol it speaks, and what ends it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderValue;
use hyper::Response;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tracing::debug;

use crate::listener::ListenerOptions;
use crate::listener::greeting::{Begins, Shaken, begins, shake_hands};
use crate::listener::metered::Metered;
use crate::listener::refusal::{refuse, word_for};
use crate::listener::stream::{Stream, Watched};
use crate::proxy::activity::Activity;
use crate::proxy::body::Body;
use crate::proxy::credential::Credential;
use crate::proxy::error::ProxyError;
use crate::proxy::headers::ClientSide;
use crate::proxy::streams::{Line, Streams};
use crate::proxy::{Client, Core};
use crate::tls::{self, TlsStream};

/// hyper reads into no smaller buffer than this.
const SMALLEST_BUFFER: usize = 8192;
/// Fields of a head that hyper takes without being told.
const HYPER_FIELDS: usize = 100;

/// A connection of HTTP/2 that was told to go because it has no streams has that long to do so.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves a connection in clear text.
pub(super) async fn serve(
    core: Arc<Core>,
    stream: TcpStream,
    side: ClientSide,
    activity: Arc<Activity>,
    options: &ListenerOptions,
) {
    let http2 = match (options.http1, options.http2) {
        (true, true) => match begins(&core, &stream, &activity).await {
            Begins::Http2 => true,
            Begins::Http1 => false,
            Begins::Never => {
                if activity.is_in_head() {
                    let stream = Watched::new(stream, activity, None);
                    refuse(&core, options.index, stream, ProxyError::SlowHead, b"").await;
                }
                return;
            }
        },
        (_, http2) => http2,
    };
    serve_http(http2, core, stream, side, activity, options).await;
}

/// Serves a connection with TLS.
pub(super) async fn serve_tls(
    core: Arc<Core>,
    stream: TcpStream,
    mut side: ClientSide,
    activity: Arc<Activity>,
    options: &ListenerOptions,
) {
    let stream = match shake_hands(&core, stream, &activity, options).await {
        Some(Shaken::Tls(stream, asked)) => {
            side.credential = credential(&stream, asked);
            stream
        }
        Some(Shaken::Plain(stream)) => {
            // What comes is a head, though nobody reads it.
            activity.bytes_came();
            let stream = Watched::new(stream, activity, None);
            refuse(&core, options.index, stream, ProxyError::NotTls, b"").await;
            return;
        }
        None => return,
    };
    side.tls = Some(tls::version(&stream));
    // Without ALPN it is HTTP/1.1, as for every client that is older than ALPN.
    let http2 = tls::is_http2(&stream) || !options.http1;
    serve_http(http2, core, stream, side, activity, options).await;
}

/// What a handshake says about who the client is.
fn credential(stream: &TlsStream<TcpStream>, asked: bool) -> Credential {
    if !asked {
        return Credential::NotAsked;
    }
    let identity = tls::identity(stream).and_then(|text| HeaderValue::try_from(text).ok());
    identity.map_or(Credential::Withheld, Credential::Shown)
}

async fn serve_http<S: Stream>(
    http2: bool,
    core: Arc<Core>,
    stream: S,
    side: ClientSide,
    activity: Arc<Activity>,
    options: &ListenerOptions,
) {
    let deadline = (!http2).then(|| core.deadlines.add());
    let listener = options.index;
    let line = Line::default();
    let client = Client { core, listener, side, activity, deadline, line };
    if http2 {
        serve_http2(Arc::new(client), stream, options).await;
    } else {
        serve_http1(Arc::new(client), stream, options).await;
    }
}

type Answered = Result<Response<Body>, std::convert::Infallible>;

async fn serve_http1<S: Stream>(client: Arc<Client>, stream: S, options: &ListenerOptions) {
    let io =
        TokioIo::new(Watched::new(stream, Arc::clone(&client.activity), client.deadline.clone()));
    // Mapped: a future that awaits another one holds it twice, and hyper moves all of it.
    let service = service_fn(|request| Arc::clone(&client).serve(request).map(Answered::Ok));
    let limits = &options.limits;
    let mut builder = http1::Builder::new();
    builder
        // Ours knows a first byte from an idle connection, and costs no timer per request.
        .header_read_timeout(None)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.saturating_mul(2).max(SMALLEST_BUFFER));
    if limits.head_fields != HYPER_FIELDS {
        // Any other number than its own makes hyper keep the fields on the heap.
        builder.max_headers(limits.head_fields);
    }
    let mut connection = builder.serve_connection(io, service).with_upgrades();
    let shut_down = http1::UpgradeableConnection::graceful_shutdown;
    let ended = drive(Pin::new(&mut connection), &client, shut_down, Expired::Drop).await;
    if ended == Ended::Expired
        && client.activity.is_in_head()
        && let Some(parts) = connection.into_parts()
    {
        let (stream, head) = (parts.io.into_inner(), parts.read_buf);
        refuse(&client.core, client.listener, stream, ProxyError::SlowHead, &head).await;
    }
}

async fn serve_http2<S: Stream>(client: Arc<Client>, stream: S, options: &ListenerOptions) {
    let io = TokioIo::new(Metered::new(stream, Arc::clone(&client.activity)));
    let service = service_fn(|request| Arc::clone(&client).serve(request).map(Answered::Ok));
    let limits = &options.limits;
    let connection = http2::Builder::new(Streams::new(Arc::clone(&client.core.deadlines)))
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buf_size(limits.send_buffer)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        // A client that cancels many calls in one write is no attacker; one that makes us reset
        // many streams is (CVE-2023-44487, CVE-2025-8671).
        .max_pending_accept_reset_streams(100)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .serve_connection(io, service);
    let shut_down = http2::Connection::graceful_shutdown;
    drive(pin!(connection), &client, shut_down, Expired::AskToGo).await;
}

/// What happens to a connection that has done nothing for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expired {
    /// Closed: nothing is lost in HTTP/1.
    Drop,
    /// Told with GOAWAY first.
    AskToGo,
}

/// How a connection came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By the client's will, by its mistake, or because it was asked to go.
    Itself,
    /// It has done nothing for too long.
    Expired,
    /// The client did not take its answer.
    Stalled,
    /// The client did what only attackers do.
    Offence,
}

/// Runs a connection to its end: its own, that of its patience, or that of the edge.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    client: &Client,
    shut_down: impl Fn(Pin<&mut C>),
    expired: Expired,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut asked_to_go = false;
    let ended = poll_fn(|cx: &mut Context<'_>| {
        let mut polled = connection.as_mut().poll(cx).map(|ended| (Ended::Itself, ended));
        if polled.is_ready() {
            return polled;
        }
        if expired == Expired::AskToGo
            && let Some(offence) = client.activity.offence()
        {
            client.core.count_refused(client.listener, offence.reason());
            return Poll::Ready((Ended::Offence, Ok(())));
        }
        client.activity.mind_the_crowd();
        let over = client.activity.poll_expired(cx).is_ready();
        if over && (expired == Expired::Drop || asked_to_go) {
            return Poll::Ready((Ended::Expired, Ok(())));
        }
        if !asked_to_go && (over || client.asks_to_go(expired == Expired::AskToGo)) {
            // Only now: a request that had come already has been read and will be answered.
            asked_to_go = true;
            if over {
                client.activity.asked_to_go(FAREWELL);
            }
            shut_down(connection.as_mut());
            polled = connection.as_mut().poll(cx).map(|ended| (Ended::Itself, ended));
        }
        if polled.is_pending() && client.is_stalled(cx) {
            return Poll::Ready((Ended::Stalled, Ok(())));
        }
        polled
    });
    let (ended, result) = ended.await;
    if let Err(error) = result {
        if let Some(word) = word_for(&error) {
            client.core.count_refused(client.listener, word);
        }
        debug!(%error, "connection of a client ended");
    }
    ended
}
