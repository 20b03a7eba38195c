//! Makes a connection to an endpoint, of the version of HTTP that is spoken there, within the limits of
//! its route.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;

use crate::clock;
use crate::proxy::Core;
use crate::proxy::dial::{self, DialError};
use crate::proxy::http1::OpenConnection;
use crate::proxy::pool::{Connection, STREAMS_PER_CONNECTION, Signals};
use crate::proxy::upload::UploadBody;
use crate::spec::{KeepAlive, Protocol};
use crate::tls::replica::Offer;
use crate::upstream::{Endpoint, Upstream};

/// On which terms a connection is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For how long it is kept.
    pub keep: KeepAlive,
    /// For each step of making it.
    pub limit: Duration,
    /// As many may be open to the endpoint; none for any number.
    pub most: Option<usize>,
    /// Whether it is to change to another protocol.
    pub upgrades: bool,
}

impl Core {
    /// Dials once, on this core, unless the endpoint has as many connections as it may.
    ///
    /// # Errors
    /// If there is no connection in time.
    pub async fn dial_now(
        &self,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        terms: &Terms,
    ) -> Result<Connection, DialError> {
        let protocol = upstream.key.protocol;
        if shares_connections(protocol, endpoint, terms.upgrades) {
            return self.dial_shared(upstream, endpoint, terms).await;
        }
        let limit = terms.limit;
        let by_choice = protocol == Protocol::Https && !terms.upgrades;
        let offer = if by_choice { Offer::Either } else { Offer::Http1 };
        let open = self.reserve(endpoint, terms.most).ok_or(DialError::Full)?;
        let trust = &self.proxy.trust;
        let socket = dial::socket(trust, upstream, endpoint, limit, offer).await?;
        if !socket.chose_http2() {
            let connection = dial::http1(self.index, upstream, endpoint, socket, open);
            return Ok(Connection::Http1(Box::new(connection)));
        }
        endpoint.chooses_http2(true);
        let dial =
            async |signals| dial::http2(upstream, endpoint, limit, socket, signals, open).await;
        self.share(upstream, endpoint, terms, dial).await
    }

    /// The same where HTTP/2 is spoken, as far as is known.
    async fn dial_shared(
        &self,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        terms: &Terms,
    ) -> Result<Connection, DialError> {
        let by_choice = upstream.key.protocol == Protocol::Https;
        let offer = if by_choice { Offer::Either } else { Offer::Http2 };
        let (trust, limit) = (&self.proxy.trust, terms.limit);
        let dial = async |signals| {
            let open = OpenConnection::reserve(endpoint, terms.most).ok_or(DialError::Full)?;
            let socket = dial::socket(trust, upstream, endpoint, limit, offer).await?;
            if by_choice && !socket.chose_http2() {
                endpoint.chooses_http2(false);
                return Err(DialError::OtherVersion);
            }
            dial::http2(upstream, endpoint, limit, socket, signals, open).await
        };
        self.share(upstream, endpoint, terms, dial).await
    }

    /// A stream on a connection of many, dialled if there is none with room.
    async fn share<F>(
        &self,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        terms: &Terms,
        dial: F,
    ) -> Result<Connection, DialError>
    where
        F: AsyncFnOnce(Arc<Signals>) -> Result<SendRequest<UploadBody>, DialError>,
    {
        let Terms { keep, most, .. } = terms;
        let stream = self.pools.open_stream(self.index, endpoint, keep, *most, clock::now());
        let stream = stream.ok_or(DialError::Full)?;
        stream.sender(dial).await?;
        if most.is_some() {
            // There is room for many: those who could not dial meanwhile need not wait.
            upstream.arrivals.notify_waiters();
        }
        Ok(Connection::Http2(stream))
    }

    /// Room for one connection more. One that is idle on another core gives way: a request that must
    /// not be lost needs a connection that is watched here.
    fn reserve(&self, endpoint: &Arc<Endpoint>, most: Option<usize>) -> Option<OpenConnection> {
        OpenConnection::reserve(endpoint, most).or_else(|| {
            self.pools.close_other(self.index, endpoint, clock::now()).then_some(())?;
            OpenConnection::reserve(endpoint, most)
        })
    }
}

/// How many requests a connection takes at once.
pub(super) fn streams(upstream: &Upstream) -> usize {
    let by_choice = || {
        let endpoints = upstream.endpoints();
        upstream.key.protocol == Protocol::Https && endpoints.iter().any(|at| at.chose_http2())
    };
    if upstream.key.protocol.is_http2() || by_choice() { STREAMS_PER_CONNECTION } else { 1 }
}

/// Whether requests share connections to an endpoint: HTTP/2 is spoken there.
pub(super) fn shares_connections(protocol: Protocol, endpoint: &Endpoint, upgrades: bool) -> bool {
    match protocol {
        Protocol::Http => false,
        Protocol::H2c | Protocol::Grpc | Protocol::Grpcs => true,
        Protocol::Https => endpoint.chose_http2() && !upgrades,
    }
}
