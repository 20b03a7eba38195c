//! Names to addresses, asked anew each time.
//!
//! Two kinds: Swarm's own server for `tasks.<service>.<network>`, and the system's resolver for
//! names that a person wrote into a file. Nothing is remembered between two questions: Swarm's
//! server gives every answer a lifetime of 600 s, which means nothing. What follows from an answer
//! is decided in `membership`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use crate::membership::{Answer, Silence};

/// Swarm's own server, in every container on an overlay network.
pub const SWARM_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// How long one question may take by default. A name that Swarm does not know gets no answer at all
/// from engines up to 20.10, so this is what it costs.
pub const TIMEOUT: Duration = Duration::from_millis(400);

/// Asks one server, or the system's.
#[derive(Clone)]
pub struct Resolver {
    inner: TokioResolver,
    /// Whether names are complete and have IPv4 addresses only.
    swarm: bool,
    timeout: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("swarm", &self.swarm).finish_non_exhaustive()
    }
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system's resolver cannot be set up; see /etc/resolv.conf, or name a server in `[dns]`"
)]
pub struct ResolverError(#[source] NetError);

impl Resolver {
    /// A resolver that asks this server as Swarm's is asked: complete names, IPv4, UDP and then TCP
    /// if the answer does not fit. Without a server it is the system's: `/etc/hosts`, its servers
    /// and search domains, both families.
    ///
    /// No question takes longer than five quarters of the timeout.
    ///
    /// # Errors
    /// If the system's configuration cannot be read.
    pub fn new(server: Option<SocketAddr>, timeout: Duration) -> Result<Self, ResolverError> {
        let mut builder = match server {
            Some(server) => for_server(server),
            None => TokioResolver::builder_tokio().map_err(ResolverError)?,
        };
        let options = builder.options_mut();
        set(options, timeout);
        if server.is_some() {
            options.use_hosts_file = ResolveHosts::Never;
        } else {
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        }
        let inner = builder.build().map_err(ResolverError)?;
        Ok(Self { inner, swarm: server.is_some(), timeout })
    }

    /// The addresses of a name, sorted; all of them or none.
    pub async fn addresses(&self, name: &str) -> Answer {
        // Plain parsing refuses the `_` in every stack's names.
        let Ok(mut name) = Name::from_str_relaxed(name) else {
            return Answer::Nothing(Silence::InvalidName);
        };
        let question = async {
            if self.swarm {
                name.set_fqdn(true);
                let found = self.inner.lookup(name, RecordType::A).await?;
                Ok(found.answers().iter().filter_map(address).collect())
            } else {
                Ok(self.inner.lookup_ip(name).await?.iter().collect())
            }
        };
        // A second round by TCP has a time limit of its own; this bounds the sum.
        match tokio::time::timeout(self.timeout * 5 / 4, question).await {
            Ok(Ok(addresses)) => answer(addresses),
            Ok(Err(error)) => Answer::Nothing(silence(&error)),
            Err(_) => Answer::Nothing(Silence::Timeout),
        }
    }
}

fn for_server(server: SocketAddr) -> ResolverBuilder<TokioRuntimeProvider> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn set(options: &mut ResolverOpts, timeout: Duration) {
    options.cache_size = 0;
    options.timeout = timeout;
    // Repeats, not tries.
    options.attempts = 0;
}

fn address(record: &Record) -> Option<IpAddr> {
    if let RData::A(address) = &record.data { Some(IpAddr::V4(address.0)) } else { None }
}

fn answer(mut addresses: Vec<IpAddr>) -> Answer {
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        Answer::Nothing(Silence::Empty)
    } else {
        Answer::Addresses(addresses)
    }
}

fn silence(error: &NetError) -> Silence {
    let code = if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
        Some(none.response_code)
    } else {
        None
    };
    if code == Some(ResponseCode::NXDomain) {
        Silence::UnknownName
    } else if code == Some(ResponseCode::NoError) {
        Silence::Empty
    } else if matches!(error, NetError::Dns(_)) {
        Silence::ServerFailure
    } else if matches!(error, NetError::Timeout) {
        Silence::Timeout
    } else if matches!(error, NetError::Truncated) {
        Silence::Truncated
    } else {
        Silence::Unreachable
    }
}

#[cfg(test)]
mod tests;
