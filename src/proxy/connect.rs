//! From a route to a connection: choose an endpoint, take a pooled connection or dial, race a dial
//! that hangs, and wait where Swarm itself leaves a gap.

mod crowd;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::affinity::Wish;
use crate::balance::{self, Search};
use crate::clock;
use crate::proxy::Core;
use crate::proxy::connect::crowd::{Entering, Waiting};
use crate::proxy::dial::{DialError, RACE_AFTER};
use crate::proxy::error::ProxyError;
use crate::proxy::making::{Terms, shares_connections, streams};
use crate::proxy::pool::{Connection, Which};
use crate::snapshot::Route;
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, EndpointId, Probation};

/// Dials that one request may have under way at once.
const MOST_DIALS: usize = 3;

/// Who waits for room looks again after this time, however quiet it is: a connection may have been
/// closed that no request held.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// And who found that others make the last connections that are allowed, after this time.
const DIALS_TAKE: Duration = Duration::from_millis(10);

/// An endpoint, and a connection to it.
#[derive(Debug)]
pub struct Connected {
    /// Where the connection leads.
    pub endpoint: Arc<Endpoint>,
    /// It is ready for a request.
    pub connection: Connection,
    /// The request is the one that tries the endpoint after an ejection.
    pub probation: Option<Probation>,
}

/// An endpoint that was chosen.
struct Picked {
    endpoint: Arc<Endpoint>,
    probation: Option<Probation>,
}

impl Picked {
    fn with(self, connection: Connection) -> Connected {
        let Self { endpoint, probation } = self;
        Connected { endpoint, connection, probation }
    }
}

impl Core {
    /// A connection for a request of this route, to an endpoint as it wishes and that it has not
    /// tried, if there is one. Nothing of the request is sent yet: whatever fails here is free.
    /// `repeatable` says whether it may be sent again if it breaks: then another core's connection
    /// will do, and so will an endpoint that is about to end.
    ///
    /// # Errors
    /// If there is none within `timeout.queue`, or nobody may wait for one.
    pub async fn connect(
        self: &Arc<Self>,
        route: &Arc<Route>,
        wish: Wish,
        tried: &[EndpointId],
        repeatable: bool,
    ) -> Result<Connected, ProxyError> {
        let now = clock::now();
        let which = if repeatable { Which::OthersSparingly } else { Which::OwnRecent };
        let picked = Self::pick(route, wish, tried, !repeatable, now);
        if let Some(Picked { endpoint, .. }) = &picked
            && !wants_new(route, endpoint, wish, tried, now)
            && let Some(connection) = self.pooled(route, endpoint, wish, which, now)
            && let Some(picked) = picked
        {
            return Ok(picked.with(connection));
        }
        // Boxed, so that the common way does not carry the other one's state around.
        Box::pin(self.connect_slowly(route, wish, tried, repeatable, picked)).await
    }

    fn pick(
        route: &Route,
        wish: Wish,
        tried: &[EndpointId],
        once: bool,
        now: Timestamp,
    ) -> Option<Picked> {
        let endpoint = Self::pick_any(route, wish, tried, once, now)?;
        if let Ok(probation) = endpoint.enter(now) {
            return Some(Picked { endpoint, probation });
        }
        // Somebody was faster to try it: from now on it is fallen back on only.
        let endpoint = Self::pick_any(route, wish, tried, once, now)?;
        let probation = endpoint.enter(now).ok().flatten();
        Some(Picked { endpoint, probation })
    }

    /// An endpoint with room.
    fn pick_any(
        route: &Route,
        wish: Wish,
        tried: &[EndpointId],
        once: bool,
        now: Timestamp,
    ) -> Option<Arc<Endpoint>> {
        let upstream = &route.upstream;
        let endpoints = upstream.endpoints();
        let pick = |tried| {
            let search = Search { once, ..search(route, wish, tried, now) };
            // Making a generator costs less than sharing one.
            let mut rng = fastrand::Rng::new();
            let turn = || upstream.next_turn();
            let picked = balance::pick(&endpoints, &search, turn, &mut rng);
            picked.filter(|endpoint| search.has_room(endpoint))
        };
        // Better one that has been tried than none: its old connection may just have been closed.
        let picked = pick(tried).or_else(|| if tried.is_empty() { None } else { pick(&[]) });
        picked.map(Arc::clone)
    }

