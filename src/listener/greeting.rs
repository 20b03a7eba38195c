//! The first bytes of a connection: which protocol they belong to, before anybody has read them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::listener::ListenerOptions;
use crate::proxy::Core;
use crate::proxy::activity::Activity;
use crate::tls::{self, TlsStream};

/// Between two looks at a preface of which only a part has come.
const PAUSE_IN_PREFACE: Duration = Duration::from_millis(10);

/// When the edge ends, a connection on which nothing has come has that long: it may just have been
/// made, with its first request on the way.
const LAST_CALL: Duration = Duration::from_millis(500);

/// What a client of HTTP/2 without TLS sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection in clear text begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// The whole preface of HTTP/2.
    Http2,
    /// Something else; if it is no HTTP/1 either, that is found out later.
    Http1,
    /// Nothing, or too little in its time.
    Never,
}

/// Waits for the first bytes, as many as it takes to know. They stay unread.
pub(super) async fn begins(core: &Core, stream: &TcpStream, activity: &Activity) -> Begins {
    let mut hurried = false;
    let mut gives_up = |cx: &Context<'_>| {
        if !hurried && core.proxy.closing.load(Relaxed) {
            hurried = true;
            activity.hurry(LAST_CALL);
        }
        activity.mind_the_crowd();
        activity.poll_expired(cx).is_ready()
    };
    let mut first = [0; PREFACE.len()];
    loop {
        let peeked = {
            let mut peek = pin!(stream.peek(&mut first));
            poll_fn(|cx| match peek.as_mut().poll(cx) {
                Poll::Ready(peeked) => Poll::Ready(peeked.unwrap_or(0)),
                Poll::Pending if gives_up(cx) => Poll::Ready(0),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let came = first.get(..peeked).unwrap_or_default();
        if came.is_empty() {
            return Begins::Never;
        }
        activity.bytes_came();
        if came == PREFACE {
            activity.greeted();
            return Begins::Http2;
        }
        if !PREFACE.starts_with(came) {
            return Begins::Http1;
        }
        // Part of the preface: what is there stays readable, so there is nothing to wait for.
        sleep(PAUSE_IN_PREFACE).await;
        if poll_fn(|cx| Poll::Ready(gives_up(cx))).await {
            return Begins::Never;
        }
    }
}

/// What a handshake comes to, unless it fails.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and nearly always TLS")]
pub(super) enum Shaken {
    /// TLS, from now on; and whether the client was asked for a certificate.
    Tls(TlsStream<TcpStream>, bool),
    /// The client speaks HTTP without TLS; nothing was read.
    Plain(TcpStream),
}

/// The handshake with a client, counted; none if it fails, takes too long, or the edge ends before.
pub(super) async fn shake_hands(
    core: &Core,
    stream: TcpStream,
    activity: &Activity,
    options: &ListenerOptions,
) -> Option<Shaken> {
    let terms = options.tls.as_ref()?;
    let mut handshake = pin!(async {
        if speaks_plainly(&stream).await? {
            return Ok(Shaken::Plain(stream));
        }
        let demand = |name: Option<&str>| core.proxy.snapshot.load().demand(options.index, name);
        let (stream, asked) = terms.accept(stream, demand).await?;
        Ok(Shaken::Tls(stream, asked))
    });
    activity.handshake_started(options.limits.handshake_time);
    let ended = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map_err(|error: io::Error| tls::failure(&error))),
        Poll::Pending if activity.poll_expired(cx).is_ready() => Poll::Ready(Err("timeout")),
        Poll::Pending if core.proxy.closing.load(Relaxed) => Poll::Ready(Err("draining")),
        Poll::Pending => Poll::Pending,
    });
    let ended = ended.await;
    activity.handshake_ended();
    let (version, result) = match &ended {
        Ok(Shaken::Tls(stream, _)) => (tls::version(stream), "ok"),
        Ok(Shaken::Plain(_)) => (tls::NO_VERSION, "not_tls"),
        Err(word) => (tls::NO_VERSION, *word),
    };
    core.proxy.handshakes.of(core.index).count((version, result));
    ended.ok()
}

/// Whether the first byte is that of a method. TLS begins with 22 (RFC 8446, section 5.1).
async fn speaks_plainly(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let came = stream.peek(&mut first).await?;
    Ok(came > 0 && first.iter().all(u8::is_ascii_uppercase))
}
