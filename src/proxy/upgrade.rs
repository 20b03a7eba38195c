//! WebSockets and other upgrades: after the replica's 101 the two connections become one pipe.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::time::sleep;
use tracing::debug;

use crate::deadline::Deadline;
use crate::http1::members;
use crate::proxy::Proxy;
use crate::proxy::account::Account;
use crate::proxy::farewell::Farewell;
use crate::proxy::http1::Upgraded;

/// In which time WebSockets are asked to go when the edge is to end.
const SPREAD: Duration = Duration::from_secs(3);

/// An upgrade that a client asks for.
#[derive(Debug)]
pub struct Wanted {
    /// The protocols it names.
    pub protocol: HeaderValue,
    /// Its side of the pipe, once there is one.
    on_upgrade: OnUpgrade,
}

/// Takes the wish for an upgrade out of a request. None if there is none that could be granted: it
/// exists in HTTP/1.1 only, and `h2c` is a way around every rule of a proxy.
pub fn wanted(request: &mut Request<Incoming>) -> Option<Wanted> {
    if request.version() != Version::HTTP_11 || !asks_for_upgrade(request.headers()) {
        return None;
    }
    let protocol = request.headers().get(UPGRADE)?.clone();
    if names_h2c(request.headers()) {
        return None;
    }
    Some(Wanted { protocol, on_upgrade: hyper::upgrade::on(request) })
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    members(headers, CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether `h2c` is among the protocols; the first one that a replica knows is the one it takes.
fn names_h2c(headers: &HeaderMap) -> bool {
    members(headers, UPGRADE)
        .any(|protocol| protocol.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"h2c")))
}

/// Joins the two sides when both have changed over, until both are closed or nothing has moved for
/// as long as `deadline` is set to. Holds what the request holds until then. When the edge is to end
/// a WebSocket is asked to go.
pub async fn join(
    wanted: Wanted,
    mut replica: Upgraded,
    mut account: Account,
    deadline: Deadline,
    idle: Duration,
    proxy: &Proxy,
) {
    let is_web_socket = wanted.protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let upgraded = wanted.on_upgrade.await;
    let Ok(client) = upgraded.inspect_err(|error| debug!(%error, "upgrade did not come about"))
    else {
        return;
    };
    deadline.set(Some(idle));
    let mut client = Moving::new(TokioIo::new(client), &deadline, idle);
    let first = std::mem::take(&mut replica.first);
    let parting = AtomicBool::new(false);
    let replica = Moving::new(&mut replica.socket, &deadline, idle);
    let mut replica = Farewell::new(replica, &first, &parting);
    let copied = async {
        // A replica may speak with its 101.
        client.write_all(&first).await?;
        copy_bidirectional(&mut client, &mut replica).await
    };
    let asking = async {
        if is_web_socket {
            until_asked_to_go(proxy, &deadline).await;
            parting.store(true, Relaxed);
        }
        pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = asking => {}
        copied = copied => {
            if let Err(error) = copied {
                debug!(%error, "upgraded connection broke");
            }
        }
        () = poll_fn(|cx| deadline.poll_passed(cx)) => {
            debug!("upgraded connection did not move for too long");
        }
    }
    account.tunnelled(client.read, client.written);
    account.finished();
}

/// Waits until the edge is to end, and then a while: who leaves comes back elsewhere at once, and not
/// all are to do so in one moment. Whoever waits for a limit is woken when the edge is to end.
async fn until_asked_to_go(proxy: &Proxy, deadline: &Deadline) {
    poll_fn(|cx| {
        // That the time has passed is others' business.
        let _ = deadline.poll_passed(cx);
        if proxy.draining.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    sleep(SPREAD.mul_f64(fastrand::f64())).await;
}

/// One side of the pipe. Whatever moves sets the time limit anew.
struct Moving<S> {
    side: S,
    deadline: Deadline,
    idle: Duration,
    /// Bytes that came from it.
    read: u64,
    /// Bytes that went to it.
    written: u64,
}

impl<S> Moving<S> {
    fn new(side: S, deadline: &Deadline, idle: Duration) -> Self {
        Self { side, deadline: deadline.clone(), idle, read: 0, written: 0 }
    }

    fn moved<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.deadline.set(Some(self.idle));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.side).poll_read(cx, buffer);
        let came = buffer.filled().len().saturating_sub(before);
        self.read = self.read.saturating_add(came as u64);
        self.moved(polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.side).poll_write(cx, bytes);
        if let Poll::Ready(Ok(went)) = polled {
            self.written = self.written.saturating_add(went as u64);
        }
        self.moved(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_shutdown(cx)
    }
}
