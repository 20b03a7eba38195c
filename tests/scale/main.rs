//! What 300 services with four replicas each cost an agent, an edge, an engine and the wire, while
//! nothing happens and while one service changes each second.
//!
//! Engine, DNS and replicas are played by the test, with lists as long as real ones; agent and edge
//! are the program itself. What real services and a real engine cost `tests/swarm/idle.rs` tells.
//!
//! Run by `./check` with the release binary, for a minute a phase with `--extended`. By hand:
//! `SCALE_LONG=1 HIVEWAY=target/release/hiveway cargo test --test scale -- --nocapture`.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test of whole programs: it waits for them, tells figures, and fails by a panic"
)]

mod cost;
mod engine;
mod network;
mod programs;
mod swarm;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::cost::{Cost, Reading};
use crate::engine::Engine;
use crate::network::{Names, Wire, replicas};
use crate::programs::{Directory, Program, get, make_secrets, metric, wait_for};
use crate::swarm::{NETWORK_NAME, Size, Swarm};

/// The managers remember five tasks of each replica by default, the live one among them.
const SIZE: Size = Size { services: 300, replicas: 4, history: 4 };
const ENDPOINTS: f64 = 1200.0;
/// Seconds between two lists, and between two questions to DNS for a service without traffic.
const RESYNC: f64 = 10.0;
const DNS_INTERVAL: f64 = 5.0;

/// The programs and all that is around them. What runs is ended from the first to the last.
struct Scene {
    edge: Program,
    agent: Program,
    swarm: Arc<Mutex<Swarm>>,
    engine: Engine,
    names: Names,
    wire: Wire,
    directory: Directory,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// Everything, and an edge that has reached every endpoint.
    fn start() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let directory = Directory::new();
        make_secrets(&directory.0);
        let socket = directory.0.join("docker.sock");
        let (swarm, engine, names) = runtime.block_on(async {
            let swarm = Arc::new(Mutex::new(Swarm::of(SIZE, replicas().await)));
            let engine = Engine::start(&socket, Arc::clone(&swarm));
            let names = Names::start(Arc::clone(&swarm)).await;
            (swarm, engine, names)
        });
        let agent = Program::start(
            "agent",
            &directory.0,
            "[agent]\naddress = \"127.0.0.1:0\"\nsecret = \"hiveway-agent\"\n[provider]\n\
             socket = \"docker.sock\"\n[admin]\naddress = \"127.0.0.1:0\"\n",
        );
        let wire = runtime.block_on(Wire::to(agent.address("agent")));
        let edge = start_edge(&directory, &wire, &names, "");
        Self { edge, agent, swarm, engine, names, wire, directory, _runtime: runtime }
    }

    fn read(&self) -> Reading {
        let calls = self.engine.calls();
        Reading {
            at: Instant::now(),
            lists: calls["/services"],
            calls: calls.values().sum(),
            bytes: self.wire.bytes(),
            queries: self.names.queries(),
            agent_cpu: self.agent.cpu(),
            edge_cpu: self.edge.cpu(),
        }
    }

    fn cost_of_nothing(&self, seconds: u64) -> Cost {
        let before = self.read();
        thread::sleep(Duration::from_secs(seconds));
        Cost::between(before, self.read())
    }

    /// What it costs to change one service after the other, one a second, and what the last change
    /// came to. The engine tells of each with an event.
    fn cost_of_changes<T>(
        &self,
        services: std::ops::Range<usize>,
        change: impl Fn(&mut Swarm, usize) -> T,
    ) -> (Cost, T) {
        let before = self.read();
        let mut due = before.at;
        let mut last = None;
        for n in services {
            last = Some(change(&mut self.swarm.lock().unwrap(), n));
            self.engine.tell(Swarm::event(n));
            due += Duration::from_secs(1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        (Cost::between(before, self.read()), last.expect("a change"))
    }

    /// What it costs when a task is replaced each second, and only DNS tells: until the edge has
    /// asked for every service.
    fn cost_of_silent_changes(&self, services: std::ops::Range<usize>) -> Cost {
        let before = self.read();
        for n in services {
            self.swarm.lock().unwrap().replace_task(n);
            thread::sleep(Duration::from_secs(1));
        }
        thread::sleep(Duration::from_secs_f64(DNS_INTERVAL + 1.0));
        Cost::between(before, self.read())
    }
}

/// An edge of the scene with more options for `[dns]`, once it has reached every endpoint.
fn start_edge(directory: &Directory, wire: &Wire, names: &Names, more: &str) -> Program {
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[provider]\nkind = \"agent\"\n\
         agents = [\"{}\"]\nsecret = \"hiveway-edge\"\nnetworks = [\"{NETWORK_NAME}\"]\n\
         [admin]\naddress = \"127.0.0.1:0\"\n[state]\ndir = \"state\"\n[dns]\n\
         server = \"{}\"\n{more}",
        wire.address, names.address
    );
    let edge = Program::start("edge", &directory.0, &config);
    let admin = edge.address("admin");
    wait_for("every endpoint to be reached", || {
        let healthy = metric(admin, "hiveway_upstream_endpoint_state{", "state=\"healthy\"");
        (healthy >= ENDPOINTS).then_some(())
    });
    edge
}

