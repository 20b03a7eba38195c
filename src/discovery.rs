//! Who the replicas of each upstream are, at every moment.
//!
//! One task follows each upstream: it asks DNS, hears of new task lists, lets `membership` decide,
//! and is the only one that replaces the upstream's endpoints. The routing table is not touched.

mod checking;
mod knocking;
mod roster;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::checking::Checking;
use self::roster::{Member, Roster};
use crate::affinity::Mark;
use crate::clock;
use crate::config;
use crate::dns::Resolver;
use crate::health::State;
use crate::provider::Provider;
use crate::proxy::{Core, IDLE_AFTER};
use crate::snapshot::{Snapshot, Source};
use crate::spec::Check;
use crate::timestamp::Timestamp;
use crate::tls::replica::Trust;
use crate::upstream::{Endpoint, EndpointId, Upstream, UpstreamKey};

/// First connections under way at once: a start with a thousand replicas is no flood.
const MOST_FIRST_CONNECTS: usize = 64;

/// Doubts are cheap to raise, so questions that they lead to keep this distance.
const DOUBT_DISTANCE: Duration = Duration::from_millis(100);

/// How long a change of the source counts as under way: a new task starts, or an old one's name goes.
const CHANGING: Duration = Duration::from_secs(10);

/// How much sooner an idle upstream may be asked about, as a share of its pace: the questions of
/// hundreds that came with one table would else fall into one moment for ever.
const JITTER: f64 = 0.2;

/// How often DNS is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For upstreams with traffic, or with a change under way.
    pub active: Duration,
    /// For all others.
    pub idle: Duration,
}

impl Pace {
    /// As the options say.
    pub const fn of(options: config::Dns) -> Self {
        Self { active: options.interval_active, idle: options.interval_idle }
    }
}

/// What following an upstream takes.
#[derive(Debug)]
pub struct Context {
    /// Asks DNS.
    pub resolver: Resolver,
    /// How often.
    pub pace: Pace,
    /// Hears of addresses that no inventory names.
    pub provider: Provider,
    /// Whom replicas with TLS are believed to be.
    pub trust: Arc<Trust>,
    /// The cores, on which first connections are made so that requests can use them.
    pub cores: Vec<(Handle, Arc<Core>)>,
}

/// The tasks that follow upstreams.
#[derive(Debug)]
pub struct Discovery {
    context: Arc<Context>,
    first_connects: Arc<Semaphore>,
    followed: BTreeMap<UpstreamKey, Followed>,
}

#[derive(Debug)]
struct Followed {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

/// What a table says about an upstream.
#[derive(Clone, Debug)]
struct Wanted {
    source: Source,
    check: Option<Check>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    /// Follows nobody yet.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            first_connects: Arc::new(Semaphore::new(MOST_FIRST_CONNECTS)),
            followed: BTreeMap::new(),
        }
    }

    /// Wakes every connection of every core, to look whether it is to go.
    pub fn wake_cores(&self) {
        self.context.cores.iter().for_each(|(_, core)| core.deadlines.wake_all());
    }

    /// Follows the upstreams of a table, each by its present source, and no others.
    pub fn reconcile(&mut self, snapshot: &Snapshot) {
        self.followed.retain(|key, _| snapshot.upstreams.contains_key(key));
        for (key, (upstream, source)) in &snapshot.upstreams {
            let wanted =
                Wanted { source: source.clone(), check: snapshot.checks.get(key).cloned() };
            if let Some(followed) = self.followed.get(key) {
                // Told also when nothing has changed: a list that still holds is news too.
                followed.wanted.send_replace(wanted);
                continue;
            }
            let (sender, receiver) = watch::channel(wanted);
            let follower = Follower {
                upstream: Arc::clone(upstream),
                context: Arc::clone(&self.context),
                first_connects: Arc::clone(&self.first_connects),
                wanted: receiver,
                changed_at: None,
                check: None,
                known: HashMap::new(),
            };
            let task = tokio::spawn(follower.run());
            self.followed.insert(key.clone(), Followed { wanted: sender, task });
        }
    }
}

