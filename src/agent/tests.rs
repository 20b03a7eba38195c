use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::*;
use crate::clock;
use crate::config::AgentAddress;
use crate::dns::Resolver;
use crate::docker::fake::{FakeEngine, Mood};
use crate::identity::EdgeKeys;
use crate::keys::AgentSecret;
use crate::provider::agent::Options;
use crate::provider::{Provider, Update};

/// So long that what hangs is told from what is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent on the loopback address that runs until this is dropped.
struct Running {
    agent: Arc<Agent>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

fn pace() -> Pace {
    Pace {
        debounce: Duration::from_millis(20),
        resync: Duration::from_millis(200),
        distance: Duration::from_millis(10),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(20),
    }
}

fn secret(seed: u8) -> AgentSecret {
    AgentSecret::new([seed; 32]).unwrap()
}

impl Running {
    fn of(engine: &FakeEngine) -> Self {
        Self::start(engine, (Ipv4Addr::LOCALHOST, 0).into(), pace())
    }

    fn start(engine: &FakeEngine, address: SocketAddr, pace: Pace) -> Self {
        let socket = StdListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let engine = Engine::with_limit(engine.socket(), Duration::from_millis(100));
        let (agent, driver) = follow(engine, pace, HOSTNAME.to_owned());
        let keys = AgentKeys::new(&secret(1), None).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let served = serve(socket, keys, Arc::clone(&agent));
        tasks.spawn(async { served.await.unwrap() });
        Self { agent, address, _tasks: tasks }
    }

    fn sent(&self) -> u64 {
        self.agent.counts.sent_bytes.load(Relaxed)
    }

    async fn followers(&self, number: u64) {
        until(|| self.agent.counts.followers.load(Relaxed) == number).await;
    }

    fn refused(&self, reason: &str) -> u64 {
        let mut refused = self.agent.counts.refused();
        refused.find_map(|(word, count)| (word == reason).then_some(count)).unwrap()
    }
}

/// Host name of every agent.
const HOSTNAME: &str = "a9e27a9e27a9";
/// Host name of every edge.
const EDGE: &str = "ed6eed6eed6e";

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, held).await.unwrap();
}

/// An edge's provider that runs until this is dropped.
struct Edge {
    provider: Provider,
    updates: watch::Receiver<Option<Update>>,
    _tasks: JoinSet<()>,
}

impl Edge {
    fn of(agents: &[SocketAddr]) -> Self {
        Self::with_secret(agents, &secret(1))
    }

    fn with_secret(agents: &[SocketAddr], secret: &AgentSecret) -> Self {
        let (provider, driver) = crate::provider::agent::follow(Options {
            agents: agents.iter().copied().map(AgentAddress::Address).collect(),
            keys: EdgeKeys::new(secret.edge(), None).unwrap(),
            resolver: Resolver::new(None, Duration::from_millis(100)).unwrap(),
            hostname: EDGE.to_owned(),
            time: None,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Self { updates: provider.updates(), provider, _tasks: tasks }
    }

    fn label(&self) -> Option<String> {
        let updates = self.updates.borrow();
        let services = &updates.as_ref()?.inventory.services;
        let (name, value) = services.first()?.labels.first_key_value()?;
        Some(format!("{name}={value}"))
    }

    async fn has(&self, label: &str) {
        until(|| self.label().as_deref() == Some(label)).await;
    }

    fn followed(&self) -> Option<SocketAddr> {
        let agents = self.provider.agents();
        Some(agents.iter().find(|agent| agent.followed)?.address.parse().unwrap())
    }

    async fn follows(&self, agent: &Running) {
        until(|| self.followed() == Some(agent.address)).await;
    }

    fn trouble(&self) -> String {
        let agents = self.provider.agents();
        agents.first().and_then(|agent| agent.trouble.clone()).unwrap_or_default()
    }
}

#[tokio::test]
async fn an_edge_hears_what_the_swarm_runs_and_of_every_change() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    engine.watched(1).await;
    engine.relabel("hiveway.port=2");
    engine.event();
    edge.has("hiveway.port=2").await;
    assert_eq!(edge.followed(), Some(agent.address));
    assert!(edge.provider.last_success_unix_seconds() > 1e9);
}

/// Many services of four tasks each; the first has the label.
fn many(services: usize, label: &str) -> (String, String) {
    let (name, value) = label.split_once('=').unwrap();
    let service = |at: usize| {
        let (name, value) = if at == 0 { (name, value) } else { ("hiveway.port", "80") };
        format!(
            r#"{{"ID": "s{at:023}", "Version": {{"Index": {at}}}, "Spec": {{"Name": "stack_{at:03}",
                "Labels": {{"{name}": "{value}", "com.docker.stack.namespace": "stack"}}}}}}"#
        )
    };
    let task = |at: usize| {
        let (a, b) = (at / 250, at % 250 + 2);
        format!(
            r#"{{"ID": "t{at:023}", "ServiceID": "s{:023}", "Slot": {}, "DesiredState": "running",
                "Status": {{"State": "running"}}, "CreatedAt": "2026-01-01T00:00:00.000000001Z",
                "NetworksAttachments": [{{"Network": {{"ID": "n{:023}", "Spec": {{"Name": "web"}}}},
                    "Addresses": ["10.1.{a}.{b}/20"]}}]}}"#,
            at / 4,
            at % 4 + 1,
            0
        )
    };
    let list = |texts: Vec<String>| format!("[{}]", texts.join(","));
    (list((0..services).map(service).collect()), list((0..services * 4).map(task).collect()))
}

