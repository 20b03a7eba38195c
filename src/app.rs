//! A whole process: an edge with provider, data path and control side, until it is told to stop; or,
//! in `agent`, an agent.

mod agent;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::admin::{self, Admin};
use crate::config::{Config, ProviderKind};
use crate::dns::Resolver;
use crate::docker::Engine;
use crate::edge::{RunningEdge, StartError};
use crate::identity::EdgeKeys;
use crate::metrics;
use crate::provider::docker::Pace;
use crate::provider::{self, Provider};
use crate::services_file;
use crate::supervisor::Parent;

pub use self::agent::run_agent;

/// Where a process finds its host name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Runs an edge until SIGTERM or Ctrl-C, and drains it. With a parent it goes on where the child before
/// it died.
///
/// # Errors
/// If it cannot start.
pub async fn run_edge(config: &Config, mut parent: Option<Parent>) -> Result<(), StartError> {
    // What was saved a moment ago is no older than what an engine would say now.
    let died = parent.as_ref().is_some_and(|parent| !parent.is_first());
    let patience = if died { Duration::ZERO } else { provider::saved::PATIENCE };
    let (provider, following) = follow(config, patience)?;
    let kept = parent.as_mut().map(Parent::take_sockets).unwrap_or_default();
    let mut edge = RunningEdge::start_with(config, provider.clone(), kept)?;
    if config.log.access {
        edge.log_requests(config.log.format, std::io::stdout())?;
    }
    let following = tokio::spawn(following);
    let serving = tokio::spawn(serve_admin(config, provider, &edge)?);
    if let Some(parent) = parent {
        parent.keep(&edge.take_own_sockets());
    }
    edge.run(config.drain, stop_signal()).await;
    following.abort();
    serving.abort();
    Ok(())
}

/// Binds a port that is no listener of routes.
fn bind(listener: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Bind { listener: listener.to_owned(), address, source };
    let socket = TcpListener::bind(address).map_err(failed)?;
    // With port 0 only the log tells where it is.
    let address = socket.local_addr().map_err(failed)?;
    info!(listener, %address, "listening");
    Ok(socket)
}

/// The admin port, bound, and what serves it.
fn serve_admin(
    config: &Config,
    provider: Provider,
    edge: &RunningEdge,
) -> Result<impl Future<Output = ()> + use<>, StartError> {
    let socket = bind("admin", config.admin.address)?;
    let sources = Arc::new(metrics::Sources {
        proxy: Arc::clone(&edge.proxy),
        connections: edge.listeners.iter().map(|at| Arc::clone(&at.connections)).collect(),
        certificates: Arc::clone(&edge.certificates),
        provider,
        provider_kind: config.provider.kind.word(),
        swaps: Arc::clone(&edge.swaps),
    });
    let defaults = edge.listeners.iter().filter(|listener| listener.default);
    let options = admin::Options {
        networks: config.admin.networks.clone(),
        hostname: hostname(),
        default_listeners: defaults.map(|listener| listener.name.clone()).collect(),
    };
    let readiness = edge.readiness();
    let admin = Admin::new(sources, options, move || readiness.obstacle())?;
    Ok(async move {
        if let Err(error) = admin::serve(socket, admin).await {
            error!(%error, "the admin port cannot be served");
        }
    })
}

/// Docker makes a container's id its host name.
fn hostname() -> String {
    std::fs::read_to_string(HOSTNAME).unwrap_or_default().trim().to_owned()
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The provider that the options name, and what drives it. If it is silent for so long, what was saved
/// stands in for it.
fn follow(config: &Config, patience: Duration) -> Result<(Provider, Driver), StartError> {
    match (config.provider.kind, &config.provider.path) {
        (ProviderKind::File, Some(path)) => {
            let name = path.display().to_string();
            let read = move |text: &str| read_services(text, &name);
            let (provider, following) =
                provider::file::follow(Path::new(path), provider::file::POLL, read);
            Ok((provider, Box::pin(following)))
        }
        (ProviderKind::Agent, _) => {
            let (live, following) = provider::agent::follow(provider::agent::Options {
                agents: config.provider.agents.clone(),
                keys: EdgeKeys::read(&config.provider.secret).map_err(StartError::EdgeKeys)?,
                resolver: Resolver::new(config.dns.server, config.dns.timeout)?,
                hostname: hostname(),
                time: provider::saved::time(&config.state.dir),
            });
            Ok(save(config, patience, &live, following))
        }
        (ProviderKind::File | ProviderKind::Docker, _) => {
            let engine = Engine::new(&config.provider.socket);
            let (live, following) = provider::docker::follow(engine, hostname(), pace(config));
            Ok(save(config, patience, &live, following))
        }
    }
}

fn pace(config: &Config) -> Pace {
    Pace { resync: config.provider.resync, ..Pace::default() }
}

/// The same provider, whose last word is kept for the next start.
fn save(
    config: &Config,
    patience: Duration,
    live: &Provider,
    following: impl Future<Output = ()> + Send + 'static,
) -> (Provider, Driver) {
    let directory = &config.state.dir;
    let (provider, saving) = provider::saved::follow(live, directory, patience);
    let driver = Box::pin(async {
        tokio::join!(following, saving);
    });
    (provider, driver)
}

fn read_services(text: &str, name: &str) -> Result<Vec<crate::inventory::SwarmService>, String> {
    let (services, diagnostics) =
        services_file::read(text, name).map_err(|error| error.to_string())?;
    for diagnostic in diagnostics {
        tracing::warn!(service = diagnostic.service, "{diagnostic}");
    }
    Ok(services)
}

/// Completes at the first SIGTERM or SIGINT.
pub async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process at once, which is all that is left.
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    info!(signal = name, "asked to stop");
}