/// Follows one upstream.
struct Follower {
    upstream: Arc<Upstream>,
    context: Arc<Context>,
    first_connects: Arc<Semaphore>,
    wanted: watch::Receiver<Wanted>,
    /// When the source last became another one.
    changed_at: Option<Timestamp>,
    check: Option<Check>,
    known: HashMap<SocketAddr, Known>,
}

/// An endpoint that takes part, and the tasks that try to reach it and ask how it is.
struct Known {
    endpoint: Arc<Endpoint>,
    task: Option<String>,
    /// What its mark is made of; empty while it has none.
    slot: String,
    knocking: Option<JoinHandle<()>>,
    checking: Option<Checking>,
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(knocking) = &self.knocking {
            knocking.abort();
        }
        // Its connections are closed by the next sweep; whoever has one finishes.
        self.endpoint.health.set_draining(true, clock::now());
    }
}

/// What a follower wakes up for.
enum Wake {
    /// DNS is to be asked.
    AskDue,
    /// Time has passed: what depends on it is looked at again.
    Tick,
    /// A new task list, or a new services file.
    NewSource,
    /// The upstream is not followed any longer.
    Gone,
}

impl Follower {
    async fn run(mut self) {
        let mut source = self.look_up();
        let mut roster = Roster::default();
        let mut asked_at = None;
        let listed_at = self.context.provider.listed_at();
        roster.listed(&self.upstream, &source, listed_at, clock::now());
        loop {
            self.settle(&mut roster, &source);
            match self.wait(asked_at, roster.asks(&source)).await {
                Wake::AskDue => {
                    // Before the answer: a name that is unknown for the moment costs its whole time limit.
                    asked_at = Some(Instant::now());
                    roster.ask(&self.context.resolver, &source).await;
                }
                Wake::Tick => {}
                Wake::NewSource => {
                    let before = source;
                    source = self.look_up();
                    if source != before {
                        self.changed_at = Some(clock::now());
                        // DNS may know more by now, too.
                        self.upstream.doubts.notify_one();
                    }
                    let listed_at = self.context.provider.listed_at();
                    roster.listed(&self.upstream, &source, listed_at, clock::now());
                }
                Wake::Gone => return,
            }
        }
    }

    /// What the table says now; the check is kept.
    fn look_up(&mut self) -> Source {
        let Wanted { source, check } = self.wanted.borrow_and_update().clone();
        self.check = check;
        source
    }

    async fn wait(&mut self, asked_at: Option<Instant>, asks: bool) -> Wake {
        let Pace { active, idle } = self.context.pace;
        let sooner = || idle.mul_f64(1.0 - JITTER * fastrand::f64());
        let pace = if self.is_active() { active } else { sooner() };
        let due = match asked_at {
            None if asks => return Wake::AskDue,
            Some(asked_at) if asks => asked_at + pace,
            Some(_) | None => Instant::now() + pace,
        };
        let wake = if asks { Wake::AskDue } else { Wake::Tick };
        tokio::select! {
            changed = self.wanted.changed() => match changed {
                Ok(()) => Wake::NewSource,
                Err(_) => Wake::Gone,
            },
            () = sleep_until(due) => wake,
            () = self.upstream.doubts.notified() => {
                if let Some(asked_at) = asked_at {
                    sleep_until(asked_at + DOUBT_DISTANCE).await;
                }
                wake
            }
        }
    }

    /// Whether the upstream has traffic, or a change is under way.
    fn is_active(&self) -> bool {
        let now = clock::now();
        let last = self.upstream.last_request();
        (last > Timestamp::START && now.since(last) < IDLE_AFTER)
            || self.changed_at.is_some_and(|at| now.since(at) < CHANGING)
            || self.known.values().any(|known| known.endpoint.health.state(now) != State::Healthy)
    }

