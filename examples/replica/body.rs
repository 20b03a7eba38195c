//! The body of an answer: at hand, made piece by piece, or the request's own sent back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::server::UnderWay;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// All at once.
    Whole(Option<Bytes>),
    /// Bytes and then trailers.
    WithTrailers(Option<Bytes>, Option<HeaderMap>),
    /// So many bytes, at most `chunk` at a time, with a pause before each piece but the first.
    Pieces { left: u64, chunk: usize, every: Duration, due: Pin<Box<Sleep>> },
    /// The request's body, as it comes, and then trailers if there are any.
    Echo(Incoming, Option<HeaderMap>),
    /// Nothing for a moment, in which the head goes out; then it breaks off.
    Broken(Pin<Box<Sleep>>),
}

impl Source {
    /// `n` bytes in pieces of `chunk`, one `every` so often.
    pub(crate) fn pieces(n: u64, chunk: usize, every: Duration) -> Self {
        let due = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self::Pieces { left: n, chunk: chunk.max(1), every, due }
    }

    /// The request's body; that of a gRPC call ends with the status OK.
    pub(crate) fn echo(body: Incoming, is_call: bool) -> Self {
        let ok = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
        Self::Echo(body, is_call.then(|| ok.into_iter().collect()))
    }

    /// A body that is announced, and breaks off before its first byte.
    pub(crate) fn broken() -> Self {
        Self::Broken(Box::pin(tokio::time::sleep(Duration::from_millis(1))))
    }

    /// A line of text, then the trailer `x-checksum: 42`.
    pub(crate) fn with_trailers(text: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(HeaderName::from_static("x-checksum"), HeaderValue::from_static("42"));
        Self::WithTrailers(Some(Bytes::from_static(text.as_bytes())), Some(trailers))
    }
}

/// A body that keeps its request counted until the last byte or the client's hang-up.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    pub(crate) source: Source,
    pub(crate) under_way: Option<UnderWay>,
}

impl<T: Into<Bytes>> From<T> for AnswerBody {
    fn from(text: T) -> Self {
        let bytes: Bytes = text.into();
        Self { source: Source::Whole((!bytes.is_empty()).then_some(bytes)), under_way: None }
    }
}

impl From<Source> for AnswerBody {
    fn from(source: Source) -> Self {
        Self { source, under_way: None }
    }
}

type Piece = Option<io::Result<Frame<Bytes>>>;

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        match &mut self.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::WithTrailers(bytes, trailers) => Poll::Ready(match bytes.take() {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Source::Pieces { left: 0, .. } => Poll::Ready(None),
            Source::Pieces { left, chunk, every, due } => {
                std::task::ready!(due.as_mut().poll(cx));
                due.as_mut().reset(Instant::now() + *every);
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(*chunk);
                *left = left.saturating_sub(length as u64);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; length])))))
            }
            Source::Echo(body, trailers) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                let frame = frame.map(|piece| piece.map_err(io::Error::other));
                Poll::Ready(frame.or_else(|| trailers.take().map(|it| Ok(Frame::trailers(it)))))
            }
            Source::Broken(head_is_out) => {
                std::task::ready!(head_is_out.as_mut().poll(cx));
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::WithTrailers(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Source::Pieces { left, .. } => *left == 0,
            Source::Echo(body, trailers) => body.is_end_stream() && trailers.is_none(),
            Source::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::WithTrailers(..) | Source::Echo(_, Some(_)) => SizeHint::default(),
            Source::Pieces { left, .. } => SizeHint::with_exact(*left),
            Source::Echo(body, None) => body.size_hint(),
            Source::Broken(_) => SizeHint::with_exact(1024),
        }
    }
}
