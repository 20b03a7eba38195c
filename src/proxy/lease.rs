//! The rest of a response, and the connection that it comes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::clock;
use crate::proxy::body::BodyError;
use crate::proxy::http1::{Http1, Upgraded};
use crate::proxy::pool::{Pools, Stream};
use crate::spec::KeepAlive;

/// A connection that a request holds until its response is through.
#[derive(Debug)]
pub struct Lease {
    source: Source,
    keep: KeepAlive,
    pools: Arc<Pools>,
}

/// What a response comes on.
#[derive(Debug)]
pub enum Source {
    /// The connection is this response's alone.
    Http1(Box<Http1>),
    /// One stream of many; it counts until the body is dropped.
    Http2(Incoming, Arc<Stream>),
}

impl Lease {
    /// Holds a connection.
    pub fn new(source: Source, keep: KeepAlive, pools: &Arc<Pools>) -> Self {
        Self { source, keep, pools: Arc::clone(pools) }
    }

    /// The next part of the body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let incoming = match &mut self.source {
            Source::Http1(connection) => return connection.poll_frame(cx),
            Source::Http2(incoming, _) => incoming,
        };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        if frame.is_none() && !incoming.is_end_stream() {
            // A stream that is reset without an error looks finished.
            return Poll::Ready(Some(Err(BodyError::CutShort)));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Replica)))
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        match &self.source {
            Source::Http1(connection) => connection.is_over(),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    /// How much is to come, as far as is known.
    pub fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(connection) => {
                connection.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Source::Http2(incoming, _) => incoming.size_hint(),
        }
    }

    /// The response is through: the connection takes further requests. A lease that is dropped
    /// instead closes it, or resets the stream.
    pub fn give_back(self) {
        if let Source::Http1(mut connection) = self.source
            && connection.is_reusable()
        {
            self.pools.check_in(connection, &self.keep, clock::now());
        }
    }

    /// The connection behind a 101.
    pub fn into_upgraded(self) -> Option<Upgraded> {
        match self.source {
            Source::Http1(connection) => connection.into_upgraded(),
            Source::Http2(..) => None,
        }
    }
}
