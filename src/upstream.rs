//! The replicas of one service on one port, and what all cores know of them.
//!
//! An [`Upstream`] outlives every routing table that names it, an [`Endpoint`] every set that holds
//! it: in-flight counts and health are carried over by carrying over the `Arc`.

mod guards;
pub mod load;
pub mod silence;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use crate::affinity::Mark;
use crate::counters::{EndpointCell, PerCore};
use crate::health::ejection::{Entry, Failed, LATELY, Siblings};
use crate::health::{Health, State, Transition};
use crate::latency::PeakEwma;
use crate::retry::RetryBudget;
use crate::spec::{Eject, Protocol, UpstreamTls};
use crate::timestamp::Timestamp;
use crate::upstream::load::{Methods, Rpc, YoungCalls};
use crate::upstream::silence::Silence;

pub use self::guards::{InFlight, Probation, Taken};

/// What makes two routes share their replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamKey {
    /// Swarm's id of the service: a service that is removed and made again is another one.
    pub service_id: String,
    /// Port the replicas listen on.
    pub port: u16,
    /// How they are spoken to.
    pub protocol: Protocol,
    /// Whom to expect there, with protocols that have TLS.
    pub tls: Option<UpstreamTls>,
    /// Id of the network they are reached on; empty for fixed addresses.
    pub network: String,
}

/// The endpoints of one service on one port.
#[derive(Debug)]
pub struct Upstream {
    /// What it is the endpoints of.
    pub key: UpstreamKey,
    /// Full name of the service.
    pub service: String,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Tasks that the service wants to have; while it is 0, nobody waits for one.
    desired: AtomicU64,
    /// Requests that have been taken and are not answered to the end.
    pub in_flight: AtomicU64,
    /// Requests that wait for an endpoint.
    pub waiting: AtomicU64,
    /// Whose turn it is.
    turn: AtomicUsize,
    last_request: AtomicU64,
    /// Extra tries that are still allowed.
    pub retry_budget: RetryBudget,
    /// Which methods are long polls, if requests are gRPC calls.
    pub methods: Methods,
    /// Whose turn it is to eject one of them.
    ejecting: Mutex<()>,
    /// For how long DNS and the task list have disagreed, in microseconds.
    pub disagreement: AtomicU64,
    /// An endpoint may have become usable: waiting requests look again.
    pub arrivals: Notify,
    /// A request has ended: one that waits for room may have it.
    pub room: Notify,
    /// Somebody has reason to doubt the set: ask DNS now.
    pub doubts: Notify,
}

impl Upstream {
    /// An upstream without endpoints.
    pub fn new(key: UpstreamKey, service: &str, desired: u64) -> Self {
        Self {
            key,
            service: service.to_owned(),
            endpoints: ArcSwap::default(),
            desired: AtomicU64::new(desired),
            in_flight: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            last_request: AtomicU64::new(0),
            retry_budget: RetryBudget::default(),
            methods: Methods::default(),
            ejecting: Mutex::default(),
            disagreement: AtomicU64::new(0),
            arrivals: Notify::new(),
            room: Notify::new(),
            doubts: Notify::new(),
        }
    }

    /// The endpoints now, in the order of their addresses.
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    /// Replaces the endpoints; requests that wait for one look again.
    pub fn set_endpoints(&self, endpoints: Vec<Arc<Endpoint>>) {
        self.endpoints.store(Arc::new(endpoints));
        self.arrivals.notify_waiters();
    }

    /// A request goes to that endpoint, and counts as its load; a call of that method as such calls do.
    #[must_use = "the request stops counting as in flight when the guard is dropped"]
    pub fn start_request(
        &self,
        endpoint: &Arc<Endpoint>,
        call: Option<Rpc>,
        now: Timestamp,
    ) -> InFlight {
        match call {
            Some(rpc) if !self.methods.is_poll(rpc) => endpoint.start_call(now),
            _ => endpoint.start_request(),
        }
    }

