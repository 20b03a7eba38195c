//! What is noted about one request, from its head to its last byte.
//!
//! Everything is settled when the account is dropped, so that a client that hangs up is counted like
//! one that stays.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, Version};

use crate::access_line::Outcome;
use crate::clock;
use crate::counters::{PerCore, RouteCell};
use crate::grpc::Code;
use crate::proxy::activity::{Activity, Manner};
use crate::proxy::headers;
use crate::proxy::outcome;
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::telemetry::access::Entry;
use crate::timestamp::Timestamp;
use crate::upstream::Endpoint;

/// The client left before its response was through; nginx's word for it, and by now everyone's.
const CLIENT_LEFT: u16 = 499;

/// Clients that cancel long polls wait longer before they do; attackers do not.
const EARLY: Duration = Duration::from_secs(1);

/// How a request has ended, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Over,
    /// The client has left, though there may be an answer.
    Left,
}

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
    /// Whether a body was announced.
    has_body: bool,
    received: u64,
    sent: u64,
    end: End,
    activity: Arc<Activity>,
    /// Its line in the access log, if there is one.
    entry: Option<Entry>,
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
            has_body: false,
            received: 0,
            sent: 0,
            end: End::Open,
            activity: Arc::clone(activity),
            entry: None,
        }
    }

    /// A body is to follow the head.
    pub fn has_body(&mut self) {
        self.has_body = true;
    }

    /// When the request came.
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// It has a line in the access log.
    pub fn log_to(&mut self, entry: Entry) {
        self.entry = Some(entry);
    }

    /// We answer it ourselves, for that reason.
    pub fn refused(&mut self, reason: &'static str) {
        if let Some(entry) = &mut self.entry {
            entry.refused(reason);
        }
    }

    /// It goes to replicas with these fields.
    pub fn passed_on(&mut self, fields: &HeaderMap) {
        if let Some(entry) = &mut self.entry {
            entry.identify(headers::request_id(fields));
        }
    }

    /// Its line in the access log, if there is one.
    pub const fn entry(&mut self) -> Option<&mut Entry> {
        self.entry.as_mut()
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

    /// A route takes the request. Returns how many of its service are in flight now.
    pub fn routed(&mut self, route: &Arc<Route>, version: Version) -> u64 {
        self.grpc |= route.upstream.key.protocol.is_grpc() && version == Version::HTTP_2;
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
        self.activity.data_sent(bytes);
    }

    /// The response broke off: its status stands. It counts against a replica whose doing that was.
    pub fn broke_off(&mut self, by: Option<&Endpoint>) {
        self.end();
        if let (Some(endpoint), Some(route)) = (by, &self.route) {
            outcome::note_cut(self.core, route, endpoint, self.started);
        }
    }

    /// The last byte of that replica's response has come.
    pub fn came_whole(&self, from: &Endpoint) {
        if let Some(route) = &self.route {
            outcome::note_whole(route, from, self.started);
        }
    }

    fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Over;
        }
    }

    /// The last byte went out.
    pub fn finished(&mut self) {
        self.end();
    }

    /// The client has left in the middle of its request, or does not take the rest of the response,
    /// which is as good. What it is answered all the same, it may never see: that does not count.
    pub fn left(&mut self) {
        self.end = End::Left;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let over = self.end == End::Over;
        let status = self.status.filter(|_| over).unwrap_or(CLIENT_LEFT);
        let sent = if self.end == End::Left { 0 } else { self.sent };
        let counters = match &self.route {
            Some(route) => {
                route.upstream.request_ended();
                &route.counters
            }
            None => &self.unrouted,
        };
        let unread = self.upload.as_ref().map_or(self.has_body, |upload| !upload.is_complete());
        let now = clock::now();
        let took = now.since(self.started);
        let given_up = self.status.is_none() && took < EARLY;
        self.activity.request_ended(Manner { unread, given_up });
        let received = self.upload.as_ref().map_or(self.received, Upload::received);
        let mut cell = counters.of(self.core);
        cell.requests.count((self.listener, self.method, status));
        let ended = if over { self.code.unwrap_or(Code::Unknown) } else { Code::Canceled };
        let grpc_code = self.grpc.then(|| ended.name());
        if let Some(code) = grpc_code {
            cell.calls.count(code);
        }
        cell.duration.observe(took);
        cell.request_bytes = cell.request_bytes.saturating_add(received);
        cell.response_bytes = cell.response_bytes.saturating_add(sent);
        drop(cell);
        if let Some(entry) = self.entry.take() {
            let route = self.route.as_deref();
            let outcome = Outcome {
                status,
                route: route.map(|route| (&*route.name, &*route.upstream.service)),
                duration: took,
                request_bytes: received,
                response_bytes: sent,
                grpc_code,
                ..Outcome::default()
            };
            entry.settle(outcome, now);
        }
    }
}
