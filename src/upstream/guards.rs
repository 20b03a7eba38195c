//! What requests hold at an endpoint, and give back however they end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::timestamp::Timestamp;
use crate::upstream::Endpoint;
use crate::upstream::load::Span;

/// Another request tries the endpoint already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another request tries the endpoint")]
pub struct Taken;

/// The one request that tries an endpoint after an ejection. The next one may when this one's outcome
/// is known, or it is given up.
#[derive(Debug)]
pub struct Probation {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) lease: Timestamp,
}

impl Drop for Probation {
    fn drop(&mut self) {
        self.endpoint.health.leave(self.lease);
    }
}

/// A request in flight. It rides in the response's body, since a head comes long before its last
/// byte, and is given back when the body ends, the client leaves, or a task panics.
#[derive(Debug)]
pub struct InFlight {
    pub(super) endpoint: Arc<Endpoint>,
    /// When it began, of a gRPC call.
    pub(super) call: Option<Span>,
}

impl InFlight {
    /// Where the request is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        if let Some(began) = self.call {
            self.endpoint.young_calls.ended(began);
        }
    }
}
