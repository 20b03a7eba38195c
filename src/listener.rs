//! Sockets that clients connect to: bound once per core, accepted from, and closed in good order.

mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::config::Limits;
use crate::listener::stream::{Stream, Watched};
use crate::memory::Pressure;
use crate::proxy::activity::{Activity, Connections, Listening, Open, Patience};
use crate::proxy::body::Body;
use crate::proxy::headers::ClientSide;
use crate::proxy::streams::Streams;
use crate::proxy::{Client, Core};
use crate::tls::{self, Terms, TlsStream};

/// Connections that the kernel completes before we accept them. A burst must not be turned away.
const BACKLOG: i32 = 4096;

/// After a failed accept: with no file descriptors left it would fail again at once, for ever.
pub const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Between two looks at a preface of which only a part has come.
const PAUSE_IN_PREFACE: Duration = Duration::from_millis(10);

/// When the edge ends, a connection on which nothing has come has that long: it may just have been
/// made, with its first request on the way.
const LAST_CALL: Duration = Duration::from_millis(500);

/// What a client of HTTP/2 without TLS sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// hyper reads into no smaller buffer than this.
const SMALLEST_BUFFER: usize = 8192;
/// Fields of a head that hyper takes without being told.
const HYPER_FIELDS: usize = 100;

/// What a listener does, apart from what its routes do.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Its place among the edge's listeners.
    pub index: usize,
    /// Whether HTTP/1.1 is spoken.
    pub http1: bool,
    /// Whether HTTP/2 is spoken: by prior knowledge, with TLS by ALPN.
    pub http2: bool,
    /// Streams on one HTTP/2 connection.
    pub max_streams: u32,
    /// What one client may cost.
    pub limits: Limits,
    /// How TLS is spoken; none in clear text.
    pub tls: Option<Terms>,
}

/// Sockets for one address, one per core. The kernel spreads connections over them.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<StdListener>> {
    let first = bind_one(address)?;
    // With port 0 the kernel has chosen one: the others must have the same.
    let address = first.local_addr()?;
    let others = (1..cores).map(|_| bind_one(address));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn bind_one(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, whatever the host's default.
        socket.set_only_v6(false)?;
    }
    // Connections inherit both, which saves two calls each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts on one core until `stop` completes; then takes what the kernel has completed already, for
/// closing a socket resets what waits in its queue.
pub async fn accept(
    core: Arc<Core>,
    socket: TcpListener,
    options: ListenerOptions,
    connections: Arc<Connections>,
    stop: impl Future<Output = ()>,
) {
    let _listening = Listening::count(&connections);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = socket.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => take(&core, stream, peer, &options, &connections),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    let drained = poll_fn(|cx| {
        while let Poll::Ready(Ok((stream, peer))) = socket.poll_accept(cx) {
            take(&core, stream, peer, &options, &connections);
        }
        Poll::Ready(())
    });
    drained.await;
}

fn take(
    core: &Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    options: &ListenerOptions,
    connections: &Arc<Connections>,
) {
    if core.proxy.memory.is_at(Pressure::Connections) {
        core.proxy.refused.of(core.index).count((options.index, "memory"));
        return;
    }
    let Some(open) = Open::count(connections) else {
        // Closed at once: a client that waits in the queue for ever would be worse off.
        core.proxy.refused.of(core.index).count((options.index, "connections"));
        return;
    };
    let policy = core.proxy.listeners.get(options.index);
    let (port, trusted) = policy.map_or((0, &[][..]), |p| (p.port, &p.trusted_proxies));
    let side = ClientSide::new(peer.ip(), port, options.tls.is_some(), trusted);
    let (core, options) = (Arc::clone(core), options.clone());
    let patience = Patience { head: options.limits.head_time, idle: options.limits.keepalive_idle };
    let activity = Arc::new(Activity::new(core.deadlines.add(), patience, open));
    // Two kinds of tasks: one in clear text is no larger for what TLS needs.
    if options.tls.is_some() {
        tokio::spawn(async move { serve_tls(core, stream, side, activity, &options).await });
    } else {
        tokio::spawn(async move { serve(core, stream, side, activity, &options).await });
    }
}

async fn serve(
    core: Arc<Core>,
    stream: TcpStream,
    side: ClientSide,
    activity: Arc<Activity>,
    options: &ListenerOptions,
) {
    let http2 = match (options.http1, options.http2) {
        (true, true) => match begins_like_http2(&core, &stream, &activity).await {
            Some(http2) => http2,
            None => return,
        },
        (_, http2) => http2,
    };
    serve_http(http2, core, stream, side, activity, options).await;
}

async fn serve_tls(
    core: Arc<Core>,
    stream: TcpStream,
    side: ClientSide,
    activity: Arc<Activity>,
    options: &ListenerOptions,
) {
    let Some(stream) = shake_hands(&core, stream, &activity, options).await else {
        return;
    };
    // Without ALPN it is HTTP/1.1, as for every client that is older than ALPN.
    let http2 = tls::is_http2(&stream) || !options.http1;
    serve_http(http2, core, stream, side, activity, options).await;
}

