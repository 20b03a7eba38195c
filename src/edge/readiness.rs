//! Whether an edge serves, for those who ask.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;

use super::worker::Accepting;
use crate::proxy::Proxy;

/// Tells whether an edge serves.
#[derive(Clone, Debug)]
pub struct Readiness {
    pub(super) accepting: watch::Receiver<Accepting>,
    pub(super) proxy: Arc<Proxy>,
}

impl Readiness {
    /// Why it does not; none if it does.
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.proxy.draining.load(Relaxed) {
            return Some("draining");
        }
        (*self.accepting.borrow() == Accepting::NotYet).then_some("no inventory yet")
    }

    /// Waits until it serves.
    pub async fn wait(&mut self) {
        let _ = self.accepting.wait_for(|accepting| *accepting != Accepting::NotYet).await;
    }
}
