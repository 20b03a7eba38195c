//! The life of a request: [`Client::serve`] reads top to bottom.

pub mod account;
pub mod activity;
pub mod admission;
pub mod answer;
pub mod body;
pub mod call;
pub mod connect;
pub mod credential;
pub mod dial;
mod entry;
pub mod error;
pub mod exchange;
pub mod failure;
pub mod farewell;
mod greeting;
pub mod headers;
pub mod http1;
pub mod lease;
pub mod making;
pub mod outcome;
mod parting;
mod passage;
pub mod pipe;
mod policy;
pub mod pool;
pub mod relay;
mod rewrite;
pub mod send;
mod session;
pub mod socket;
pub mod streams;
pub mod upgrade;
pub mod upload;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use ipnet::IpNet;

use crate::affinity::Wish;
use crate::counters::{PerCore, RouteCell, Tally};
use crate::deadline::{Deadline, Deadlines};
use crate::grpc;
use crate::memory::{Gauge, Pressure};
use crate::progress::Rate;
use crate::proxy::account::Account;
use crate::proxy::activity::Activity;
use crate::proxy::answer::Asked;
use crate::proxy::body::Body;
use crate::proxy::error::ProxyError;
use crate::proxy::exchange::{Answer, Outgoing};
use crate::proxy::headers::ClientSide;
use crate::proxy::passage::{Passage, Prepared, upload};
use crate::proxy::pool::Pools;
use crate::proxy::relay::Forwarded;
use crate::proxy::streams::Line;
use crate::snapshot::{Route, Snapshot};
use crate::spec::Protocol;
use crate::telemetry::access::{AccessLog, Entry};
use crate::tls::Certificates;
use crate::tls::replica::Trust;

/// Endpoint sets of services that had no request for this long are looked at less often.
pub const IDLE_AFTER: Duration = Duration::from_secs(30);

/// What all cores of an edge share.
#[derive(Debug)]
pub struct Proxy {
    /// What requests are routed by; replaced as a whole.
    pub snapshot: ArcSwap<Snapshot>,
    /// Connections to replicas.
    pub pools: Arc<Pools>,
    /// The listeners, in the order in which routes know them.
    pub listeners: Vec<ListenerPolicy>,
    /// Requests that no route takes.
    pub unrouted: Arc<PerCore<RouteCell>>,
    /// Requests that were refused, by listener and reason.
    pub refused: PerCore<Tally<(usize, &'static str)>>,
    /// TLS handshakes, by version and result.
    pub handshakes: PerCore<Tally<(&'static str, &'static str)>>,
    /// Whether the edge is about to end: it takes requests still, but says that it goes.
    pub draining: AtomicBool,
    /// Whether connections without a request are closed.
    pub closing: AtomicBool,
    /// Where each request is written; empty if they are not.
    pub access_log: OnceLock<AccessLog>,
    /// Whom replicas with TLS are believed to be.
    pub trust: Arc<Trust>,
    /// Whether memory runs short.
    pub memory: Arc<Gauge>,
    /// Makes request ids different from those of other edges.
    id_prefix: u64,
}

/// How a listener treats the requests that come on it.
#[derive(Clone, Debug, Default)]
pub struct ListenerPolicy {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Client networks that may use it; empty for all.
    pub allow: Vec<IpNet>,
    /// Peers whose word about the client is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// A path that the listener answers itself, for a load balancer in front.
    pub health_path: Option<String>,
}

impl Proxy {
    /// A proxy without routes, for that many cores, which believes replicas by these files.
    pub fn new(
        listeners: Vec<ListenerPolicy>,
        cores: usize,
        certificates: &Arc<Certificates>,
    ) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            pools: Arc::new(Pools::new(cores)),
            listeners,
            unrouted: Arc::new(PerCore::new(cores)),
            refused: PerCore::new(cores),
            handshakes: PerCore::new(cores),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            access_log: OnceLock::new(),
            trust: Arc::new(Trust::new(certificates)),
            memory: Arc::default(),
            id_prefix: fastrand::u64(..),
        }
    }
}

