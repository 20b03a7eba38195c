//! An edge on a thread of its own, on a port that the kernel picks.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hiveway::config::Config;
use hiveway::edge::{Readiness, RunningEdge};
use hiveway::inventory::{FixedReplica, Inventory, Network, Replicas, SwarmService, SwarmTask};
use hiveway::provider::given::{Giver, given};
use hiveway::provider::{Provider, saved};
use hiveway::proxy::Proxy;
use hiveway::proxy::activity::Connections;
use hiveway::upstream::{Endpoint, Upstream};
use tokio::sync::oneshot;

use super::{eventually, soon};

/// An edge that runs. It stops when it is dropped.
pub(crate) struct Ingress {
    pub(crate) address: SocketAddr,
    /// The second listener, if there is one.
    pub(crate) second: Option<SocketAddr>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) readiness: Readiness,
    /// Its access log, with the option `log.access=true`.
    pub(crate) log: AccessLines,
    swaps: Arc<AtomicU64>,
    giver: Giver,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

/// Options that every edge here has; a test may set others, or these anew.
const OPTIONS: &str = "provider.kind=docker runtime.workers=1 listeners.web.address=127.0.0.1:0 \
                       dns.server=127.0.0.1:9 log.access=false drain.delay=0s drain.timeout=3s";

impl Ingress {
    /// An edge in front of these services; it has reached every replica of theirs.
    pub(crate) async fn start(services: impl Into<Vec<SwarmService>>) -> Self {
        Self::with_options("", services).await
    }

    /// An edge in front of one service with one replica, which takes all requests.
    pub(crate) async fn before(replica: SocketAddr) -> Self {
        Self::start([service("shop", "hiveway.path=/", &[replica])]).await
    }

    /// The same, and the replica speaks HTTP/2.
    pub(crate) async fn before_h2(replica: SocketAddr) -> Self {
        Self::start([service("shop", "hiveway.protocol=h2c", &[replica])]).await
    }

    /// The same with options like `drain.delay=1s listeners.web.health-path=/up`.
    pub(crate) async fn with_options(
        options: &str,
        services: impl Into<Vec<SwarmService>>,
    ) -> Self {
        let (provider, giver) = given();
        let mut ingress = Self::launch(options, provider, giver, pending()).await;
        ingress.deploy(services).await;
        ingress.readiness.wait().await;
        ingress
    }

    /// An edge whose provider is silent until something is deployed, and that keeps its state here.
    pub(crate) async fn silent(directory: &Path) -> Self {
        let (live, giver) = given();
        let patience = Duration::from_millis(50);
        let (provider, saving) = saved::follow(&live, directory, patience);
        Self::launch("", provider, giver, saving).await
    }