    fn pooled(
        &self,
        route: &Route,
        endpoint: &Arc<Endpoint>,
        wish: Wish,
        which: Which,
        now: Timestamp,
    ) -> Option<Connection> {
        if !shares_connections(route.upstream.key.protocol, endpoint, wish.upgrades) {
            let pooled = self.pools.check_out(self.index, endpoint, which, now);
            return pooled.map(Connection::Http1);
        }
        let (keep, most) = (&route.policy().keepalive, route.policy().limits.connections);
        let stream = self.pools.open_stream(self.index, endpoint, keep, most, now)?;
        stream.made_sender().map(|_| Connection::Http2(stream))
    }

    async fn connect_slowly(
        self: &Arc<Self>,
        route: &Arc<Route>,
        wish: Wish,
        tried: &[EndpointId],
        repeatable: bool,
        mut chosen: Option<Picked>,
    ) -> Result<Connected, ProxyError> {
        let started = clock::now();
        let limit = route.policy().timeouts.queue;
        let dial_limit = route.policy().timeouts.connect.saturating_mul(2);
        let mut has_waited = false;
        loop {
            let now = clock::now();
            let left = limit.saturating_sub(now.since(started));
            // Who was chosen stays chosen: in turns, nobody is passed over for want of a connection.
            let pick = || Self::pick(route, wish, tried, !repeatable, now);
            let Some(picked) = chosen.take().or_else(pick) else {
                self.wait_for_endpoint(route, wish, tried, !repeatable, left).await?;
                has_waited = true;
                continue;
            };
            // Others have waited for this very moment, too.
            let entering = has_waited.then(|| Entering::at(&picked.endpoint, now));
            if matches!(entering, Some(None)) {
                crowd::stand_back(route).await?;
                continue;
            }
            let which = match (repeatable, is_full(route, &picked.endpoint)) {
                (true, true) => Which::All,
                (true, false) | (false, true) => Which::Own,
                (false, false) => Which::OwnRecent,
            };
            if !wants_new(route, &picked.endpoint, wish, tried, now)
                && let Some(connection) = self.pooled(route, &picked.endpoint, wish, which, now)
            {
                return Ok(picked.with(connection));
            }
            let near_its_end = |at: &Endpoint| at.health.is_about_to_end(clock::now());
            match self.dial_raced(route, wish, tried, picked).await {
                // That took until its replica has been told to end, and nobody would choose it any more.
                Ok(Connected { endpoint, .. }) if !repeatable && near_its_end(&endpoint) => {}
                Ok(connected) => return Ok(connected),
                Err(DialError::Full) => Self::wait_for_dials(route, left).await?,
                // What failed is `down` now and not picked again, or has had its second chance.
                Err(_) if clock::now().since(started) < limit.max(dial_limit) => {}
                Err(_) => return Err(ProxyError::NoEndpoint),
            }
        }
    }

    /// Waits until an endpoint may have become usable. Swarm leaves a service of one replica without
    /// any for a second at each update and drain; nobody is turned away for that.
    async fn wait_for_endpoint(
        &self,
        route: &Route,
        wish: Wish,
        tried: &[EndpointId],
        once: bool,
        left: Duration,
    ) -> Result<(), ProxyError> {
        let upstream = &route.upstream;
        if !upstream.wants_tasks() {
            return Err(ProxyError::ScaledToZero);
        }
        let _waiting = Waiting::count(upstream, route.policy().limits.queue)?;
        let (arrival, room) = (upstream.arrivals.notified(), upstream.room.notified());
        tokio::pin!(arrival, room);
        // From here on neither is missed; look once more before waiting for them.
        arrival.as_mut().enable();
        room.as_mut().enable();
        if Self::pick_any(route, wish, tried, once, clock::now()).is_some() {
            return Ok(());
        }
        let accepts = |endpoint: &Arc<Endpoint>| endpoint.health.state(clock::now()).accepts();
        if !upstream.endpoints().iter().any(accepts) {
            upstream.doubts.notify_one();
            return timeout(left, arrival).await.map_err(|_| ProxyError::NoEndpoint);
        }
        // All of them are full, or about to end.
        let nap = left.min(LOOK_AGAIN);
        tokio::select! {
            biased;
            () = room => Ok(()),
            () = arrival => Ok(()),
            () = sleep(nap) => match route.policy().limits.connections {
                _ if left > nap => Ok(()),
                Some(_) => Err(ProxyError::ReplicasFull),
                None => Err(ProxyError::NoEndpoint),
            },
        }
    }