/// One core's part of the proxy.
#[derive(Debug)]
pub struct Core {
    /// Which one.
    pub index: usize,
    /// What it shares with the others.
    pub proxy: Arc<Proxy>,
    /// Connections to replicas, of all cores.
    pub pools: Arc<Pools>,
    /// The time limits of what runs here.
    pub deadlines: Arc<Deadlines>,
    requests: AtomicU64,
}

impl Core {
    /// The core of that number, whose clients must keep up that rate.
    pub fn new(index: usize, proxy: &Arc<Proxy>, rate: Option<Rate>) -> Self {
        Self {
            index,
            proxy: Arc::clone(proxy),
            pools: Arc::clone(&proxy.pools),
            deadlines: Arc::new(Deadlines::new(rate)),
            requests: AtomicU64::new(0),
        }
    }

    /// Counts what a listener did not serve, by the word for the reason.
    pub fn count_refused(&self, listener: usize, reason: &'static str) {
        self.proxy.refused.of(self.index).count((listener, reason));
    }

    /// 32 hexadecimal digits: a random half for the edge, then core and count.
    fn request_id(&self) -> HeaderValue {
        let count = self.requests.fetch_add(1, Relaxed) & 0x00ff_ffff_ffff_ffff;
        let low = (self.index as u64) << 56 | count;
        let id = u128::from(self.proxy.id_prefix) << 64 | u128::from(low);
        let mut digits = [b'0'; 32];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            let value = (id >> (4 * place) & 0xf) as u8;
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    /// Where it is served.
    pub core: Arc<Core>,
    /// The listener that accepted it.
    pub listener: usize,
    /// What its requests' fields say about it.
    pub side: ClientSide,
    /// Whether anything is under way on it.
    pub activity: Arc<Activity>,
    /// The time limit of an HTTP/1 connection's one request; requests of HTTP/2 have one each.
    pub deadline: Option<Deadline>,
    /// The requests of an HTTP/2 connection that have not begun.
    pub line: Line,
}

impl Client {
    /// Answers one request. It counts from now on, even if its client has left already: hyper drops
    /// the answer then before it was polled.
    pub fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send {
        let asked = Asked::of(&request);
        let mut account = self.open_account(&request);
        if asked.grpc {
            account.calls_grpc();
        }
        let in_line = self.join_line();
        async move {
            let deadline = self.deadline();
            in_line.turn().await;
            let forwarded = match self.prepare(request, &mut account, &deadline) {
                Ok(Prepared::PassedOn(mut passage)) => {
                    self.pass_on(&mut passage, &mut account, &deadline).await
                }
                Ok(Prepared::Answered(response)) => Ok(Forwarded::Streamed(response)),
                Err(error) => Err(error),
            };
            let (mut response, mut account) = match forwarded {
                Ok(Forwarded::Streamed(response)) => (response, account),
                Ok(Forwarded::Upgraded(response, tunnel)) => {
                    tunnel.start(account, Arc::clone(&self.core.proxy));
                    return response;
                }
                Err(error) => (self.refuse(error, &asked, &mut account), account),
            };
            account.answered(response.status().as_u16());
            if self.is_last_response() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|body| {
                let body = if asked.head_only { body.head_only() } else { body };
                body.accounted(account, deadline, self.deadline.is_some())
            })
        }
    }

