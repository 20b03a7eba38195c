//! A request on its way into an HTTP/1 connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::TRANSFER_ENCODING;
use http::{HeaderName, request};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::http1::request as wire;
use crate::proxy::upload::{GivenUp, UploadBody};

/// A piece of a body that is no longer goes out with what stands before it, in one packet and
/// without a second system call.
const SMALL: usize = 4 << 10;

/// Between two requests of a connection the buffer keeps no more than this.
const KEPT: usize = 16 << 10;

/// The bytes of a request that have not been written yet, and where more of them come from.
#[derive(Debug, Default)]
pub struct Sending {
    /// The head, small pieces, and what frames the others.
    out: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    /// A larger piece, which is not copied.
    piece: Bytes,
    /// What comes after it.
    behind: &'static [u8],
    body: Option<UploadBody>,
    chunked: bool,
    trailers: Vec<HeaderName>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Complete,
    /// Nothing has been written yet.
    Fresh,
    UnderWay,
    /// The connection took nothing at all.
    Refused,
    /// The connection took a part.
    Broken,
    /// The request's body ended before its end.
    GivenUp,
}

impl Sending {
    /// Begins with a request.
    pub fn start(&mut self, head: &request::Parts, lines: &[u8], body: UploadBody) {
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.written = 0;
        wire::write_head(&mut self.out, head, lines);
        self.chunked = head.headers.contains_key(TRANSFER_ENCODING);
        self.trailers =
            if self.chunked { wire::announced_trailers(&head.headers) } else { Vec::new() };
        self.body = (!body.is_end_stream()).then_some(body);
        self.state = State::Fresh;
    }

    /// Whether the last byte has been written.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether there is something left to be written, and somebody who takes it.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, State::Fresh | State::UnderWay)
    }

    /// Whether the connection was closed before a byte was written: nobody has read the request.
    pub fn has_failed_at_once(&self) -> bool {
        self.state == State::Refused
    }

    /// Whether the request's body ended before its end: the replica will never have all of it.
    pub fn was_given_up(&self) -> bool {
        self.state == State::GivenUp
    }

    /// Writes what can be written. Ready when nothing more will be, for whatever reason.
    pub fn poll<W: AsyncWrite + Unpin>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_under_way() {
            let filled = self.poll_fill(cx);
            if let Poll::Ready(Err(GivenUp { .. })) = filled {
                self.end(State::GivenUp);
                break;
            }
            match ready!(self.poll_flush(to, cx)) {
                Ok(()) => {}
                Err(_) if self.state == State::Fresh => self.end(State::Refused),
                Err(_) => self.end(State::Broken),
            }
            ready!(filled.map(|_| ()));
            if self.body.is_none() && self.is_empty() {
                self.end(State::Complete);
            }
        }
        Poll::Ready(())
    }

    /// Writes the rest on a task of its own, and holds on to its half of the socket until then, or
    /// until nobody wants it written any more: the replica may never take it.
    pub async fn finish<W: AsyncWrite + Unpin>(mut self, mut to: W) {
        poll_fn(|cx| match (self.poll(&mut to, cx), &self.body) {
            (Poll::Pending, Some(body)) => body.poll_cancelled(cx),
            (polled, _) => polled,
        })
        .await;
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.body = None;
        self.piece = Bytes::new();
    }

    fn is_empty(&self) -> bool {
        self.written == self.out.len() && self.piece.is_empty() && self.behind.is_empty()
    }

    /// Takes the next piece of the body, if there is room for it.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GivenUp>> {
        while self.piece.is_empty() && self.behind.is_empty() && self.out.len() < KEPT {
            let Some(body) = &mut self.body else {
                break;
            };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(frame) => self.put(frame?),
                None => self.put_end(None),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return self.put_end(trailers.into_trailers().ok().as_ref()),
        };
        if data.is_empty() {
            // Written as a chunk it would be the last one.
            return;
        }
        if self.chunked {
            wire::write_chunk_size(&mut self.out, data.len());
        }
        let behind: &[u8] = if self.chunked { b"\r\n" } else { b"" };
        if data.len() <= SMALL {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(behind);
        } else {
            self.piece = data;
            self.behind = behind;
        }
    }

    fn put_end(&mut self, trailers: Option<&http::HeaderMap>) {
        self.body = None;
        match trailers {
            _ if !self.chunked => {}
            Some(trailers) => wire::write_last_chunk(&mut self.out, trailers, &self.trailers),
            None => self.out.extend_from_slice(wire::LAST_CHUNK),
        }
    }

    /// Writes everything that has been taken.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let out = self.out.get(self.written..).unwrap_or_default();
            let to = Pin::new(&mut *to);
            let written = if self.piece.is_empty() && self.behind.is_empty() {
                ready!(to.poll_write(cx, out))?
            } else {
                let pieces = [out, &self.piece, self.behind].map(IoSlice::new);
                ready!(to.poll_write_vectored(cx, &pieces))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.state = State::UnderWay;
            self.advance(written);
        }
        // TLS may have kept some of it; a plain socket never does.
        ready!(Pin::new(&mut *to).poll_flush(cx))?;
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_out = written.min(self.out.len().saturating_sub(self.written));
        self.written = self.written.saturating_add(of_out);
        let written = written.saturating_sub(of_out);
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        let of_behind = written.saturating_sub(of_piece);
        self.behind = self.behind.get(of_behind..).unwrap_or_default();
    }
}
