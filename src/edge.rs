//! The role `edge`: builds everything once, wires it, and owns the order of its end.
//!
//! One thread per core runs that core's listeners and requests; the thread that calls
//! [`RunningEdge::run`] has the control side: provider, compilation and discovery.

mod binding;
mod holding;
mod intake;
mod readiness;
mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, info, warn};

use crate::clock;
use crate::config::{self, Config, LogFormat};
use crate::diagnostic::{Diagnostic, Severity};
use crate::discovery::{self, Discovery};
use crate::dns::{Resolver, ResolverError};
use crate::handover::Held;
use crate::identity::KeyError;
use crate::inventory::Network;
use crate::listener;
use crate::memory::Meter;
use crate::provider::{Provider, Update};
use crate::proxy::Proxy;
use crate::proxy::activity::Connections;
use crate::snapshot::{Edge, EdgeListener, Snapshot};
use crate::telemetry::access::AccessLog;
use crate::tls::{Certificates, Watch};

use self::holding::{Following, Holder};
use self::intake::Intake;
use self::worker::{Accepting, Left};

pub use self::readiness::Readiness;

/// With its first table an edge waits for its replicas that long before it accepts: requests that
/// came at once would only wait inside.
const SETTLING: Duration = Duration::from_secs(2);

/// The same where an earlier process of this edge has died: clients are waiting already.
const SETTLING_AGAIN: Duration = Duration::from_millis(250);

/// From its leave of the role `sockets`, which may be waiting for that to end, an edge accepts for so long.
const LEAVE: Duration = Duration::from_millis(100);

/// How often an edge without an inventory says why.
const REMINDER: Duration = Duration::from_mins(1);

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not allowed.
    #[error(
        "cannot listen on {address} for `{listener}`: {source}; another program may have the port, \
         or ports below 1024 may be forbidden here"
    )]
    Bind {
        /// The listener's name.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error("cannot start a worker thread")]
    Worker(#[source] io::Error),
    /// There is no resolver.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// An agent has no secret, or a wrong one.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The same for an edge, which can do without agents.
    #[error(
        "{0}; to do without agents, write `kind = \"docker\"` under `[provider]` to read Docker's \
         socket, or `kind = \"file\"` with `path = \"services.toml\"`"
    )]
    EdgeKeys(#[source] KeyError),
    /// There is no randomness for keys.
    #[error("cannot prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The metrics contradict each other.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// A listener of an edge that runs.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Its address, with the port that the kernel chose if none was given.
    pub address: SocketAddr,
    /// Whether it offers the routes that name no listener.
    pub default: bool,
    /// Its connections.
    pub connections: Arc<Connections>,
}

/// An edge: its data path and the threads that run it.
#[derive(Debug)]
pub struct RunningEdge {
    /// What requests see.
    pub proxy: Arc<Proxy>,
    /// Its listeners, in the order in which the proxy knows them.
    pub listeners: Vec<Bound>,
    /// Tables put in force so far.
    pub swaps: Arc<AtomicU64>,
    /// The certificates that its listeners serve.
    pub certificates: Arc<Certificates>,
    /// What keeps them up to date, until the edge runs.
    watch: Option<Watch>,
    /// What tells whether memory runs short; none without a limit.
    meter: Option<Meter>,
    provider: Provider,
    description: Edge,
    discovery: Discovery,
    accepting: watch::Sender<Accepting>,
    workers: Vec<thread::JoinHandle<()>>,
    /// What accepts on sockets that come later, until the edge runs.
    following: Option<Following>,
    /// The sockets that the role `sockets` has as well, until they are listened on.
    unheard: Vec<Held>,
    /// The sockets that only this process has, once more.
    own: Vec<Held>,
    /// The sockets that are left to the next edge at the end.
    left: Left,
    /// How long the replicas of the first table are waited for.
    settling: Duration,
    /// Where the role `sockets` would be.
    sockets: PathBuf,
}

impl RunningEdge {
    /// Binds the listeners, or takes their sockets from the role `sockets`, and starts the threads.
    /// Nothing is accepted before the first table.
    ///
    /// # Errors
    /// If an address cannot be bound or a thread not be started.
    pub fn start(config: &Config, provider: Provider) -> Result<Self, StartError> {
        Self::start_with(config, provider, Vec::new())
    }