#[tokio::test]
async fn of_many_services_only_the_one_that_changed_is_told() {
    let engine = FakeEngine::start("hiveway.port=1");
    let (services, tasks) = many(300, "hiveway.port=1");
    engine.set_services(services);
    engine.set_tasks(tasks);
    let agent = Running::of(&engine);
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    let whole = agent.sent();
    assert!(whole > 150_000, "{whole}");
    engine.set_services(many(300, "hiveway.port=2").0);
    edge.provider.ask();
    edge.has("hiveway.port=2").await;
    let change = agent.sent() - whole;
    // The service with its four tasks, and some beats.
    assert!(change < 5_000, "{change}");
}

#[tokio::test]
async fn what_an_edge_meets_makes_the_agent_look_at_once() {
    let engine = FakeEngine::start("hiveway.port=1");
    let socket = (Ipv4Addr::LOCALHOST, 0).into();
    let agent = Running::start(&engine, socket, Pace { resync: PATIENCE * 9, ..pace() });
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    engine.relabel("hiveway.port=2");
    let before = clock::now();
    edge.provider.ask();
    edge.has("hiveway.port=2").await;
    assert!(edge.provider.listed_at() > before);
}

#[tokio::test]
async fn when_an_agent_ends_another_is_followed_and_tells_nothing_twice() {
    let engine = FakeEngine::start("hiveway.port=1");
    let (services, tasks) = many(300, "hiveway.port=1");
    engine.set_services(services);
    engine.set_tasks(tasks);
    let (one, other) = (Running::of(&engine), Running::of(&engine));
    let mut edge = Edge::of(&[one.address, other.address]);
    edge.has("hiveway.port=1").await;
    until(|| edge.followed().is_some()).await;
    let (first, second) =
        if edge.followed() == Some(one.address) { (one, other) } else { (other, one) };
    edge.updates.mark_unchanged();
    // It may have been asked at the start, when the first one took its time.
    let told = second.sent();
    let ended = clock::now();
    drop(first);
    edge.follows(&second).await;
    let took = clock::now().since(ended);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(second.sent() - told < 5_000, "{told} and {}", second.sent());
    assert!(!edge.updates.has_changed().unwrap());
}

/// Passes connections on to an agent until it falls silent, which nobody is told.
struct Wire {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Wire {
    async fn to(agent: &Running) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, target) = (socket.local_addr().unwrap(), agent.address);
        let (silent, is_silent) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((mut near, _)) = socket.accept().await {
                let mut is_silent = is_silent.clone();
                pairs.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        _ = is_silent.wait_for(|silent| *silent) => {}
                    }
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { address, silent, _tasks: tasks }
    }
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_left_within_seconds() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let wires = [Wire::to(&agent).await, Wire::to(&agent).await];
    let edge = Edge::of(&[wires[0].address, wires[1].address]);
    until(|| edge.followed().is_some()).await;
    let silenced = wires.iter().find(|wire| edge.followed() == Some(wire.address)).unwrap();
    let other = wires.iter().find(|wire| edge.followed() != Some(wire.address)).unwrap();
    let since = clock::now();
    silenced.silent.send_replace(true);
    until(|| edge.followed() == Some(other.address)).await;
    let took = clock::now().since(since);
    assert!(took < Duration::from_millis(2_900), "{took:?}");
    engine.relabel("hiveway.port=2");
    edge.provider.ask();
    edge.has("hiveway.port=2").await;
}