/// The handshake, counted; none if it fails, takes too long, or the edge ends before.
async fn shake_hands(
    core: &Core,
    stream: TcpStream,
    activity: &Activity,
    options: &ListenerOptions,
) -> Option<TlsStream<TcpStream>> {
    let mut handshake = pin!(options.tls.as_ref()?.accept(stream));
    activity.handshake_started(options.limits.handshake_time);
    let ended = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(Ok(stream)) => Poll::Ready(Ok(stream)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(tls::failure(&error))),
        Poll::Pending if activity.poll_expired(cx).is_ready() => Poll::Ready(Err("timeout")),
        Poll::Pending if core.proxy.closing.load(Relaxed) => Poll::Ready(Err("draining")),
        Poll::Pending => Poll::Pending,
    });
    let ended = ended.await;
    activity.handshake_ended();
    let version = ended.as_ref().map_or(tls::NO_VERSION, tls::version);
    let result = ended.as_ref().map_or_else(|word| *word, |_| "ok");
    core.proxy.handshakes.of(core.index).count((version, result));
    ended.ok()
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
    let client = Client { core, listener, side, activity, deadline };
    if http2 {
        serve_http2(Arc::new(client), stream, options).await;
    } else {
        serve_http1(Arc::new(client), stream, options).await;
    }
}

/// Whether the first bytes are those of HTTP/2; none if they do not come.
async fn begins_like_http2(core: &Core, stream: &TcpStream, activity: &Activity) -> Option<bool> {
    let mut hurried = false;
    let mut gives_up = |cx: &Context<'_>| {
        if !hurried && core.proxy.closing.load(Relaxed) {
            hurried = true;
            activity.hurry(LAST_CALL);
        }
        activity.poll_expired(cx).is_ready()
    };
    let mut first = [0; PREFACE.len()];
    loop {
        let peeked = {
            let mut peek = pin!(stream.peek(&mut first));
            poll_fn(|cx| match peek.as_mut().poll(cx) {
                Poll::Ready(peeked) => Poll::Ready(peeked.ok()),
                Poll::Pending if gives_up(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await?
        };
        let came = first.get(..peeked)?;
        if came.is_empty() {
            return None;
        }
        activity.bytes_came();
        if came == PREFACE {
            activity.greeted();
            return Some(true);
        }
        if !PREFACE.starts_with(came) {
            return Some(false);
        }
        // Part of the preface: what is there stays readable, so there is nothing to wait for.
        sleep(PAUSE_IN_PREFACE).await;
        if poll_fn(|cx| Poll::Ready(gives_up(cx))).await {
            return None;
        }
    }
}

type Answered = Result<Response<Body>, std::convert::Infallible>;

async fn serve_http1<S: Stream>(client: Arc<Client>, stream: S, options: &ListenerOptions) {
    let io = TokioIo::new(Watched { stream, activity: Arc::clone(&client.activity) });
    let service = service_fn(|request: Request<Incoming>| {
        let client = Arc::clone(&client);
        async move { Answered::Ok(client.serve(request).await) }
    });
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
    let connection = builder.serve_connection(io, service).with_upgrades();
    drive(connection, &client, http1::UpgradeableConnection::graceful_shutdown, Expired::Drop)
        .await;
}

async fn serve_http2<S: Stream>(client: Arc<Client>, stream: S, options: &ListenerOptions) {
    let service = service_fn(|request: Request<Incoming>| {
        let client = Arc::clone(&client);
        async move { Answered::Ok(client.serve(request).await) }
    });
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
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, &client, http2::Connection::graceful_shutdown, Expired::AskToGo).await;
}

/// What happens to a connection that has done nothing for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expired {
    /// Closed: nothing is lost in HTTP/1.
    Drop,
    /// Told with GOAWAY first.
    AskToGo,
}

/// Runs a connection to its end: its own, that of its patience, or that of the edge.
async fn drive<C>(connection: C, client: &Client, shut_down: impl Fn(Pin<&mut C>), expired: Expired)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut asked_to_go = false;
    let ended = poll_fn(|cx: &mut Context<'_>| {
        let over = client.activity.poll_expired(cx).is_ready();
        if over && expired == Expired::Drop {
            return Poll::Ready(Ok(()));
        }
        let mut polled = connection.as_mut().poll(cx);
        if polled.is_pending()
            && !asked_to_go
            && (over || client.asks_to_go(expired == Expired::AskToGo))
        {
            // Only now: a request that had come already has been read and will be answered.
            asked_to_go = true;
            shut_down(connection.as_mut());
            polled = connection.as_mut().poll(cx);
        }
        if polled.is_pending() && client.is_stalled(cx) {
            return Poll::Ready(Ok(()));
        }
        polled
    });
    if let Err(error) = ended.await {
        debug!(%error, "connection of a client ended");
    }
}
