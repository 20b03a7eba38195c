//! What is noted about one request, from its head to its last byte.
//!
//! Everything is settled when the account is dropped, so that a client that hangs up is counted like
//! one that stays.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::Version;

use crate::clock;
use crate::counters::{PerCore, RouteCell};
use crate::grpc::Code;
use crate::proxy::activity::Activity;
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::spec::Protocol;
use crate::timestamp::Timestamp;

/// The client left before its response was through; nginx's word for it, and by now everyone's.
const CLIENT_LEFT: u16 = 499;

/// One request's account.
#[derive(Debug)]
pub struct Account {
    core: usize,
    listener: usize,
    method: &'static str,
    started: Timestamp,
    /// What requests are counted with that no route takes.
    unrouted: Arc<PerCore<RouteCell>>,
    route: Option<Arc<Route>>,
    status: Option<u16>,
    /// Whether it is a gRPC call.
    grpc: bool,
    /// How the call ended.
    code: Option<Code>,
    upload: Option<Upload>,
    received: u64,
    sent: u64,
    over: bool,
    left: bool,
    activity: Arc<Activity>,
}

impl Account {
    /// Opens an account for a request that has just come.
    pub fn open(
        core: usize,
        listener: usize,
        method: &'static str,
        unrouted: &Arc<PerCore<RouteCell>>,
        activity: &Arc<Activity>,
    ) -> Self {
        activity.request_started();
        Self {
            core,
            listener,
            method,
            started: clock::now(),
            unrouted: Arc::clone(unrouted),
            route: None,
            status: None,
            grpc: false,
            code: None,
            upload: None,
            received: 0,
            sent: 0,
            over: false,
            left: false,
            activity: Arc::clone(activity),
        }
    }

    /// It is a gRPC call by its content type.
    pub fn calls_grpc(&mut self) {
        self.grpc = true;
    }

    /// Whether it is a gRPC call: by its content type, or by its route. Clients of HTTP/1 cannot
    /// call: what they ask such a route is something else.
    pub const fn speaks_grpc(&self) -> bool {
        self.grpc
    }

    /// When the request came.
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// A route takes the request. Returns how many of its service are in flight now.
    pub fn routed(&mut self, route: &Arc<Route>, version: Version) -> u64 {
        self.grpc |= route.upstream.key.protocol == Protocol::Grpc && version == Version::HTTP_2;
        let in_flight = route.upstream.in_flight.fetch_add(1, Relaxed).saturating_add(1);
        self.route = Some(Arc::clone(route));
        in_flight
    }

    /// Its body is on its way.
    pub fn uploads(&mut self, upload: &Upload) {
        self.upload = (!upload.is_empty()).then(|| upload.clone());
    }

    /// What went through an upgraded connection, either way.
    pub fn tunnelled(&mut self, received: u64, sent: u64) {
        self.received = received;
        self.sent = sent;
    }

    /// The response's head is on its way.
    pub fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The status of the call is known.
    pub fn call_ended(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// Bytes of the response's body went out.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// The response broke off by the replica's doing: its status stands.
    pub fn broke_off(&mut self) {
        self.over = true;
    }

    /// The client does not take the rest, or has sent only a part: as good as gone.
    pub fn client_left(&mut self) {
        self.left = true;
    }

    /// The last byte went out.
    pub fn finished(&mut self) {
        self.over = true;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let stayed = self.over && !self.left;
        let status = self.status.filter(|_| stayed).unwrap_or(CLIENT_LEFT);
        let counters = match &self.route {
            Some(route) => {
                route.upstream.in_flight.fetch_sub(1, Relaxed);
                &route.counters
            }
            None => &self.unrouted,
        };
        self.activity.request_ended();
        let took = clock::now().since(self.started);
        let received = self.upload.as_ref().map_or(self.received, Upload::received);
        let mut cell = counters.of(self.core);
        cell.requests.count((self.listener, self.method, status));
        if self.grpc {
            let code = if stayed { self.code.unwrap_or(Code::Unknown) } else { Code::Canceled };
            cell.calls.count(code.name());
        }
        cell.duration.observe(took);
        cell.request_bytes = cell.request_bytes.saturating_add(received);
        cell.response_bytes = cell.response_bytes.saturating_add(self.sent);
    }
}