#[tokio::test]
async fn an_agent_whose_engine_is_silent_says_so_and_is_left_for_one_that_knows() {
    let (one, other) = (FakeEngine::start("hiveway.port=1"), FakeEngine::start("hiveway.port=1"));
    let agents = [Running::of(&one), Running::of(&other)];
    let edge = Edge::of(&[agents[0].address, agents[1].address]);
    until(|| edge.followed().is_some()).await;
    let (hung, well, left) = if edge.followed() == Some(agents[0].address) {
        (&one, &other, &agents[1])
    } else {
        (&other, &one, &agents[0])
    };
    hung.turn(Mood::Hung);
    edge.follows(left).await;
    well.relabel("hiveway.port=2");
    edge.provider.ask();
    edge.has("hiveway.port=2").await;
}

#[tokio::test]
async fn an_agent_alone_whose_engine_is_silent_still_gives_what_it_has() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    until(|| agent.agent.knowledge().edition().is_some()).await;
    engine.turn(Mood::Hung);
    until(|| agent.agent.knowledge().trouble.is_some()).await;
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    until(|| edge.trouble().contains("no answer to GET /")).await;
    assert_eq!(edge.followed(), None);
    engine.turn(Mood::Well);
    edge.follows(&agent).await;
    assert_eq!(edge.trouble(), "");
}

#[tokio::test]
async fn what_is_older_in_the_time_of_the_swarm_is_not_believed() {
    let old = FakeEngine::start("hiveway.port=1");
    let new = FakeEngine::start("hiveway.port=2");
    new.relabel_at("hiveway.port=2", 200);
    let ahead = Running::of(&new);
    let address = (Ipv4Addr::new(127, 0, 94, 9), ahead.address.port()).into();
    let edge = Edge::of(&[address, ahead.address]);
    edge.follows(&ahead).await;
    let behind = Running::start(&old, address, pace());
    drop(ahead);
    until(|| edge.trouble().contains("older state")).await;
    assert_eq!(edge.label().as_deref(), Some("hiveway.port=2"));
    old.relabel_at("hiveway.port=3", 201);
    edge.has("hiveway.port=3").await;
    edge.follows(&behind).await;
}

#[tokio::test]
async fn a_newly_made_swarm_is_believed_though_its_time_has_just_begun() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    // To leave a Swarm is to fail for a while.
    engine.turn(Mood::Refusing(503, "This node is not a swarm manager."));
    until(|| agent.agent.knowledge().trouble.is_some()).await;
    engine.join("another");
    engine.relabel_at("hiveway.port=2", 7);
    engine.turn(Mood::Well);
    edge.has("hiveway.port=2").await;
}

#[tokio::test]
async fn an_agent_that_is_to_end_tells_on_while_it_is_followed() {
    let engine = FakeEngine::start("hiveway.port=1");
    let running = Running::of(&engine);
    let stop = Notify::new();
    let stopped = async || stop.notified().await;
    let still_there = Duration::from_millis(300);
    for asked_twice in [false, true] {
        let edge = Edge::of(&[running.address]);
        edge.follows(&running).await;
        engine.watched(1).await;
        stop.notify_one();
        let mut released = pin!(running.agent.released(stopped));
        timeout(still_there, &mut released).await.expect_err("it is followed");
        let label = if asked_twice { "hiveway.port=3" } else { "hiveway.port=2" };
        engine.relabel(label);
        engine.event();
        edge.has(label).await;
        if asked_twice {
            stop.notify_one();
        } else {
            drop(edge);
        }
        timeout(PATIENCE, released).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_restarts_is_found_again() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let address = agent.address;
    let edge = Edge::of(&[address]);
    edge.has("hiveway.port=1").await;
    drop(agent);
    until(|| edge.trouble().contains("nobody listens")).await;
    engine.relabel("hiveway.port=2");
    let agent = Running::start(&engine, address, pace());
    edge.has("hiveway.port=2").await;
    edge.follows(&agent).await;
}

#[tokio::test]
async fn a_wrong_key_is_told_on_both_sides_and_nothing_is_learned_with_it() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let edge = Edge::with_secret(&[agent.address], &secret(2));
    until(|| edge.trouble().contains("hiveway token")).await;
    until(|| agent.refused("handshake") > 0).await;
    assert_eq!((edge.label(), agent.sent()), (None, 0));
    agent.followers(0).await;
}

/// A task of an agent or an edge, on a node.
fn task(service: &str, hostname: &str, node: &str, address: Ipv4Addr) -> String {
    format!(
        r#"{{"ID": "{hostname}", "ServiceID": "{service}", "NodeID": "{node}",
            "DesiredState": "running", "Status": {{"State": "running",
            "ContainerStatus": {{"ContainerID": "{hostname}"}}}},
            "NetworksAttachments": [{{"Network": {{"ID": "n1", "Spec": {{"Name": "control"}}}},
                "Addresses": ["{address}/8"]}}]}}"#
    )
}

