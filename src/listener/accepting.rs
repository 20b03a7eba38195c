//! Connections as they come: each is given a seat and a task, or closed at once.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::unconstrained;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::clock;
use crate::listener::ListenerOptions;
use crate::listener::serving::{serve, serve_tls};
use crate::memory::Pressure;
use crate::proxy::Core;
use crate::proxy::activity::{Activity, Connections, Open, Patience};
use crate::proxy::dial::lacks_descriptors;
use crate::proxy::headers::ClientSide;
use crate::timestamp::Timestamp;
use crate::tls;

/// After an accept that failed for want of anything: it would fail again at once, for ever.
pub const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Between two complaints about the same.
const PAUSE_OF_COMPLAINTS: Duration = Duration::from_secs(1);

/// Between two times that the idle connections of a core are told that there is little room.
const PAUSE_OF_HURRIES: Duration = Duration::from_secs(1);

/// What accepts from one socket.
pub(super) struct Acceptor {
    core: Arc<Core>,
    socket: TcpListener,
    options: ListenerOptions,
    connections: Arc<Connections>,
    /// A descriptor for nothing. With none left it is given up for a moment, so that who waits can
    /// be taken and closed instead of being kept waiting.
    spare: Option<Socket>,
    failed: u64,
    complained: Option<Timestamp>,
    hurried: Option<Timestamp>,
}

impl Acceptor {
    pub(super) fn new(
        core: Arc<Core>,
        socket: TcpListener,
        options: ListenerOptions,
        connections: Arc<Connections>,
    ) -> Self {
        let (complained, hurried) = (None, None);
        let spare = descriptor();
        Self { core, socket, options, connections, spare, failed: 0, complained, hurried }
    }

    /// Takes the next connection. Can be dropped at any moment.
    pub(super) async fn next(&mut self) {
        match self.socket.accept().await {
            Ok((stream, peer)) => self.take(stream, peer),
            Err(error) => self.failed(&error).await,
        }
    }

    /// Takes what waits already.
    pub(super) async fn rest(&mut self) {
        while let Some(Ok((stream, peer))) = self.waiting().await {
            self.take(stream, peer);
        }
    }

    /// The connection that waits; none if none does.
    async fn waiting(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        // At the end of a turn the runtime says of every socket that nothing waits there.
        unconstrained(poll_fn(|cx| match self.socket.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        }))
        .await
    }

    fn take(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (core, options) = (Arc::clone(&self.core), self.options.clone());
        if core.proxy.memory.is_at(Pressure::Connections) {
            core.count_refused(options.index, "memory");
            return;
        }
        let Some(open) = Open::count(&self.connections) else {
            // Closed at once: a client that waits in the queue for ever would be worse off.
            core.count_refused(options.index, "connections");
            return;
        };
        if open.is_crowded() {
            self.hurry();
        }
        if options.tls.is_some()
            && let Some(throttle) = &options.handshakes
            && !throttle.take(clock::now())
        {
            core.proxy.handshakes.of(core.index).count((tls::NO_VERSION, "limit"));
            return;
        }
        let policy = core.proxy.listeners.get(options.index);
        let (port, trusted) = policy.map_or((0, &[][..]), |p| (p.port, &p.trusted_proxies));
        let side = ClientSide::new(peer.ip(), port, options.tls.is_some(), trusted);
        let limits = &options.limits;
        let patience = Patience { head: limits.head_time, idle: limits.keepalive_idle };
        let activity = Arc::new(Activity::new(core.deadlines.add(), patience, open));
        // Two kinds of tasks: one in clear text is no larger for what TLS needs.
        if options.tls.is_some() {
            tokio::spawn(async move { serve_tls(core, stream, side, activity, &options).await });
        } else {
            tokio::spawn(async move { serve(core, stream, side, activity, &options).await });
        }
    }

    /// Lets the idle connections of this core notice that there is little room.
    fn hurry(&mut self) {
        let now = self.core.deadlines.ticked();
        if self.hurried.is_none_or(|before| now.since(before) >= PAUSE_OF_HURRIES) {
            self.hurried = Some(now);
            self.core.deadlines.wake_all();
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            debug!(%error, "a connection ended before it was accepted");
            return;
        }
        self.complain(error);
        if lacks_descriptors(error) && self.spare.take().is_some() {
            if let Some(Ok(turned_away)) = self.waiting().await {
                drop(turned_away);
                self.core.count_refused(self.options.index, "descriptors");
            }
        } else {
            sleep(PAUSE_AFTER_ERROR).await;
        }
        self.spare = descriptor();
    }

    /// Says what failed and how often it did, but not each time.
    fn complain(&mut self, error: &io::Error) {
        self.failed = self.failed.saturating_add(1);
        let now = clock::now();
        if self.complained.is_none_or(|before| now.since(before) >= PAUSE_OF_COMPLAINTS) {
            warn!(%error, times = self.failed, "connections could not be accepted");
            self.complained = Some(now);
            self.failed = 0;
        }
    }
}

/// A descriptor that nothing is done with; none if there are none left.
fn descriptor() -> Option<Socket> {
    Socket::new(Domain::UNIX, Type::DGRAM, None).ok()
}