    /// A request has ended, and whatever it held is free again.
    pub fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
        if self.waiting.load(Relaxed) > 0 {
            self.room.notify_one();
        }
    }

    /// Whether the service wants any task at all.
    pub fn wants_tasks(&self) -> bool {
        self.desired.load(Relaxed) > 0
    }

    /// Tells how many tasks the service wants. When it wants none, nobody needs to wait any longer.
    pub fn set_desired(&self, desired: u64) {
        // Whoever is woken and finds nothing raises doubts, which lead here again.
        if self.desired.swap(desired, Relaxed) != desired {
            self.arrivals.notify_waiters();
        }
    }

    /// The next number of a count that all cores share.
    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Relaxed)
    }

    /// A request came. True if the last one was so long ago that the set may be old.
    pub fn requested(&self, now: Timestamp, fresh_for: std::time::Duration) -> bool {
        let before = self.last_request.load(Relaxed);
        if now.since(Timestamp::from_micros(before)) < fresh_for && before != 0 {
            // Written once in a while only: every core would else write this line with each request.
            if now.since(Timestamp::from_micros(before)) > fresh_for / 8 {
                self.last_request.store(now.as_micros(), Relaxed);
            }
            return false;
        }
        self.last_request.store(now.as_micros(), Relaxed);
        true
    }

    /// When the last request came, give or take an eighth of `fresh_for`.
    pub fn last_request(&self) -> Timestamp {
        Timestamp::from_micros(self.last_request.load(Relaxed))
    }

    /// Counts a failure against an endpoint, and ejects it if the others do better and can do without.
    pub fn endpoint_failed(
        &self,
        endpoint: &Endpoint,
        failed: &Failed,
        policy: &Eject,
    ) -> Option<Transition> {
        // One at a time, or two cores could each eject the other one's last. Whoever comes second
        // has its chance with the next failure.
        let turn = self.ejecting.try_lock();
        let siblings = || {
            let siblings = self.siblings(endpoint, failed.at);
            if turn.is_ok() { siblings } else { Siblings { healthy: 0, ..siblings } }
        };
        endpoint.health.failed(failed, policy, siblings)
    }

    /// What is known about all endpoints but this one.
    fn siblings(&self, endpoint: &Endpoint, now: Timestamp) -> Siblings {
        let mut siblings = Siblings::default();
        let lately = Timestamp::from_micros(
            now.as_micros().saturating_sub(u64::try_from(LATELY.as_micros()).unwrap_or(u64::MAX)),
        );
        for other in self.endpoints().iter().filter(|other| other.id != endpoint.id) {
            match other.health.state(now) {
                State::Healthy => {
                    siblings.healthy = siblings.healthy.saturating_add(1);
                    siblings.failed_lately |= other.health.has_failed_since(lately);
                }
                State::Ejected | State::Probation => {
                    siblings.ejected = siblings.ejected.saturating_add(1);
                }
                State::Unhealthy | State::Draining | State::Pending | State::Down => {}
            }
            for cell in other.counters.each() {
                siblings.well = siblings.well.saturating_add(cell.well);
                siblings.ill = siblings.ill.saturating_add(cell.ill);
            }
        }
        siblings
    }
}

/// Tells endpoints apart for as long as the process runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    /// One that no other endpoint has.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// One replica.
#[derive(Debug)]
pub struct Endpoint {
    /// Tells it from all others.
    pub id: EndpointId,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is called in metrics and logs: `shop_web.3`. The address until its task is known.
    pub name: ArcSwap<String>,
    /// Whether it may take requests.
    pub health: Health,
    /// What came of its last check, in words, or why it is not believed to be who it must be; none
    /// before the first.
    pub last_check: ArcSwapOption<String>,
    /// What stands for its slot; 0 until that is known.
    mark: AtomicU64,
    /// When it last began to take requests, in microseconds; 0 if it did before the edge started.
    began: AtomicU64,
    /// Whether it chose HTTP/2 when it was last given the choice.
    chose_http2: AtomicBool,
    /// How long it takes for a response head; measured where a route balances by it.
    pub latency: PeakEwma,
    /// Requests sent to it and not answered to the end: the load that balancing compares.
    in_flight: AtomicUsize,
    /// Those of gRPC that were sent lately and are no long polls, which it compares instead where there are any.
    young_calls: YoungCalls,
    /// Whether it has just stopped answering.
    pub silence: Silence,
    /// Requests that have waited for it and have no connection yet.
    pub entering: AtomicUsize,
    /// Connections to it that wait for a request, on all cores.
    pub idle_connections: AtomicUsize,
    /// All connections to it, on all cores.
    pub connections: AtomicUsize,
    /// What it was asked and how it answered.
    pub counters: PerCore<EndpointCell>,
}

