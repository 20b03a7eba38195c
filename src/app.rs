//! A whole edge process: provider, data path and control side, until it is told to stop.

use std::future::Future;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::{Config, ProviderKind};
use crate::docker::Engine;
use crate::edge::{RunningEdge, StartError};
use crate::provider::{self, Provider};
use crate::services_file;

/// Where a container finds its own id: Docker makes it the host name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Runs an edge until SIGTERM or Ctrl-C, and drains it.
///
/// # Errors
/// If it cannot start.
pub async fn run_edge(config: &Config) -> Result<(), StartError> {
    let (provider, following) = follow(config);
    let edge = RunningEdge::start(config, provider)?;
    let following = tokio::spawn(following);
    edge.run(config.drain, stop_signal()).await;
    following.abort();
    Ok(())
}

/// The provider that the options name, and what drives it.
fn follow(config: &Config) -> (Provider, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
    match (config.provider.kind, &config.provider.path) {
        (ProviderKind::File, Some(path)) => {
            let name = path.display().to_string();
            let read = move |text: &str| read_services(text, &name);
            let (provider, following) =
                provider::file::follow(Path::new(path), provider::file::POLL, read);
            (provider, Box::pin(following))
        }
        (ProviderKind::File | ProviderKind::Docker | ProviderKind::Agent, _) => {
            let engine = Engine::new(&config.provider.socket);
            let hostname = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
            let pace = provider::docker::Pace {
                resync: config.provider.resync,
                ..provider::docker::Pace::default()
            };
            let hostname = hostname.trim().to_owned();
            let (provider, following) = provider::docker::follow(engine, hostname, pace);
            (provider, Box::pin(following))
        }
    }
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
