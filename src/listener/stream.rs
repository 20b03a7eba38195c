//! What HTTP/1 is served on, in clear text or not: it notices the first bytes of a head and a client
//! who takes no more, and it is closed so that the client can read its last answer.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::deadline::Deadline;
use crate::proxy::activity::Activity;
use crate::tls::TlsStream;

/// A client that is still sending has that long to read its last answer. Were the socket closed at
/// once, the kernel would answer what it sends with a reset, which takes the answer away from it.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// As many bytes are read meanwhile and thrown away; the rest has to wait at the client.
const MOST_DISCARDED: usize = 1 << 20;

/// Bytes that are thrown away at once.
const DISCARDED_AT_ONCE: usize = 8 << 10;

/// Pieces that are no longer than this together are written as one.
const SHORT: usize = 2 << 10;

/// The pieces in one, if they are short.
fn join<'j>(pieces: &[io::IoSlice<'_>], into: &'j mut [u8; SHORT]) -> Option<&'j [u8]> {
    let mut end = 0_usize;
    for piece in pieces {
        let next = end.checked_add(piece.len())?;
        into.get_mut(end..next)?.copy_from_slice(piece);
        end = next;
    }
    into.get(..end)
}

/// What HTTP is spoken on: a socket, or TLS on one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket.
    fn socket(&mut self) -> &mut TcpStream;
}

impl Stream for TcpStream {
    fn socket(&mut self) -> &mut TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

/// A stream of HTTP/1.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Of the connection's one request; none before there can be one.
    deadline: Option<Deadline>,
    /// Something was written that may not be on its way yet.
    writing: bool,
    closing: Closing,
}

/// How far a stream is with its end.
#[derive(Clone, Copy)]
enum Closing {
    /// It is in use.
    No,
    /// What was written goes out first.
    Finishing,
    /// Nothing more is written; so many bytes may still be read.
    Discarding(usize),
}

impl<S: Stream> Watched<S> {
    /// Tells that activity when bytes come, and that limit how the client takes what is written.
    pub(super) fn new(stream: S, activity: Arc<Activity>, deadline: Option<Deadline>) -> Self {
        Self { stream, activity, deadline, writing: false, closing: Closing::No }
    }

    /// Whether part of an answer may not have been written yet: nothing else may be written then.
    pub(super) fn is_writing(&self) -> bool {
        self.writing
    }

    /// What the stream tells.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Tells how much the client has room for.
    fn noted(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&wrote, &self.deadline) {
            (Poll::Ready(Ok(bytes)), Some(deadline)) => deadline.moved(*bytes),
            (Poll::Pending, Some(deadline)) => deadline.filled(),
            (Poll::Ready(_), _) | (_, None) => {}
        }
        wrote
    }

    /// Throws away what comes until the client has closed its side too, or the time is up.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [MaybeUninit::uninit(); DISCARDED_AT_ONCE];
        while let Closing::Discarding(left @ 1..) = self.closing {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(self.stream.socket()).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let left = left.saturating_sub(buffer.filled().len());
                    self.closing = Closing::Discarding(left);
                }
                Poll::Pending if left < MOST_DISCARDED || self.activity.may_send_more() => break,
                // It has closed its side, or has sent nothing but what was read.
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
        self.activity.poll_expired(cx).map(Ok)
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        polled
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writing = true;
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing = true;
        // The kernel takes one piece with less ado than two: 0.3 us for a head and a short body.
        let mut joined = [0; SHORT];
        let wrote = match join(pieces, &mut joined) {
            Some(joined) => Pin::new(&mut self.stream).poll_write(cx, joined),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        };
        self.noted(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS keeps some of what it takes until there is room.
        let flushed = ready!(self.noted(flushed.map_ok(|()| 0)));
        self.writing = false;
        if self.deadline.as_ref().is_some_and(Deadline::emptied) {
            // hyper has asked the body for more already in this turn, in vain.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(flushed.map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if !me.activity.is_idle() {
            // Upgraded: what the other side has yet to say goes on.
            return Pin::new(&mut me.stream).poll_shutdown(cx);
        }
        if matches!(me.closing, Closing::No) {
            me.activity.closes(LINGER);
            me.closing = Closing::Finishing;
        }
        if matches!(me.closing, Closing::Finishing) {
            if ready!(Pin::new(&mut me.stream).poll_shutdown(cx)).is_err() {
                // The client has gone. hyper would tell this instead of what went wrong before.
                return Poll::Ready(Ok(()));
            }
            if !me.activity.has_room() {
                return Poll::Ready(Ok(()));
            }
            me.closing = Closing::Discarding(MOST_DISCARDED);
        }
        me.poll_discard(cx)
    }
}
