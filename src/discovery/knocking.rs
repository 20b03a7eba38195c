//! First connections: whoever is new, or accepted none any more, is tried until it accepts one. Requests
//! go elsewhere meanwhile, or wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use super::Context;
use crate::clock;
use crate::proxy::Core;
use crate::proxy::dial::DialError;
use crate::proxy::making::Terms;
use crate::proxy::pool::Connection;
use crate::spec::KeepAlive;
use crate::upstream::{Endpoint, Upstream};

/// Between two tries to reach an endpoint: while it has not listened for long, and later on.
const KNOCK: Duration = Duration::from_millis(100);
const KNOCK_LATER: Duration = Duration::from_secs(1);
const LATER: u32 = 100;

/// How long one such try may take.
const KNOCK_LIMIT: Duration = Duration::from_secs(1);

impl Context {
    /// Tries to reach an endpoint until that succeeds, on one of the cores: the connection is kept
    /// there for the first request.
    pub(super) fn knock(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        first_connects: &Arc<Semaphore>,
    ) -> Option<JoinHandle<()>> {
        let (handle, core) = self.cores.get(fastrand::usize(..self.cores.len().max(1)))?;
        let (upstream, endpoint) = (Arc::clone(upstream), Arc::clone(endpoint));
        let task = knock(Arc::clone(core), upstream, endpoint, Arc::clone(first_connects));
        Some(handle.spawn(task))
    }
}

async fn knock(
    core: Arc<Core>,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    first_connects: Arc<Semaphore>,
) {
    let keep = KeepAlive::default();
    let terms = Terms { keep, limit: KNOCK_LIMIT, most: None, upgrades: false };
    for tries in 1_u32.. {
        let Ok(permit) = first_connects.acquire().await else {
            return;
        };
        let dialled = core.dial_now(&upstream, &endpoint, &terms).await;
        drop(permit);
        match dialled {
            Ok(Connection::Http1(connection)) => {
                return core.pools.check_in(connection, &keep, clock::now());
            }
            // The connection is in the pool already; it goes on without this stream.
            Ok(Connection::Http2(_)) => return,
            Err(error) => {
                // A server that is about to start is no news; a certificate will not change by itself.
                if tries == LATER || (tries == 1 && matches!(error, DialError::Tls(_))) {
                    let (service, name) = (&upstream.service, endpoint.name.load());
                    warn!(service, endpoint = %name, %error, "endpoint still takes no requests");
                }
                sleep(if tries < LATER { KNOCK } else { KNOCK_LATER }).await;
            }
        }
    }
}