    /// Puts in force what the roster says now.
    fn settle(&mut self, roster: &mut Roster, source: &Source) {
        let now = clock::now();
        self.upstream.set_desired(source.desired());
        let members = roster.members(&self.upstream, source, &self.context.provider, now);
        self.put_in_force(members);
        let now = clock::now();
        for known in self.known.values_mut() {
            known.check(&self.upstream, self.check.as_ref(), &self.context.trust);
            let state = known.endpoint.health.state(now);
            let idle = known.knocking.as_ref().is_none_or(JoinHandle::is_finished);
            if idle
                && matches!(state, State::Pending | State::Down)
                && !known.endpoint.health.is_draining()
            {
                known.knocking =
                    self.context.knock(&self.upstream, &known.endpoint, &self.first_connects);
            }
        }
    }

    fn put_in_force(&mut self, members: Vec<Member>) {
        let before = self.ids();
        let mut next = HashMap::with_capacity(members.len());
        for member in members {
            let known = match self.known.remove(&member.address) {
                Some(known) if known.may_be(member.task.as_deref()) => known,
                // The address has gone to another task: nothing of the old one's counts for it.
                Some(_) | None => {
                    let cores = self.context.cores.len();
                    let endpoint = Endpoint::new(member.address, &member.name, cores);
                    if member.trusted {
                        endpoint.health.trust();
                    } else if self.check.is_some() {
                        endpoint.health.await_check();
                    }
                    Known::new(endpoint)
                }
            };
            next.insert(member.address, known.updated(member, &self.upstream));
        }
        // Whoever is left over takes part no longer.
        self.known = next;
        if self.ids() != before {
            let mut endpoints: Vec<_> =
                self.known.values().map(|known| Arc::clone(&known.endpoint)).collect();
            endpoints.sort_by_key(|endpoint| endpoint.address);
            info!(
                service = self.upstream.service,
                endpoints = endpoints.len(),
                "endpoints changed"
            );
            self.upstream.set_endpoints(endpoints);
        }
    }

    fn ids(&self) -> BTreeSet<EndpointId> {
        self.known.values().map(|known| known.endpoint.id).collect()
    }
}

impl Known {
    fn new(endpoint: Endpoint) -> Self {
        let endpoint = Arc::new(endpoint);
        Self { endpoint, task: None, slot: String::new(), knocking: None, checking: None }
    }

    /// Whether this is the endpoint of the task: it is, or it was met before any list named it.
    fn may_be(&self, task: Option<&str>) -> bool {
        self.task.is_none() || task.is_none() || self.task.as_deref() == task
    }

    /// Sees to it that it is checked in this way, or not at all. Who leaves is not asked any more.
    fn check(&mut self, upstream: &Arc<Upstream>, check: Option<&Check>, trust: &Arc<Trust>) {
        let wanted = check.filter(|_| !self.endpoint.health.is_draining());
        if self.checking.as_ref().map(|checking| &checking.check) == wanted {
            return;
        }
        self.checking = None;
        match wanted {
            Some(check) => {
                self.checking = Some(Checking::begin(upstream, &self.endpoint, check, trust));
            }
            None if check.is_none() => {
                self.endpoint.health.forget_checks();
                self.endpoint.last_check.store(None);
                upstream.arrivals.notify_waiters();
            }
            None => {}
        }
    }

    fn updated(mut self, member: Member, upstream: &Upstream) -> Self {
        if self.slot != member.slot {
            let (id, service) = (&upstream.key.service_id, &upstream.service);
            self.endpoint.set_mark(Mark::of_slot(id, service, &member.slot));
            self.slot = member.slot;
        }
        self.task = member.task.or_else(|| self.task.take());
        self.endpoint.health.set_draining(member.draining, clock::now());
        if **self.endpoint.name.load() != member.name {
            self.endpoint.name.store(Arc::new(member.name));
        }
        self
    }
}
