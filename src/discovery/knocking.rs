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
    let mut said = None;
    for tries in 1_u32.. {
        let Ok(permit) = first_connects.acquire().await else {
            return;
        };
        let dialled = core.dial_now(&upstream, &endpoint, &terms).await;
        drop(permit);
        let error = match dialled {
            Ok(connection) => {
                take_back(&endpoint, said.as_ref());
                // One of HTTP/2 is in the pool already; it goes on without this stream.
                if let Connection::Http1(connection) = connection {
                    core.pools.check_in(connection, &keep, clock::now());
                }
                return;
            }
            Err(error) => error,
        };
        // A server that is about to start is no news; who it is does not change by itself.
        let is_lasting = matches!(&error, DialError::Tls(why) if why.is_lasting());
        if tries == LATER || (is_lasting && said.is_none()) {
            let (service, name) = (&upstream.service, endpoint.name.load());
            warn!(service, endpoint = %name, %error, "endpoint still takes no requests");
        }
        if is_lasting {
            let text = Arc::new(error.to_string());
            endpoint.last_check.store(Some(Arc::clone(&text)));
            said = Some(text);
        }
        sleep(if tries < LATER { KNOCK } else { KNOCK_LATER }).await;
    }
}

/// Says no longer what is no longer true, unless a check has said something else meanwhile.
fn take_back(endpoint: &Endpoint, said: Option<&Arc<String>>) {
    let last = endpoint.last_check.load();
    if said.is_some_and(|said| last.as_ref().is_some_and(|last| Arc::ptr_eq(last, said))) {
        endpoint.last_check.store(None);
    }
}
