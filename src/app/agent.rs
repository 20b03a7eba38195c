//! A whole agent process: it reads an engine, serves edges, and tells about itself.

use std::sync::Arc;

use tracing::error;

use super::{bind, hostname, pace, stop_signal};
use crate::admin::{self, AgentAdmin};
use crate::agent;
use crate::config::Config;
use crate::docker::Engine;
use crate::edge::StartError;
use crate::identity::AgentKeys;

/// Runs an agent until SIGTERM or Ctrl-C, and for some seconds more while edges follow it.
///
/// # Errors
/// If it cannot start.
pub async fn run_agent(config: &Config) -> Result<(), StartError> {
    let keys = AgentKeys::read(&config.agent.secret)?;
    let engine = Engine::new(&config.provider.socket);
    let (agent, following) = agent::follow(engine, pace(config), hostname());
    let admin = AgentAdmin::new(Arc::clone(&agent), config.admin.networks.clone())?;
    let admin_socket = bind("admin", config.admin.address)?;
    let socket = bind("agent", config.agent.address)?;
    let serving = async {
        tokio::select! {
            () = following => Ok(()),
            served = agent::serve(socket, keys, Arc::clone(&agent)) => served,
            served = admin::serve(admin_socket, admin) => served,
        }
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                error!(%error, "a socket cannot be served");
            }
        }
        () = agent.released(stop_signal) => {}
    }
    Ok(())
}