impl Endpoint {
    /// An endpoint that nobody has reached yet, for an edge with that many cores.
    pub fn new(address: SocketAddr, name: &str, cores: usize) -> Self {
        Self {
            id: EndpointId::next(),
            address,
            name: ArcSwap::from_pointee(name.to_owned()),
            health: Health::default(),
            last_check: ArcSwapOption::empty(),
            mark: AtomicU64::new(0),
            began: AtomicU64::new(0),
            chose_http2: AtomicBool::new(false),
            latency: PeakEwma::default(),
            in_flight: AtomicUsize::new(0),
            entering: AtomicUsize::new(0),
            young_calls: YoungCalls::default(),
            silence: Silence::default(),
            idle_connections: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            counters: PerCore::new(cores),
        }
    }

    /// What stands for its slot on every edge; none until that is known.
    pub fn mark(&self) -> Option<Mark> {
        Mark::from_bits(self.mark.load(Relaxed))
    }

    /// Its slot is known.
    pub fn set_mark(&self, mark: Mark) {
        self.mark.store(mark.bits(), Relaxed);
    }

    /// It takes requests from now on, for the first time or again: slow start counts from here.
    pub fn begins(&self, now: Timestamp) {
        self.began.store(now.as_micros(), Relaxed);
    }

    /// Since when it takes requests.
    pub fn began(&self) -> Timestamp {
        Timestamp::from_micros(self.began.load(Relaxed))
    }

    /// Whether it chose HTTP/2 when it was last given the choice, by `https`.
    pub fn chose_http2(&self) -> bool {
        self.chose_http2.load(Relaxed)
    }

    /// What it has chosen now.
    pub fn chooses_http2(&self, http2: bool) {
        self.chose_http2.store(http2, Relaxed);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// gRPC calls in flight that were sent a second or two ago at most, and are no long polls.
    pub fn young_calls(&self, now: Timestamp) -> usize {
        self.young_calls.count(now)
    }

    /// A request wants to go there, and may: then it has a guard if it is the one that tries the
    /// endpoint after an ejection.
    ///
    /// # Errors
    /// If another one tries it.
    pub fn enter(self: &Arc<Self>, now: Timestamp) -> Result<Option<Probation>, Taken> {
        match self.health.enter(now) {
            Entry::Free => Ok(None),
            Entry::Lease(lease) => Ok(Some(Probation { endpoint: Arc::clone(self), lease })),
            Entry::Taken => Err(Taken),
        }
    }

    /// Counts a request for as long as the guard lives.
    #[must_use = "the request stops counting as in flight when the guard is dropped"]
    pub fn start_request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight { endpoint: Arc::clone(self), call: None }
    }

    /// The same for a gRPC call that is no long poll.
    #[must_use = "the call stops counting as in flight when the guard is dropped"]
    pub fn start_call(self: &Arc<Self>, now: Timestamp) -> InFlight {
        let mut in_flight = self.start_request();
        in_flight.call = Some(self.young_calls.began(now));
        in_flight
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn to_be_told_the_same_number_of_tasks_again_wakes_nobody() {
        let key = UpstreamKey {
            service_id: "shop".into(),
            port: 80,
            protocol: Protocol::Http,
            tls: None,
            network: String::new(),
        };
        let upstream = Upstream::new(key, "shop", 1);
        let wakes = |desired| {
            let mut woken = Box::pin(upstream.arrivals.notified());
            woken.as_mut().enable();
            upstream.set_desired(desired);
            woken.now_or_never().is_some()
        };
        assert_eq!([1, 1, 0, 0, 2].map(wakes), [false, false, true, false, true]);
    }
}
