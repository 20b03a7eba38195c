//! The static options of an edge, validated.
//!
//! They come from one TOML file, from environment variables and from flags; a flag beats a variable
//! and a variable beats the file. `sources` collects them as written, `options` has the one table
//! that says what each means. This is the only module that reads the environment.

pub mod complaint;
pub mod options;
pub mod sources;

mod defaults;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::progress::Rate;
use crate::routing::host::HostPattern;

pub use self::complaint::{Complaint, ConfigErrors, Origin};
pub use self::sources::{DEFAULT_FILE, Sources};

/// Everything an edge is told when it starts. Every value can be relied on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Threads.
    pub runtime: Runtime,
    /// Where clients connect, ordered by name; never empty, no two with the same address.
    pub listeners: Vec<Listener>,
    /// The role that keeps the listening sockets.
    pub sockets: Sockets,
    /// The role that tells edges what the Swarm runs.
    pub agent: Agent,
    /// Where services and replicas are learned.
    pub provider: Provider,
    /// How `tasks.<service>` is resolved.
    pub dns: Dns,
    /// Certificates.
    pub tls: Tls,
    /// What one client may cost.
    pub limits: Limits,
    /// The port for people and machines that watch.
    pub admin: Admin,
    /// What is kept across restarts.
    pub state: State,
    /// What is written while it runs.
    pub log: Log,
    /// How it stops.
    pub drain: Drain,
}

/// Threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Threads that serve traffic; 0 is one per core.
    pub workers: usize,
}

/// One address on which clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The `<name>` of `[listeners.<name>]`, in lower case.
    pub name: String,
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// Whether routes that name no listener are offered here.
    pub default: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Which versions of HTTP it speaks; at least one.
    pub protocols: Protocols,
    /// Most streams at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Client networks that may connect; empty for all.
    pub allow: Vec<IpNet>,
    /// Whether each connection begins with a PROXY header. Always false in this version.
    pub proxy_protocol: bool,
    /// Proxies whose word on the client's address and scheme is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Path on which a load balancer in front asks whether this edge takes traffic.
    pub health_path: Option<String>,
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2: in clear text by prior knowledge, with TLS by ALPN.
    pub h2: bool,
}

/// The role that keeps the listening sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The unix socket on which they are handed over.
    pub path: PathBuf,
}

/// The role that tells edges what the Swarm runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where it listens for edges.
    pub address: SocketAddr,
    /// The file with the agents' secret.
    pub secret: PathBuf,
}

/// Where an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAddress {
    /// An address and port.
    Address(SocketAddr),
    /// A name and port; each address of the name is one of an agent.
    Name(String, u16),
}

/// Where services and replicas are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// From what.
    pub kind: ProviderKind,
    /// Name of this group of edges; services may ask for one.
    pub instance: Option<String>,
    /// Names of the overlay networks that the edge is attached to; empty to find them out from its
    /// own task.
    pub networks: Vec<String>,
    /// Which stacks may claim which hosts; a host that no pattern covers is open to all.
    pub hosts: BTreeMap<HostPattern, Vec<String>>,
    /// Where agents are, for kind `agent`; not empty.
    pub agents: Vec<AgentAddress>,
    /// The file with the edges' secret, for kind `agent`.
    pub secret: PathBuf,
    /// Docker's socket, for kind `docker` and for the role `agent`.
    pub socket: PathBuf,
    /// The services file, for kind `file`; always there with that kind.
    pub path: Option<PathBuf>,
    /// How often everything is listed anew, besides events.
    pub resync: Duration,
}

/// From what services and replicas are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// From agents, over a private network.
    Agent,
    /// From Docker's socket.
    Docker,
    /// From a file that is written by hand.
    File,
}

impl ProviderKind {
    /// The word for it in options and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Docker => "docker",
            Self::File => "file",
        }
    }
}

/// How `tasks.<service>` is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The server that is asked; none for the system's.
    pub server: Option<SocketAddr>,
    /// For one answer.
    pub timeout: Duration,
    /// Between questions for an upstream with traffic or changes.
    pub interval_active: Duration,
    /// Between questions for any other.
    pub interval_idle: Duration,
}

/// Certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM files and directories of them.
    pub certificates: Vec<PathBuf>,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
    /// PEM file of the authorities of client certificates; without it none can be asked for.
    pub client_ca: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What one client may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head_size: usize,
    /// Header fields of a request.
    pub head_fields: usize,
    /// From the first byte of a connection or request to the end of its head.
    pub head_time: Duration,
    /// For a TLS handshake.
    pub handshake_time: Duration,
    /// TLS handshakes in a second on one core; none for as many as come.
    pub handshakes: Option<u32>,
    /// Without a request on a connection.
    pub keepalive_idle: Duration,
    /// Between signs of life on an HTTP/2 connection.
    pub ping_interval: Duration,
    /// For the answer to one.
    pub ping_timeout: Duration,
    /// Bytes that may be under way to us on one HTTP/2 stream.
    pub stream_window: u32,
    /// The same for the whole connection.
    pub connection_window: u32,
    /// Bytes that are kept for one HTTP/2 stream whose client reads slowly.
    pub send_buffer: usize,
    /// Bytes per second of a body that a client must send, or take; none if it may be slower.
    pub body_rate: Option<u64>,
    /// How long it may be slower at first.
    pub body_grace: Duration,
    /// Client connections at once; none for what the limit of open files allows.
    pub connections: Option<usize>,
    /// Bytes of memory in use; none for the limit of the control group.
    pub memory: Option<u64>,
}

/// The port for people and machines that watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// Networks that it answers besides loopback; empty for all.
    pub networks: Vec<IpNet>,
}

/// What is kept across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The directory it is kept in.
    pub dir: PathBuf,
}

/// What is written while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
    /// Whether each request is written.
    pub access: bool,
}

/// How severe a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// A request or a service lost something.
    Warn,
    /// A change of state.
    Info,
    /// One connection.
    Debug,
    /// One step.
    Trace,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For reading.
    Text,
}

/// How an edge stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it still accepts, so that load balancers in front notice.
    pub delay: Duration,
    /// How long requests under way may take.
    pub timeout: Duration,
}

impl Runtime {
    /// How many threads serve, and how many sockets each listener has.
    pub fn threads(self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

impl Config {
    /// The listeners, and `websecure` beside `web` if nothing else was written and there is a
    /// certificate.
    pub fn listeners(&self, has_certificate: bool) -> Vec<Listener> {
        let mut listeners = self.listeners.clone();
        if has_certificate && listeners == [Listener::new("web")] {
            listeners.push(Listener::new("websecure"));
        }
        listeners
    }
}

impl Limits {
    /// What clients must keep up; none if they may be as slow as they like.
    pub fn least_rate(&self) -> Option<Rate> {
        self.body_rate.map(|bytes_per_second| Rate { bytes_per_second, grace: self.body_grace })
    }
}

#[cfg(test)]
mod tests;
