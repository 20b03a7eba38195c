//! What a service asks for with its labels, validated.
//!
//! `labels::parse` is the one door in. Every value here can be relied on: no later step checks it
//! again, and defaults are filled in.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::routing::host::{HostName, HostPattern};
use crate::routing::path::{PathPattern, PathPrefix};

/// Name of the route that a service's own labels make, when they make one.
pub const DEFAULT_ROUTE: &str = "default";

/// One way to a service. A service has one for its own labels and one for each `routes.<name>`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// The `<name>` of `hiveway.routes.<name>`, or [`DEFAULT_ROUTE`].
    pub name: String,
    /// Which requests it takes.
    pub matches: Matches,
    /// Listeners that offer it; none for those with `default = true`.
    pub listeners: Option<Vec<String>>,
    /// Only edges of this `[provider] instance` offer it; none for every edge.
    pub instance: Option<String>,
    /// Where requests go.
    pub target: Target,
    /// How they are treated on the way.
    pub policy: Policy,
    /// Share of the traffic beside another service with the same conditions, 0 to 1000; none if it
    /// shares with nobody.
    pub weight: Option<u16>,
}

/// Which requests a route takes: those that meet every condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    /// Any of these hosts; never empty.
    pub hosts: Vec<HostPattern>,
    /// Any of these paths; never empty.
    pub paths: Vec<PathPattern>,
    /// Any of these methods; empty for all.
    pub methods: Vec<Method>,
    /// Each of these headers has this value.
    pub headers: Vec<(HeaderName, String)>,
    /// Each of these query parameters has this value, both percent-decoded.
    pub queries: Vec<(String, String)>,
    /// Orders the routes within one host, highest first.
    pub priority: i32,
}

impl Default for Matches {
    fn default() -> Self {
        Self {
            hosts: vec![HostPattern::Any],
            paths: vec![PathPattern::Prefix(PathPrefix::root())],
            methods: Vec::new(),
            headers: Vec::new(),
            queries: Vec::new(),
            priority: 0,
        }
    }
}

/// Which port of which network a service's replicas are reached on, and how they are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// Port in the container; none for the one that the service publishes.
    pub port: Option<u16>,
    /// Protocol that the replica speaks.
    pub protocol: Protocol,
    /// Whom to expect there; matters only where the protocol has TLS.
    pub tls: UpstreamTls,
    /// Name of the overlay network; none for the only one that edge and service share.
    pub network: Option<String>,
}

/// How a replica is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 in clear text.
    #[default]
    Http,
    /// HTTP/2 in clear text, by prior knowledge (RFC 9113, section 3.3).
    H2c,
    /// The same, and what the proxy says itself it says in gRPC's words.
    Grpc,
    /// HTTP/2 or HTTP/1.1 over TLS, as the replica chooses (ALPN, RFC 7301).
    Https,
    /// gRPC over TLS.
    Grpcs,
}

impl Protocol {
    /// Whether many requests share a connection, whatever the replica says.
    pub const fn is_http2(self) -> bool {
        match self {
            Self::Http | Self::Https => false,
            Self::H2c | Self::Grpc | Self::Grpcs => true,
        }
    }

    /// Whether requests are calls of gRPC.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// Whether connections are encrypted.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// How it is written in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Https => "https",
            Self::Grpcs => "grpcs",
        }
    }
}

/// Whom a replica that speaks TLS must be. Connections are shared only by routes that agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamTls {
    /// Name of the file with the authorities that may vouch for it; none for the bundled ones.
    pub ca: Option<String>,
    /// The name that its certificate must be for, and that it is asked for (SNI).
    pub server_name: Option<HostName>,
    /// Whether its certificate is looked at. If not, anybody may pose as the replica.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { ca: None, server_name: None, verify: true }
    }
}

/// How a route's requests are treated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Client networks that may use the route; empty for all.
    pub allow: Vec<IpNet>,
    /// What is removed from the path before it is forwarded.
    pub strip_prefix: StripPrefix,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Whether plain requests are sent to https with 308.
    pub https_redirect: bool,
    /// The value of `Strict-Transport-Security` (RFC 6797) on responses by TLS; none without it.
    pub hsts: Option<HeaderValue>,
    /// How a replica is chosen.
    pub balance: Balance,
    /// Name of the cookie by which a client stays with its replica; none for no sessions.
    pub sticky: Option<String>,
    /// Over how long a new replica's share grows to that of the others; zero for at once.
    pub slow_start: Duration,
    /// When a request may go again.
    pub retry: Retry,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long connections to replicas are kept.
    pub keepalive: KeepAlive,
    /// How much is let through.
    pub limits: Limits,
    /// When a replica that fails is left out.
    pub eject: Eject,
    /// How replicas are asked whether they are well.
    pub check: Check,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; who has none is served all the same.
    Optional,
    /// Who has none is refused.
    Required,
}