    /// Decides what becomes of a request. Not part of the future that passes it on: what this needs for a
    /// moment would be kept, and moved about, for as long as the request lasts.
    fn prepare(
        &self,
        mut request: Request<Incoming>,
        account: &mut Account,
        deadline: &Deadline,
    ) -> Result<Prepared, ProxyError> {
        let upgrade = upgrade::wanted(&mut request);
        let (mut head, incoming) = request.into_parts();
        if let Some(answer) = self.own_answer(&head) {
            return Ok(Prepared::Answered(answer));
        }
        if self.core.proxy.memory.is_at(Pressure::Requests) {
            return Err(ProxyError::OutOfMemory);
        }
        let target = admission::admit(&head)?;
        let (route, prefix) = self.route(&head, &target, account.started())?;
        let version = head.version;
        let in_flight = account.routed(&route, version);
        self.check_policy(&route, &head, in_flight)?;
        let wish = self.wish(&route, &head.headers);
        let is_secure = self.side.is_secure(&head.headers);
        if self.is_redirected(&route, is_secure)? {
            return relay::redirect(&target).map(Prepared::Answered);
        }
        let kind = route.upstream.key.protocol;
        let upgrade = upgrade.filter(|_| matches!(kind, Protocol::Http | Protocol::Https));
        let protocol = upgrade.as_ref().map(|wanted| wanted.protocol.clone());
        let id = self.core.request_id();
        let lines =
            headers::prepare_request(&mut head.headers, &self.side, &target, protocol, id, kind);
        self.side.credential.tell(route.policy(), &mut head.headers);
        account.passed_on(&head.headers);
        head.uri = rewrite::path_for_replica(&route, &target, &prefix, &mut head)?.into();
        let grpc = account.speaks_grpc();
        let upload = upload(&route, &head, grpc, incoming, deadline)?;
        account.uploads(&upload);
        let call = grpc.then(|| self.deadline_of(&head.headers)).flatten();
        let mut outgoing = Outgoing::new(head, upload.clone(), lines, &target, &route, grpc);
        outgoing.wish = Wish { upgrades: upgrade.is_some(), ..wish };
        let passage = Passage { route, outgoing, upload, upgrade, version, is_secure, call };
        Ok(Prepared::PassedOn(passage))
    }

    /// Asks a replica, and makes its answer the client's.
    async fn pass_on(
        &self,
        passage: &mut Passage,
        account: &mut Account,
        deadline: &Deadline,
    ) -> Result<Forwarded, ProxyError> {
        let Passage { route, outgoing, upload, upgrade, version, is_secure, call } = passage;
        let asked = self.ask(route, outgoing, deadline, call.as_ref(), account.entry());
        // What failed is over also for a body that is still on its way.
        let mut answer = asked.await.inspect_err(|_| upload.cancel())?;
        relay::tell_client(route, outgoing.wish, &mut answer, *is_secure);
        let grpc = account.speaks_grpc();
        let call = grpc.then(|| relay::take_call(&mut answer, account, *version, call.take()));
        let (upload, upgrade) = (upload.clone(), upgrade.take());
        relay::respond(route, answer, upload, upgrade, deadline.clone(), call.flatten())
    }

    /// The time that a call's client has set it, as a limit of ours. It passes a tenth of a second or
    /// two later than the client's own: it is there for clients that do not hang up.
    fn deadline_of(&self, headers: &HeaderMap) -> Option<Deadline> {
        let timeout = grpc::timeout(headers)?;
        let deadline = self.core.deadlines.add();
        deadline.set(Some(timeout));
        Some(deadline)
    }

    /// A replica's answer, unless the time of the whole call is up before.
    async fn ask(
        &self,
        route: &Arc<Route>,
        outgoing: &mut Outgoing,
        deadline: &Deadline,
        call: Option<&Deadline>,
        entry: Option<&mut Entry>,
    ) -> Result<Answer, ProxyError> {
        // Pinned once: a future that is handed on is kept twice.
        let mut exchange = pin!(self.core.exchange(route, outgoing, deadline, call, entry));
        match call {
            None => exchange.await,
            Some(call) => {
                let answer = exchange::in_time(exchange.as_mut(), call).await;
                answer.unwrap_or(Err(ProxyError::DeadlineExceeded))
            }
        }
    }

    fn policy(&self) -> Option<&ListenerPolicy> {
        self.core.proxy.listeners.get(self.listener)
    }

    /// The answer to a request that is meant for the listener itself. It needs no `Host`: some load
    /// balancers send none with their checks.
    fn own_answer(&self, head: &request::Parts) -> Option<Response<Body>> {
        let health_path = self.policy()?.health_path.as_deref()?;
        if head.uri.path() != health_path {
            return None;
        }
        Some(if self.core.proxy.draining.load(Relaxed) {
            answer::plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else {
            answer::plain(StatusCode::OK, "ok\n")
        })
    }
}
