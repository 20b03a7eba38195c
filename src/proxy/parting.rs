//! When a client's connection ends by our doing.

use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;

use crate::memory::Pressure;
use crate::proxy::Client;

impl Client {
    /// Whether the connection is to be ended after what is under way on it. HTTP/2 can say so at any
    /// time; an idle connection of HTTP/1 is closed only at last, since a request may be on its way,
    /// or when its memory is needed. A busy one of HTTP/2 then stays: others would take its place.
    pub fn asks_to_go(&self, http2: bool) -> bool {
        let proxy = &self.core.proxy;
        proxy.closing.load(Relaxed)
            || (http2 && proxy.draining.load(Relaxed))
            || (proxy.memory.is_at(Pressure::Idle) && (!http2 || self.activity.has_paused()))
    }

    /// Whether this is the last response on a connection of HTTP/1.
    pub fn is_last_response(&self) -> bool {
        let proxy = &self.core.proxy;
        self.deadline.is_some()
            && (proxy.draining.load(Relaxed) || proxy.memory.is_at(Pressure::Idle))
    }

    /// Whether an HTTP/1 client does not take what is written to it: a time limit has passed, and
    /// its request, which would have ended by it, was not asked; or it takes too little.
    pub fn is_stalled(&self, cx: &Context<'_>) -> bool {
        self.deadline.as_ref().is_some_and(|deadline| deadline.poll_over(cx).is_ready())
    }
}