/// What `strip-prefix` removes; the removed part goes to `X-Forwarded-Prefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StripPrefix {
    /// Nothing.
    #[default]
    Off,
    /// The prefix by which the route was chosen.
    Matched,
    /// This prefix, where the path has it.
    Prefix(PathPrefix),
}

/// How a replica is chosen among those that take requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one with fewer requests in flight, of two drawn at random.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The one that is likely to answer sooner, of two drawn at random.
    Ewma,
    /// The same one for the same key, as long as it has not much more to do than the others. What
    /// has no key is balanced by [`Self::LeastRequest`].
    Hash(HashBy),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's own address, as trusted proxies tell it.
    ClientIp,
    /// The value of a field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
}

/// When a request may be sent again, to a replica that has not been tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further tries, 0 to 5. Tries of which no byte was sent are not counted.
    pub attempts: u8,
    /// What is retried beyond what provably never ran.
    pub on: Vec<RetryOn>,
    /// Retries as a share of the service's requests, in percent; ten a second are always allowed.
    pub budget_percent: u8,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, on: vec![RetryOn::Reset], budget_percent: 20 }
    }
}

/// A failure after which an idempotent request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// The connection broke before the response head.
    Reset,
    /// The replica answered 502.
    BadGateway,
    /// The replica answered 503.
    Unavailable,
    /// The replica answered 504.
    GatewayTimeout,
    /// The response head did not come in time.
    Timeout,
}

/// How long each step may take; none is without limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one replica.
    pub connect: Duration,
    /// From the last byte of the request to the response head.
    pub response_header: Option<Duration>,
    /// Without a byte in either direction.
    pub stream_idle: Duration,
    /// Without a byte in either direction once the connection was upgraded.
    pub upgrade_idle: Duration,
    /// For a replica to be there.
    pub queue: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response_header: Some(Duration::from_mins(1)),
            stream_idle: Duration::from_mins(5),
            upgrade_idle: Duration::from_hours(1),
            queue: Duration::from_secs(15),
        }
    }
}

/// How long a connection to a replica is kept for further requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// Unused; none for the protocol's default: 1.5 s for HTTP/1, which is below what servers close
    /// at (gunicorn 2 s, Node 5 s), and 5 min for HTTP/2.
    pub idle: Option<Duration>,
    /// After this many requests; none for no limit.
    pub requests: Option<u64>,
    /// After this time; none for no limit.
    pub age: Option<Duration>,
}

/// How much of a route's traffic one edge lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body; more is answered with 413.
    pub body: Option<u64>,
    /// Requests in flight; more are answered with 503.
    pub inflight: Option<u64>,
    /// Requests waiting for a replica; more are answered with 503.
    pub queue: u64,
    /// Connections to one replica, of all cores together; further requests wait.
    pub connections: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: None, inflight: None, queue: 10_000, connections: None }
    }
}

/// When a replica that answers with failures is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// After this many failures in a row, at least 1.
    pub consecutive: u32,
    /// The first time; each further ejection in a row lasts as much longer.
    pub base: Duration,
    /// At most.
    pub max: Duration,
    /// At most this share of the replicas, in percent; one of two always, the last never.
    pub max_percent: u8,
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            consecutive: 5,
            base: Duration::from_secs(10),
            max: Duration::from_mins(5),
            max_percent: 50,
        }
    }
}

/// How a replica is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is asked.
    pub question: Question,
    /// Between two checks, give or take a fifth.
    pub interval: Duration,
    /// For the answer.
    pub timeout: Duration,
    /// So many successes in a row make an unhealthy replica healthy, at least 1. A new one needs one.
    pub rise: u32,
    /// So many failures in a row make it unhealthy, at least 1.
    pub fall: u32,
    /// Answers to a path that count as success.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// `Host` of the request; none for the replica's address.
    pub host: Option<HostName>,
    /// Another port than the one that requests go to.
    pub port: Option<u16>,
    /// What a gRPC check asks for; none for the server as a whole.
    pub grpc_service: Option<String>,
}

/// What a check asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Question {
    /// Nothing: there is no check.
    #[default]
    None,
    /// Nothing but a connection.
    Connect,
    /// GET of this path, in the protocol of the route.
    Path(PathAndQuery),
    /// gRPC's own health service (`grpc.health.v1`).
    Grpc,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            question: Question::None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            statuses: vec![200..=399],
            host: None,
            port: None,
            grpc_service: None,
        }
    }
}