    /// The same with sockets that have outlived an earlier process of this edge.
    ///
    /// # Errors
    /// If an address cannot be bound or a thread not be started.
    pub fn start_with(
        config: &Config,
        provider: Provider,
        kept: Vec<Held>,
    ) -> Result<Self, StartError> {
        let cores = config.runtime.threads();
        let (accepting, accepts) = watch::channel(Accepting::NotYet);
        let (listeners, watch) = binding::with_certificates(config)?;
        let certificates = watch.certificates();
        let mut holder = Holder::at(&config.sockets.path);
        let settling = if kept.is_empty() { SETTLING } else { SETTLING_AGAIN };
        let doors = binding::bind_all(&listeners, holder.ask(), kept, cores)?;
        let connections = intake::connections(config, listeners.len());
        let bound = binding::bound(&listeners, &doors, &connections);
        let proxy = binding::proxy(&listeners, &bound, cores, &certificates);
        let (handles, threads) = worker::start_all(config, &proxy, &accepts)?;
        let places = intake::places(config, &listeners, &certificates, connections)?;
        let intake = Intake::new(&handles, places, accepts);
        let [unheard, own] = intake.open_all(doors, &mut holder);
        let discovery = Discovery::new(discovery::Context {
            resolver: Resolver::new(config.dns.server, config.dns.timeout)?,
            pace: discovery::Pace::of(config.dns),
            provider: provider.clone(),
            trust: Arc::clone(&proxy.trust),
            cores: handles,
        });
        Ok(Self {
            description: describe(config, &bound, cores),
            proxy,
            listeners: bound,
            swaps: Arc::default(),
            certificates,
            watch: Some(watch),
            meter: Meter::find(config.limits.memory),
            provider,
            discovery,
            accepting,
            workers: threads,
            left: Arc::clone(&intake.left),
            following: Some(Following { holder, intake, listeners }),
            unheard,
            own,
            settling,
            sockets: config.sockets.path.clone(),
        })
    }

