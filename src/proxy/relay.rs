//! From a replica's response to the client's: a stream, a gRPC call, or a tunnel.

use std::sync::Arc;
use std::time::Duration;

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{Response, StatusCode, Version};

use crate::affinity::Wish;
use crate::deadline::Deadline;
use crate::grpc::Code;
use crate::proxy::Proxy;
use crate::proxy::account::Account;
use crate::proxy::admission::Target;
use crate::proxy::answer;
use crate::proxy::body::{Body, Streamed};
use crate::proxy::call::{self, Call};
use crate::proxy::error::ProxyError;
use crate::proxy::exchange::Answer;
use crate::proxy::headers;
use crate::proxy::http1::Upgraded;
use crate::proxy::session;
use crate::proxy::upgrade::{self, Wanted};
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::upstream::InFlight;

/// What becomes of a request.
#[derive(Debug)]
pub enum Forwarded {
    /// A response.
    Streamed(Response<Body>),
    /// A 101, and what begins after it.
    Upgraded(Response<Body>, Box<Tunnel>),
}

/// Two connections that become one, as soon as the client has its 101.
#[derive(Debug)]
pub struct Tunnel {
    wanted: Wanted,
    replica: Upgraded,
    in_flight: InFlight,
    deadline: Deadline,
    idle: Duration,
}

impl Tunnel {
    /// Joins them; the account is settled at the end.
    pub fn start(self, mut account: Account, proxy: Arc<Proxy>) {
        account.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        let Self { wanted, replica, in_flight, deadline, idle } = self;
        tokio::spawn(async move {
            upgrade::join(wanted, replica, account, deadline, idle, &proxy).await;
            drop(in_flight);
        });
    }
}

/// The call that a response answers; none if the response is not gRPC's. A client reads the status
/// of such a one itself, and so do we.
pub fn take_call(
    answer: &mut Answer,
    account: &mut Account,
    client: Version,
    deadline: Option<Deadline>,
) -> Option<Box<Call>> {
    let Answer { head, lease, outcome, .. } = answer;
    if !call::is_answer(&head.headers) {
        account.call_ended(Code::of_http(head.status));
        return None;
    }
    let ended = lease.is_over();
    Some(Box::new(Call::answered(&mut head.headers, ended, client, deadline, outcome.take())))
}

/// The answer to a plain request for a route that is served by TLS alone.
///
/// # Errors
/// If the target cannot be written as a URL.
pub fn redirect(target: &Target) -> Result<Response<Body>, ProxyError> {
    answer::redirect_to_https(target.host.as_str(), target.path_and_query.as_str())
        .ok_or(ProxyError::BadTarget)
}

/// Adds what we say to the client ourselves: that the host is served by TLS alone, and which replica
/// its session is on.
pub fn tell_client(route: &Route, wish: Wish, answer: &mut Answer, is_secure: bool) {
    let Answer { head, in_flight, .. } = answer;
    if is_secure && let Some(hsts) = &route.policy().hsts {
        head.headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    session::tie(route, wish, in_flight.endpoint(), &mut head.headers, is_secure);
}

/// The replica's response as the client gets it.
///
/// # Errors
/// If the replica changes to a protocol that the client did not ask for.
pub fn respond(
    route: &Route,
    answer: Answer,
    upload: Upload,
    upgrade: Option<Wanted>,
    deadline: Deadline,
    call: Option<Box<Call>>,
) -> Result<Forwarded, ProxyError> {
    let timeouts = &route.policy().timeouts;
    let Answer { mut head, lease, in_flight, .. } = answer;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let wanted = upgrade.ok_or(ProxyError::BadResponse)?;
        let mut response = Response::new(Body::own(bytes::Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = head.headers;
        let replica = lease.into_upgraded().ok_or(ProxyError::BadResponse)?;
        let idle = timeouts.upgrade_idle;
        let tunnel = Tunnel { wanted, replica, in_flight, deadline, idle };
        return Ok(Forwarded::Upgraded(response, Box::new(tunnel)));
    }
    headers::strip_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    let (lease, idle) = (Some(lease), timeouts.stream_idle);
    let streamed = Streamed { lease, upload, in_flight, deadline, idle, call };
    Ok(Forwarded::Streamed(Response::from_parts(head, Body::streamed(streamed))))
}