    /// Waits for a moment, since connections are being made or closed right now that fill a replica.
    async fn wait_for_dials(route: &Route, left: Duration) -> Result<(), ProxyError> {
        let _waiting = Waiting::count(&route.upstream, route.policy().limits.queue)?;
        let nap = left.min(DIALS_TAKE);
        sleep(nap).await;
        if left > nap { Ok(()) } else { Err(ProxyError::ReplicasFull) }
    }

    /// Dials `first`; when it hangs, or another endpoint arrives meanwhile, others as well. The
    /// first connection wins, the others go to the pool.
    async fn dial_raced(
        self: &Arc<Self>,
        route: &Arc<Route>,
        wish: Wish,
        tried: &[EndpointId],
        first: Picked,
    ) -> Result<Connected, DialError> {
        let mut excluded = tried.to_vec();
        excluded.push(first.endpoint.id);
        let mut dials = FuturesUnordered::new();
        dials.push(self.dial(route, first, wish.upgrades));
        loop {
            let arrival = route.upstream.arrivals.notified();
            tokio::select! {
                biased;
                Some(dialled) = dials.next() => match dialled {
                    Ok(connected) => return Ok(connected),
                    Err(error) if dials.is_empty() => return Err(error),
                    Err(_) => {}
                },
                () = sleep(RACE_AFTER) => {}
                () = arrival => {}
            }
            if dials.len() < MOST_DIALS
                && let Some(other) = Self::pick_other(route, wish, &excluded)
            {
                excluded.push(other.endpoint.id);
                dials.push(self.dial(route, other, wish.upgrades));
            }
        }
    }

    fn pick_other(route: &Route, wish: Wish, excluded: &[EndpointId]) -> Option<Picked> {
        let picked = Self::pick(route, wish, excluded, true, clock::now())?;
        (!excluded.contains(&picked.endpoint.id)).then_some(picked)
    }

    /// Dials on a task of its own: if the request goes elsewhere meanwhile, the outcome still counts
    /// for the endpoint's health, and the connection for the next request.
    async fn dial(
        self: &Arc<Self>,
        route: &Arc<Route>,
        picked: Picked,
        upgrades: bool,
    ) -> Result<Connected, DialError> {
        let (sender, receiver) = oneshot::channel();
        let (core, route) = (Arc::clone(self), Arc::clone(route));
        tokio::spawn(async move {
            let keep = route.policy().keepalive;
            let limit = route.policy().timeouts.connect;
            let most = route.policy().limits.connections;
            let terms = Terms { keep, limit, most, upgrades };
            let dialled = core.dial_now(&route.upstream, &picked.endpoint, &terms).await;
            let connected = dialled.map(|connection| picked.with(connection));
            if let Err(Ok(Connected { connection: Connection::Http1(unused), .. })) =
                sender.send(connected)
            {
                core.pools.check_in(unused, &keep, clock::now());
            }
        });
        receiver.await.unwrap_or(Err(DialError::TimedOut))
    }
}

/// What is looked for among the endpoints of a route.
fn search<'s>(route: &'s Route, wish: Wish, tried: &'s [EndpointId], now: Timestamp) -> Search<'s> {
    let (policy, protocol) = (route.policy(), route.upstream.key.protocol);
    let room = policy.limits.connections.map(|most| most.saturating_mul(streams(&route.upstream)));
    let (balance, slow_start, calls) = (&policy.balance, policy.slow_start, protocol.is_grpc());
    Search { balance, calls, wish, slow_start, room, tried, once: false, now }
}

/// Whether a connection of the pool will not do, since only a new one proves that somebody is there: for a
/// request that has been there before, as a process that dies closes its connections one after the other,
/// and where nobody has been heard of for longer than usual.
fn wants_new(
    route: &Route,
    endpoint: &Endpoint,
    wish: Wish,
    tried: &[EndpointId],
    now: Timestamp,
) -> bool {
    (tried.contains(&endpoint.id) || endpoint.silence.is_doubtful(now))
        && !shares_connections(route.upstream.key.protocol, endpoint, wish.upgrades)
        && !is_full(route, endpoint)
}

/// Whether no further connection may be made to an endpoint.
fn is_full(route: &Route, endpoint: &Endpoint) -> bool {
    let most = route.policy().limits.connections;
    most.is_some_and(|most| endpoint.connections.load(Relaxed) >= most)
}
