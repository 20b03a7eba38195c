//! What is known of a request when it is passed on: its route, and what goes to a replica.

use std::sync::Arc;

use http::{Response, Version, request};
use hyper::body::Incoming;

use crate::deadline::Deadline;
use crate::proxy::admission::Target;
use crate::proxy::body::Body;
use crate::proxy::error::ProxyError;
use crate::proxy::exchange::{self, Outgoing};
use crate::proxy::upgrade::Wanted;
use crate::proxy::upload::Upload;
use crate::proxy::{Client, IDLE_AFTER, session};
use crate::routing::{Head, path};
use crate::snapshot::Route;
use crate::spec::{Protocol, StripPrefix};
use crate::timestamp::Timestamp;

/// What becomes of a request that has been read.
#[derive(Debug)]
pub(super) enum Prepared {
    /// We answer it ourselves.
    Answered(Response<Body>),
    /// A replica is asked.
    PassedOn(Passage),
}

/// A request on its way to a replica.
#[derive(Debug)]
pub(super) struct Passage {
    /// The route that takes it.
    pub route: Arc<Route>,
    /// What the replica gets.
    pub outgoing: Outgoing,
    /// Its body.
    pub upload: Upload,
    /// The protocol that it wants to change to.
    pub upgrade: Option<Wanted>,
    /// As its client speaks.
    pub version: Version,
    /// Whether it came by TLS, here or before.
    pub is_secure: bool,
    /// The time that the client of a call has set.
    pub call: Option<Deadline>,
}

impl Client {
    /// The route for a request, and the part of its path that chose it.
    pub(super) fn route(
        &self,
        head: &request::Parts,
        target: &Target,
        now: Timestamp,
    ) -> Result<(Arc<Route>, String), ProxyError> {
        let snapshot = self.core.proxy.snapshot.load();
        let path = path::without_parameters(target.path_and_query.path());
        let head = Head {
            host: target.host.as_str(),
            path: &path,
            query: target.path_and_query.query(),
            method: &head.method,
            headers: &head.headers,
        };
        let found = snapshot.find(self.listener, &head).ok_or(ProxyError::NoRoute)?;
        let is_held = |route: &Route| session::is_held(route, head.headers);
        let route = found.value.choose(is_held, |total| fastrand::u64(..total));
        let route = route.ok_or(ProxyError::NoRoute)?;
        if route.upstream.requested(now, IDLE_AFTER) {
            // Nobody has asked for a while: what is known about its replicas may be old.
            route.upstream.doubts.notify_one();
        }
        // Allocates for nobody but routes that strip their prefix.
        let strips = route.policy().strip_prefix == StripPrefix::Matched;
        Ok((Arc::clone(route), if strips { found.prefix.to_owned() } else { String::new() }))
    }
}

/// The request's body, kept for as long as another try may need it.
pub(super) fn upload(
    route: &Route,
    head: &request::Parts,
    grpc: bool,
    incoming: Incoming,
    deadline: &Deadline,
) -> Result<Upload, ProxyError> {
    let policy = route.policy();
    let replayable = route.upstream.key.protocol != Protocol::Http
        || exchange::is_repeatable(&head.method, route, grpc);
    // The messages of a call come when there are any: it has no pace.
    Upload::new(incoming, replayable, !grpc, policy.limits.body, deadline, &policy.timeouts)
}