    /// The sockets that only this process has, for whoever keeps them if it dies. They are closed here
    /// when the edge runs, or what waits in them would be lost at its end.
    pub fn take_own_sockets(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.own)
    }

    /// Writes a line about each request to `out`. Called before the edge runs, and once.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub fn log_requests(
        &self,
        format: LogFormat,
        out: impl io::Write + Send + 'static,
    ) -> Result<(), StartError> {
        let log = AccessLog::start(format, self.description.cores, out);
        let _ = self.proxy.access_log.set(log.map_err(StartError::Worker)?);
        Ok(())
    }

    /// Follows the provider until `stop` completes, then drains and ends.
    pub async fn run(mut self, drain: config::Drain, stop: impl Future<Output = ()>) {
        drop(self.take_own_sockets());
        let watching = self.watch.take().map(|watch| tokio::spawn(watch.follow()));
        let following = self.following.take().map(|it| tokio::spawn(it.run()));
        let memory = Arc::clone(&self.proxy.memory);
        let measuring = self.meter.take().map(|meter| tokio::spawn(meter.follow(memory)));
        let mut updates = self.provider.updates();
        let mut stop = std::pin::pin!(stop);
        let mut reminder = interval(REMINDER);
        reminder.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reminder.reset();
        loop {
            tokio::select! {
                changed = updates.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let update = updates.borrow_and_update().clone();
                    if let Some(update) = update {
                        self.apply(&update);
                        self.accept_from_now_on().await;
                    }
                }
                _ = reminder.tick(), if *self.accepting.borrow() == Accepting::NotYet => {
                    warn!("no inventory yet: nothing is served, see the provider's messages above");
                }
                () = &mut stop => break,
            }
        }
        self.drain(drain, following).await;
        watching.into_iter().chain(measuring).for_each(|task| task.abort());
    }

    /// Compiles the table for a new state of the Swarm and puts it in force.
    fn apply(&mut self, update: &Update) {
        if let Some(networks) = &update.networks {
            self.description.networks = self.attached(networks);
        }
        let previous = self.proxy.snapshot.load();
        let started = clock::now();
        let next = Arc::new(Snapshot::compile(&update.inventory, &self.description, &previous));
        let took_ms = clock::now().since(started).as_secs_f64() * 1e3;
        self.proxy.snapshot.store(Arc::clone(&next));
        self.swaps.fetch_add(1, Relaxed);
        self.discovery.reconcile(&next);
        let (routes, services) = (next.routes.len(), next.upstreams.len());
        info!(routes, services, took_ms, "routing table put in force");
        let known = |diagnostic: &&Diagnostic| !previous.diagnostics.contains(*diagnostic);
        next.diagnostics.iter().filter(known).for_each(log);
    }

    /// The networks that count: those of the own task, or of them the ones that are configured.
    fn attached(&self, own: &[Network]) -> Vec<Network> {
        let configured = &self.description.only_networks;
        let counts =
            |network: &&Network| configured.is_empty() || configured.contains(&network.name);
        own.iter().filter(counts).cloned().collect()
    }

    /// Begins to accept once the replicas of the first table have been reached, or a moment later.
    async fn accept_from_now_on(&mut self) {
        if *self.accepting.borrow() != Accepting::NotYet {
            return;
        }
        let snapshot = self.proxy.snapshot.load_full();
        let reached = async {
            for (upstream, source) in snapshot.upstreams.values() {
                let usable = || {
                    let endpoints = upstream.endpoints();
                    endpoints.iter().any(|at| at.health.state(clock::now()).accepts())
                };
                while source.desired() > 0 && !usable() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let _ = timeout(self.settling, reached).await;
        // Before anybody is told that this edge serves. What fails, the cores complain of.
        self.unheard.drain(..).for_each(|it| drop(listener::listen(&it.socket)));
        self.accepting.send_replace(Accepting::Yes);
        for listener in &self.listeners {
            info!(listener = listener.name, address = %listener.address, "listening");
        }
    }

    /// Whether a table is in force and the edge is not about to end.
    pub fn readiness(&self) -> Readiness {
        Readiness { accepting: self.accepting.subscribe(), proxy: Arc::clone(&self.proxy) }
    }

    /// Ends without cutting anything off: clients are told to go, new ones are taken until nobody
    /// can be on the way any more, and what is under way finishes.
    async fn drain(self, drain: config::Drain, following: Option<JoinHandle<()>>) {
        let seconds = drain.timeout.as_secs();
        info!(seconds, "draining");
        self.proxy.draining.store(true, Relaxed);
        self.discovery.wake_cores();
        // A load balancer in front learns of it by our health path, and others by DNS.
        sleep(drain.delay).await;
        // Sockets that somebody else has by now are that one's. The role `sockets` may have them no longer:
        // when a node is drained, it ends along with its edge, once that has taken its leave.
        if let Some(following) = following {
            following.abort();
            sleep(LEAVE).await;
        }
        let _ = self.left.set(holding::held_at(self.sockets.clone()).await);
        self.accepting.send_replace(Accepting::NoLonger);
        self.proxy.closing.store(true, Relaxed);
        self.discovery.wake_cores();
        let ended = async {
            for listener in &self.listeners {
                listener.connections.all_ended().await;
            }
        };
        if timeout(drain.timeout.saturating_sub(drain.delay), ended).await.is_err() {
            let open: usize =
                self.listeners.iter().map(|at| at.connections.open.load(Relaxed)).sum();
            warn!(open, "connections were still open when the time to drain was over");
        }
        self.accepting.send_replace(Accepting::Ended);
        for worker in self.workers {
            if worker.join().is_err() {
                error!("a worker thread had panicked");
            }
        }
        if let Some(log) = self.proxy.access_log.get() {
            log.finish().await;
        }
        info!("ended");
    }
}

fn describe(config: &Config, bound: &[Bound], cores: usize) -> Edge {
    let listeners = bound.iter().map(|bound| EdgeListener {
        name: bound.name.clone(),
        default: bound.default,
        address: bound.address,
    });
    let named = config.provider.networks.iter();
    Edge {
        listeners: listeners.collect(),
        instance: config.provider.instance.clone(),
        // Known by name only, until the own task tells more.
        networks: named.map(|name| Network { name: name.clone(), ..Network::default() }).collect(),
        only_networks: config.provider.networks.clone(),
        hosts: config.provider.hosts.clone().into_iter().collect(),
        verifies_clients: config.tls.client_ca.is_some(),
        cores,
    }
}

fn log(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Error => error!(service = diagnostic.service, "{diagnostic}"),
        Severity::Warning => warn!(service = diagnostic.service, "{diagnostic}"),
    }
}