    /// An edge that runs, and what drives its provider.
    async fn launch(
        options: &str,
        provider: Provider,
        giver: Giver,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let config = config(options);
        let log = AccessLines::default();
        let lines = log.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (sender, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let driver = tokio::spawn(driver);
                let edge = RunningEdge::start(&config, provider).unwrap();
                if config.log.access {
                    edge.log_requests(config.log.format, lines).unwrap();
                }
                let bound = edge.listeners.clone();
                let shared =
                    (Arc::clone(&edge.proxy), bound, Arc::clone(&edge.swaps), edge.readiness());
                let _ = sender.send(shared);
                edge.run(config.drain, async { drop(stopped.await) }).await;
                driver.abort();
                let _ = end.send(());
            });
        });
        let (proxy, bound, swaps, readiness) = soon("an edge", started).await.unwrap();
        let second = bound.get(1).map(|second| second.address);
        let (address, connections) = (bound[0].address, Arc::clone(&bound[0].connections));
        let stop = Some(stop);
        Self { address, second, proxy, connections, readiness, log, swaps, giver, stop, ended }
    }

    /// Replaces all services, and waits until every replica has been reached.
    pub(crate) async fn deploy(&self, services: impl Into<Vec<SwarmService>>) {
        self.announce(services).await;
        eventually("every replica was reached", || {
            let reached =
                |endpoint: &Endpoint| endpoint.health.state(hiveway::clock::now()).accepts();
            self.upstreams().iter().all(|(upstream, desired)| {
                let endpoints = upstream.endpoints();
                endpoints.len() as u64 >= *desired && endpoints.iter().all(|at| reached(at))
            })
        })
        .await;
    }

    /// Replaces all services, and waits until the new table is in force.
    pub(crate) async fn announce(&self, services: impl Into<Vec<SwarmService>>) {
        let services = services.into().into_iter().enumerate();
        let services = services.map(|(age, service)| SwarmService {
            created_at: format!("2026-01-01T00:00:00.{age:09}Z"),
            ..service
        });
        let before = self.swaps.load(Relaxed);
        self.giver.give(Inventory { services: services.collect() }, Some(vec![network()]));
        eventually("the table was in force", || self.swaps.load(Relaxed) > before).await;
    }

    fn upstreams(&self) -> Vec<(Arc<Upstream>, u64)> {
        let snapshot = self.proxy.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        upstreams.map(|(upstream, source)| (Arc::clone(upstream), source.desired())).collect()
    }

    /// The upstream of a service.
    pub(crate) fn upstream(&self, service: &str) -> Arc<Upstream> {
        let mut upstreams = self.upstreams().into_iter().map(|(upstream, _)| upstream);
        upstreams.find(|upstream| upstream.service == service).unwrap()
    }

    /// The endpoint at an address; none if no service has it.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let upstreams = self.upstreams();
        let endpoints = upstreams.iter().flat_map(|(upstream, _)| upstream.endpoints().to_vec());
        let mut endpoints = endpoints.filter(|endpoint| endpoint.address == address);
        endpoints.next()
    }

    /// The word for the state of the endpoint at an address.
    pub(crate) fn state(&self, address: SocketAddr) -> &'static str {
        self.endpoint(address)
            .map_or("gone", |endpoint| endpoint.health.state(hiveway::clock::now()).word())
    }

    /// How many requests were counted with a status, whatever else is known about them.
    pub(crate) fn counted(&self, status: u16) -> u64 {
        let snapshot = self.proxy.snapshot.load();
        let routes = snapshot.routes.iter().map(|route| &route.counters);
        let mut count = 0;
        for cells in routes.chain([&self.proxy.unrouted]) {
            for cell in cells.each() {
                let same = cell.requests.iter().filter(|((_, _, counted), _)| *counted == status);
                count += same.map(|(_, count)| count).sum::<u64>();
            }
        }
        count
    }

    /// How many requests and connections were counted as refused for that reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let cells = self.proxy.refused.each();
        let count = |cell: &hiveway::counters::Tally<(usize, &'static str)>| {
            let same = cell.iter().filter(|((_, counted), _)| *counted == reason);
            same.map(|(_, count)| count).sum::<u64>()
        };
        cells.map(|cell| count(&cell)).sum()
    }

    /// Bytes of bodies that came from clients, and that went to them.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let snapshot = self.proxy.snapshot.load();
        let cells = snapshot.routes.iter().flat_map(|route| route.counters.each());
        cells.fold((0, 0), |(received, sent), cell| {
            (received + cell.request_bytes, sent + cell.response_bytes)
        })
    }

    /// How many gRPC calls were counted that ended so: `Unavailable`.
    pub(crate) fn calls(&self, code: &str) -> u64 {
        let snapshot = self.proxy.snapshot.load();
        let routes = snapshot.routes.iter().map(|route| &route.counters);
        let cells = routes.chain([&self.proxy.unrouted]).flat_map(|cells| cells.each());
        let count =
            |calls: &hiveway::counters::Tally<_>| calls.iter().find(|(name, _)| *name == code);
        cells.filter_map(|cell| count(&cell.calls)).map(|(_, count)| count).sum()
    }

    /// How many requests of the endpoint at an address had that outcome.
    pub(crate) fn outcomes(&self, address: SocketAddr, outcome: &str) -> u64 {
        let endpoint = self.endpoint(address).unwrap();
        let cells = endpoint.counters.each();
        let count = |cell: std::sync::MutexGuard<'_, hiveway::counters::EndpointCell>| {
            let found = cell.requests.iter().find(|(word, _)| *word == outcome);
            found.map_or(0, |(_, count)| count)
        };
        cells.map(count).sum()
    }

    /// Tells the edge to end, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) {
        soon("the edge's end", &mut self.ended).await.unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended.try_recv().is_ok()
    }
}

/// What an edge writes about its requests, line by line.
#[derive(Clone, Default)]
pub(crate) struct AccessLines(Arc<Mutex<Vec<u8>>>);

impl AccessLines {
    /// All that were written so far.
    pub(crate) fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The fields of that many lines, once they are there.
    pub(crate) async fn read(&self, count: usize) -> Vec<serde_json::Value> {
        eventually("all requests were written", || self.all().len() >= count).await;
        self.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl std::io::Write for AccessLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(options: &str) -> Config {
    let written = OPTIONS.split_whitespace().chain(options.split_whitespace());
    let flags: BTreeMap<_, _> = written
        .filter_map(|option| option.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Config::read(None, &[], &flags).unwrap().0
}

/// A service with labels like `hiveway.host=old.test hiveway.weight=10` and its replicas.
pub(crate) fn service(name: &str, labels: &str, replicas: &[SocketAddr]) -> SwarmService {
    let replicas = replicas.iter().map(|address| FixedReplica::Address(*address)).collect();
    // Replicas of gRPC follow scripts here, which know nothing of checks unless a test is about them.
    let unchecked = labels.contains("protocol=grpc") && !labels.contains("hiveway.health.");
    let labels = labels.split_whitespace().chain(unchecked.then_some("hiveway.health.path=none"));
    let labels = labels.map(|label| label.split_once('=').unwrap());
    SwarmService {
        id: name.to_owned(),
        name: name.to_owned(),
        stack: name.split_once('_').map(|(stack, _)| stack.to_owned()),
        labels: labels.map(|(label, value)| (label.to_owned(), value.to_owned())).collect(),
        replicas: Replicas::Fixed(replicas),
        ..SwarmService::default()
    }
}

/// The same of a Swarm, whose tasks are told by the task list alone: each at an address of its own,
/// running or stopping, all on the port of the label `hiveway.port`.
pub(crate) fn swarm_service(
    name: &str,
    labels: &str,
    desired: u64,
    tasks: &[(Ipv4Addr, bool)],
) -> SwarmService {
    let task = |(address, running): &(Ipv4Addr, bool)| SwarmTask {
        id: format!("task-{address}"),
        slot: address.octets()[3].to_string(),
        running: *running,
        ending: false,
        addresses: [(network().id, *address)].into(),
        ..SwarmTask::default()
    };
    let tasks = tasks.iter().map(task).collect();
    SwarmService {
        networks: vec![network()],
        replicas: Replicas::Tasks { desired, tasks },
        ..service(name, labels, &[])
    }
}

fn network() -> Network {
    Network { id: "net".into(), name: "net".into(), subnet: "127.0.0.0/8".parse().ok() }
}
