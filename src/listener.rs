//! Sockets that clients connect to: bound once per core, accepted from, and closed in good order.

mod accepting;
mod frames;
mod greeting;
mod metered;
mod refusal;
mod serving;
mod stream;
mod throttle;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::task::yield_now;

use crate::config::Limits;
use crate::proxy::Core;
use crate::proxy::activity::{Connections, Listening};
use crate::tls::Terms;

use self::accepting::Acceptor;

pub use self::accepting::PAUSE_AFTER_ERROR;
pub use self::throttle::Throttle;

/// Connections that the kernel completes before we accept them. A burst must not be turned away.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel keeps for a client before it sends them. Without a bound it would keep
/// megabytes for one who does not read; what is on its way over a long line is not counted.
const UNSENT: u32 = 64 << 10;

/// After so many connections others have their turn: in a rush of thousands their requests would else
/// wait for all that have come at once.
const ACCEPTED_AT_ONCE: u64 = 16;

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
    /// How many handshakes the core does, for all its listeners; none for as many as come.
    pub handshakes: Option<Arc<Throttle>>,
}

/// Sockets for one address, `count` of them. The kernel spreads connections over them.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    let sockets = reserve(address, count)?;
    sockets.iter().try_for_each(listen)?;
    Ok(sockets)
}

/// The same without [`listen`]: clients are refused until then, and nobody else can have the address.
///
/// # Errors
/// If the address cannot be bound.
pub fn reserve(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    let mut sockets = Vec::new();
    let mut address = address;
    for _ in 0..count {
        let socket = reserve_one(address)?;
        // With port 0 the kernel has chosen one: the others must have the same.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Whether nobody has this address in the network of this process. Port 0 is no address.
pub fn is_free(address: SocketAddr) -> bool {
    let probe = || {
        // It does not share: whoever has the address is in its way.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())
    };
    address.port() != 0 && probe().is_ok()
}

/// Lets clients connect. For a socket on which they can already this changes nothing.
///
/// # Errors
/// If another program has taken the address for itself meanwhile.
pub fn listen(socket: &StdListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

fn reserve_one(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, whatever the host's default.
        socket.set_only_v6(false)?;
    }
    // Connections inherit all three, which saves as many calls each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Accepts on one core until `stop` completes; then, if it says so, takes what the kernel has completed
/// already, for closing a socket that nobody else has resets what waits in its queue.
pub async fn accept(
    core: Arc<Core>,
    socket: TcpListener,
    options: ListenerOptions,
    connections: Arc<Connections>,
    stop: impl Future<Output = bool>,
) {
    let _listening = Listening::count(&connections);
    let mut acceptor = Acceptor::new(core, socket, options, connections);
    let mut stop = pin!(stop);
    for number in 1_u64.. {
        tokio::select! {
            biased;
            () = acceptor.next() => {}
            takes_rest = &mut stop => {
                if takes_rest {
                    acceptor.rest().await;
                }
                return;
            }
        }
        if number % ACCEPTED_AT_ONCE == 0 {
            yield_now().await;
        }
    }
}