#[tokio::test]
async fn the_agent_on_the_own_node_is_preferred_and_the_own_networks_are_told() {
    let engine = FakeEngine::start("hiveway.port=1");
    let addresses = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 94, last));
    let [agent1, agent2, edge] = [("a9e27a9e27a9", 0), ("b9e27b9e27b9", 1), (EDGE, 2)];
    let tasks = [
        task("agents", agent1.0, "node1", addresses[agent1.1]),
        task("agents", agent2.0, "node2", addresses[agent2.1]),
        task("edges", edge.0, "node2", addresses[edge.1]),
    ];
    engine.set_tasks(format!("[{}]", tasks.join(",")));
    let far = Running::start(&engine, (addresses[0], 0).into(), pace());
    let near = (addresses[1], far.address.port()).into();
    let edge = Edge::of(&[far.address, near]);
    edge.follows(&far).await;
    let near = Running::start(&engine, near, pace());
    // It failed a moment ago, as far as the edge knows; what ends the other one brings it there.
    drop(far);
    edge.follows(&near).await;
    let far = Running::start(&engine, (addresses[0], near.address.port()).into(), pace());
    let edge = Edge::of(&[far.address, near.address]);
    edge.follows(&near).await;
    let networks = edge.updates.borrow().as_ref().unwrap().networks.clone().unwrap();
    assert_eq!(networks[0].name, "control");
}

type Sender = hyper::client::conn::http2::SendRequest<http_body_util::Empty<bytes::Bytes>>;

/// A connection of an edge's making, with a window of a few bytes.
async fn dial(agent: &Running) -> (Sender, JoinSet<()>) {
    let keys = EdgeKeys::new(secret(1).edge(), None).unwrap();
    let stream = TcpStream::connect(agent.address).await.unwrap();
    let stream = hyper_util::rt::TokioIo::new(keys.connect(stream).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(1000)
            .handshake(stream)
            .await
            .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    (sender, tasks)
}

async fn ask(
    sender: &mut Sender,
    path: &str,
    protocol: &str,
) -> http::Response<hyper::body::Incoming> {
    let request = http::Request::get(format!("https://agent{path}"))
        .header("hiveway-protocol", protocol)
        .body(http_body_util::Empty::new());
    sender.send_request(request.unwrap()).await.unwrap()
}

async fn text(response: http::Response<hyper::body::Incoming>) -> String {
    use http_body_util::BodyExt;
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn another_protocol_is_refused_with_what_to_do() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let (mut sender, _tasks) = dial(&agent).await;
    let refused = ask(&mut sender, "/follow", "2").await;
    assert_eq!(refused.status(), 400);
    let refusal = text(refused).await;
    assert!(refusal.contains("speaks protocol 1, and the edge 2"), "{refusal}");
    assert_eq!(ask(&mut sender, "/metrics", "1").await.status(), 404);
    assert_eq!(ask(&mut sender, "/follow", "1").await.status(), 200);
    assert_eq!(ask(&mut sender, "/follow", "1").await.status(), 409);
}

#[tokio::test]
async fn a_follower_that_never_reads_costs_little_and_is_let_go() {
    let engine = FakeEngine::start("hiveway.port=1");
    let (services, tasks) = many(300, "hiveway.port=1");
    engine.set_services(services);
    engine.set_tasks(tasks);
    let agent = Running::of(&engine);
    until(|| agent.agent.knowledge().edition().is_some()).await;
    let (mut sender, _tasks) = dial(&agent).await;
    let _unread = ask(&mut sender, "/follow", "1").await;
    agent.followers(1).await;
    tokio::time::pause();
    until(|| agent.refused("stalled") == 1).await;
    tokio::time::resume();
    agent.followers(0).await;
    // Of the inventory, which is larger, what fits into its window, the buffer and a piece.
    assert!(agent.sent() < 100_000, "{}", agent.sent());
    let edge = Edge::of(&[agent.address]);
    edge.follows(&agent).await;
}

#[tokio::test]
async fn a_crowd_without_a_key_leaves_nothing_behind() {
    let engine = FakeEngine::start("hiveway.port=1");
    let agent = Running::of(&engine);
    let mut crowd = Vec::new();
    for at in 0..300_u32 {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        if at % 2 == 0 {
            use tokio::io::AsyncWriteExt;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n").await;
        }
        crowd.push(stream);
    }
    until(|| agent.refused("limit") + agent.refused("handshake") >= 290).await;
    drop(crowd);
    let edge = Edge::of(&[agent.address]);
    edge.has("hiveway.port=1").await;
    agent.followers(1).await;
}