/// Waits until an edge sends requests for a host to a replica.
fn wait_for_host(web: SocketAddr, host: &str) {
    wait_for(&format!("{host} to be served"), || {
        get(web, host, "/").filter(|(status, _)| *status == 200)
    });
}

/// Waits until an edge knows a replica at an address.
fn wait_for_endpoint(admin: SocketAddr, address: &str) {
    wait_for(&format!("a replica at {address}"), || {
        let (_, endpoints) = get(admin, "localhost", "/api/v1/endpoints")?;
        endpoints.contains(address).then_some(())
    });
}

/// Nobody asks oftener than is said.
fn check_questions(what: &str, cost: &Cost, changes: f64) {
    let lists = f64::from(cost.lists);
    // One of them may have been under way at either end.
    assert!(cost.calls.abs_diff(2 * cost.lists) <= 1, "{what}: a list is two calls: {cost:?}");
    let most = changes * 1.2 + cost.seconds / RESYNC + 1.0;
    assert!(lists <= most, "{what}: {lists} lists in {:.0} s", cost.seconds);
    let (queries, rounds) = (f64::from(cost.queries), cost.seconds / DNS_INTERVAL + 1.0);
    // What has changed is asked about oftener for a moment, and what had a request for half a minute.
    let most = ENDPOINTS / 4.0 * rounds * 1.1 + changes * 5.0 + 60.0;
    assert!(queries <= most, "{what}: {queries} DNS queries in {:.0} s", cost.seconds);
}

/// What one change took on the wire, without the signs of life.
fn bytes_of_a_change(cost: &Cost, changes: f64, idle: &Cost) -> f64 {
    let signs_of_life = f64::from(idle.bytes) / idle.seconds * cost.seconds;
    (f64::from(cost.bytes) - signs_of_life) / changes
}

/// A change costs what changed, and little work.
fn check_changes(what: &str, cost: &Cost, changes: f64, idle: &Cost) {
    check_questions(what, cost, changes);
    cost.check_cpu(what, 9.0, 6.0);
    let bytes = bytes_of_a_change(cost, changes, idle);
    eprintln!("300 services, {what}: {bytes:.0} bytes on the wire for one change");
    assert!(bytes < 4_000.0, "{what}: {bytes:.0} bytes on the wire for one change");
}

/// What is kept in memory is in proportion to what is known.
fn check_memory(scene: &Scene, whole: u32) {
    let (of_agent, of_edge) = (scene.agent.memory(), scene.edge.memory());
    let lists = scene.swarm.lock().unwrap().bytes();
    eprintln!(
        "300 services, all at once: {whole} bytes on the wire, {lists} bytes of lists, memory of the \
         agent {of_agent:.0} MiB, of the edge {of_edge:.0} MiB"
    );
    assert!(of_agent < 150.0 && of_edge < 120.0, "agent {of_agent:.0} MiB, edge {of_edge:.0} MiB");
}

#[test]
fn three_hundred_services_cost_little_and_a_change_costs_itself() {
    let is_long = std::env::var_os("SCALE_LONG").is_some();
    let (seconds, times) = if is_long { (60, 60) } else { (5, 4) };
    let changes = f64::from(u8::try_from(times).unwrap());
    let mut scene = Scene::start();
    let (web, admin) = (scene.edge.address("web"), scene.edge.address("admin"));
    let whole = scene.read().bytes;

    let idle = scene.cost_of_nothing(seconds);
    idle.tell("idle");
    check_questions("idle", &idle, 0.0);
    // A list or a round of questions more weighs much in a few seconds.
    let (agent, edge) = if is_long { (0.9, 1.6) } else { (2.0, 3.0) };
    idle.check_cpu("idle", agent, edge);
    let signs_of_life = f64::from(idle.bytes) / idle.seconds;
    assert!(signs_of_life < 1_000.0, "{signs_of_life:.0} bytes a second of nothing");

    let (labels, host) = scene.cost_of_changes(0..times, |swarm, n| swarm.relabel(n, 1));
    labels.tell("a label changed each second");
    wait_for_host(web, &host);
    let (tasks, address) = scene.cost_of_changes(60..60 + times, Swarm::replace_task);
    tasks.tell("a task replaced each second");
    wait_for_endpoint(admin, &address.to_string());
    check_changes("labels", &labels, changes, &idle);
    check_changes("tasks", &tasks, changes, &idle);

    let silent = scene.cost_of_silent_changes(120..120 + times);
    eprintln!("300 services, {times} tasks replaced that only DNS tells: {} lists", silent.lists);
    check_questions("only DNS tells", &silent, changes);

    check_memory(&scene, whole);
    if is_long {
        drop(scene.edge);
        scene.edge =
            start_edge(&scene.directory, &scene.wire, &scene.names, "interval-idle = \"1h\"\n");
        scene.cost_of_nothing(seconds).tell("idle, DNS asked once an hour");
    }
}
