//! Sockets that clients connect to: bound once per core, accepted from, and closed in good order.

mod frames;
mod greeting;
mod metered;
mod refusal;
mod serving;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::warn;

use crate::config::Limits;
use crate::proxy::Core;
use crate::proxy::activity::{Activity, Connections, Listening, Open, Patience};
use crate::proxy::headers::ClientSide;
use crate::tls::Terms;

use self::serving::{serve, serve_tls};

/// Connections that the kernel completes before we accept them. A burst must not be turned away.
const BACKLOG: i32 = 4096;

/// After a failed accept: with no file descriptors left it would fail again at once, for ever.
pub const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

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
    let Some(open) = Open::count(connections) else {
        // Closed at once: a client that waits in the queue for ever would be worse off.
        core.count_refused(options.index, "connections");
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
