//! What holds where nothing is written.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{
    Admin, Agent, AgentAddress, Config, Dns, Drain, Limits, Listener, Log, LogFormat, LogLevel,
    Protocols, Provider, ProviderKind, Runtime, Sockets, State, Tls, TlsVersion,
};

impl Listener {
    /// A listener of which only the name is known. `websecure` speaks TLS on 443, all others clear
    /// text on 80.
    pub(super) fn new(name: &str) -> Self {
        let tls = name == "websecure";
        let port = if tls { 443 } else { 80 };
        Self {
            name: name.to_owned(),
            address: everywhere(port),
            default: true,
            tls,
            protocols: Protocols { http1: true, h2: true },
            max_streams: 1000,
            allow: Vec::new(),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            health_path: None,
        }
    }
}

impl Config {
    /// What holds where nothing is written, still without a listener.
    pub(super) fn unwritten() -> Self {
        let seconds = Duration::from_secs;
        Self {
            runtime: Runtime { workers: 0 },
            listeners: Vec::new(),
            sockets: Sockets { path: "/run/hiveway/sockets.sock".into() },
            agent: Agent { address: everywhere(9401), secret: "/run/secrets/hiveway-agent".into() },
            provider: Provider::unwritten(),
            dns: Dns {
                server: None,
                timeout: Duration::from_millis(400),
                interval_active: Duration::from_millis(500),
                interval_idle: seconds(5),
            },
            tls: Tls {
                certificates: vec!["/run/secrets".into()],
                min_version: TlsVersion::V1_2,
                client_ca: None,
            },
            limits: Limits::unwritten(),
            admin: Admin { address: everywhere(9400), networks: Vec::new() },
            state: State { dir: "/var/lib/hiveway".into() },
            log: Log { level: LogLevel::Info, format: LogFormat::Json, access: true },
            drain: Drain { delay: seconds(2), timeout: seconds(30) },
        }
    }
}

impl Provider {
    fn unwritten() -> Self {
        Self {
            kind: ProviderKind::Agent,
            instance: None,
            networks: Vec::new(),
            hosts: BTreeMap::new(),
            agents: vec![AgentAddress::Name("tasks.agent".to_owned(), 9401)],
            secret: "/run/secrets/hiveway-edge".into(),
            socket: "/var/run/docker.sock".into(),
            path: None,
            resync: Duration::from_secs(10),
        }
    }
}

impl Limits {
    fn unwritten() -> Self {
        let seconds = Duration::from_secs;
        Self {
            head_size: 32 << 10,
            head_fields: 100,
            head_time: seconds(10),
            handshake_time: seconds(10),
            handshakes: None,
            keepalive_idle: seconds(60),
            ping_interval: seconds(20),
            ping_timeout: seconds(20),
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            send_buffer: 32 << 10,
            body_rate: Some(1 << 10),
            body_grace: seconds(20),
            connections: None,
            memory: None,
        }
    }
}

/// Every address of both families.
fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}
