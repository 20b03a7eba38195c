//! Nobody who manages the Swarm answers, for as long as it takes.

use std::thread;
use std::time::{Duration, Instant};

use super::broken::{Broken, Managers};
use super::everywhere::Everywhere;
use super::{NODES, addresses, real_service, require_stack, served, wait_served};
use crate::client::get_from;
use crate::docker::{Deployed, docker, docker_on};
use crate::exchange::Failure;
use crate::lab::{AGENT, admin_of, extended, script, stdout, wait_for};

/// How long managers are silent.
fn silence() -> Duration {
    // Other nodes forget a node whose engine is silent after 13 s.
    Duration::from_secs(if extended() { 60 } else { 16 })
}

/// The tasks of the agent, while there is a constraint that no node meets.
struct NoAgents;

const NOWHERE: &str = "node.hostname==nowhere";

impl NoAgents {
    fn now() -> Self {
        let agents = Deployed::of_stack(AGENT);
        agents.update(&["--constraint-add", NOWHERE]);
        wait_for("the agents to be gone", Duration::from_mins(1), || {
            (agents.running() == 0).then_some(())
        });
        Self
    }
}

impl Drop for NoAgents {
    fn drop(&mut self) {
        Deployed::of_stack(AGENT).update(&["--constraint-rm", NOWHERE]);
    }
}

#[test]
fn without_agents_nothing_fails_and_what_changed_meanwhile_is_taken_up_when_they_return() {
    require_stack();
    let service = real_service("orphan").replicas(2);
    let service = served(service, "orphan", &NODES);
    let load = Everywhere::start("orphan.test", &NODES);
    let none = NoAgents::now();
    service.label("hiveway.host=orphan.test,adopted.test");
    service.scale(3);
    service.wait_running(3);
    thread::sleep(Duration::from_secs(if extended() { 30 } else { 3 }));
    let [address, _] = addresses(2, 80);
    let before = get_from(address, "adopted.test", "/").expect("an answer").status;
    drop(none);
    for node in NODES {
        wait_served(node, "adopted.test");
    }
    thread::sleep(Duration::from_secs(2));
    load.stop().assert_nothing_failed("all agents gone, a label changed and a replica more");
    assert_eq!(before, 404, "nobody could know of the new host");
}

/// Kills the edge's process on that node.
pub(super) fn kill_edge(node: u8) {
    let number = node.to_string();
    let find = ["pgrep", "--newest", "--full", "^/hiveway edge"];
    let process = stdout(&mut script("on.sh", &[&[&*number], &find[..]].concat()));
    stdout(&mut script("on.sh", &[&number, "kill", "-KILL", &process]));
}

/// Kills it, and tells how long new connections then waited.
fn time_without_edge(node: u8) -> Duration {
    let killed = Instant::now();
    kill_edge(node);
    let [address, _] = addresses(node, 80);
    loop {
        let answer = get_from(address, &format!("kept{node}.test"), "/");
        let took = killed.elapsed();
        match answer {
            Ok(answer) if answer.status == 200 => return took,
            // The last connections that the process had taken end with it.
            Err(Failure::Reset | Failure::EofBeforeHead) => {}
            other => panic!("on node {node}, {took:?} after its edge was killed: {other:?}"),
        }
    }
}

#[test]
fn the_only_managers_engine_stands_still_and_an_edge_that_is_killed_serves_on() {
    require_stack();
    // Those that can be reached: the other nodes forget the frozen one's, and it theirs.
    let here = served(real_service("kept1").on_node(1), "kept1", &NODES);
    let there = real_service("kept2").global().args(&["--constraint", "node.hostname!=node1"]);
    let there = served(there, "kept2", &NODES);
    for node in NODES {
        wait_listed(node, &["kept1.1", "kept2."]);
    }
    let loads = [Everywhere::start("kept1.test", &[1]), Everywhere::start("kept2.test", &[2, 3])];
    let frozen = Broken::engine_frozen(1);
    thread::sleep(silence());
    let outcomes = loads.map(Everywhere::stop);
    for outcome in &outcomes {
        outcome.assert_nothing_failed("the only manager's engine frozen");
    }
    for node in [1, 2] {
        let took = time_without_edge(node);
        eprintln!("edge on node {node} killed -> answers again: max {took:.0?}");
        assert!(took < Duration::from_secs(1), "{took:?} on node {node}");
    }
    let load = Everywhere::start("kept2.test", &[2, 3]);
    drop(frozen);
    wait_for("the manager", Duration::from_mins(1), || manager_answers(1).then_some(()));
    there.label("hiveway.host=kept2.test,thawed.test");
    for node in NODES {
        wait_served(node, "thawed.test");
    }
    // A manager that has heard of nobody for so long may take all nodes for lost, and has every task on
    // them replaced: those of this service, of the edges, and of `sockets`, all at once.
    thread::sleep(Duration::from_secs(10));
    load.stop().assert_nothing_failed("the manager returns, and a label changes");
    drop(here);
}

/// Waits until an edge has heard from an agent which replicas there are, so that it has saved them: it serves
/// before that, as DNS is faster, and names those after their addresses.
fn wait_listed(node: u8, names: &[&str]) {
    wait_for(&format!("node {node} to know all tasks"), Duration::from_mins(1), || {
        let endpoints = admin_of(node, "/api/v1/endpoints")?;
        let endpoints: Vec<serde_json::Value> = serde_json::from_str(&endpoints).ok()?;
        let listed: Vec<_> = endpoints.iter().filter_map(|it| it.get("name")?.as_str()).collect();
        let is_listed = |name: &&str| listed.iter().any(|it| it.starts_with(*name));
        let by_task = listed.iter().all(|name| !name.contains(".10.200."));
        (by_task && names.iter().all(is_listed)).then_some(())
    });
}

fn manager_answers(node: u8) -> bool {
    let args = [&*node.to_string(), "timeout", "2", "docker", "node", "ls"];
    script("on.sh", &args).output().is_ok_and(|output| output.status.success())
}

#[test]
fn three_managers_stand_still_for_a_while() {
    require_stack();
    let _managers = Managers::three();
    let service = served(real_service("quorum").global(), "quorum", &NODES);
    let load = Everywhere::start("quorum.test", &NODES);
    let frozen = NODES.map(Broken::engine_frozen);
    thread::sleep(silence());
    drop(frozen);
    wait_for("the managers", Duration::from_mins(1), || manager_answers(1).then_some(()));
    service.label("hiveway.host=quorum.test,again.test");
    for node in NODES {
        wait_served(node, "again.test");
    }
    load.stop().assert_nothing_failed("three managers' engines frozen, then a label changed");
}

#[test]
fn a_manager_is_demoted() {
    require_stack();
    let managers = Managers::three();
    let service = served(real_service("demoted").global(), "demoted", &NODES);
    let load = Everywhere::start("demoted.test", &NODES);
    drop(managers);
    service.label("hiveway.host=demoted.test,worker.test");
    for node in NODES {
        wait_served(node, "worker.test");
    }
    thread::sleep(Duration::from_secs(3));
    load.stop().assert_nothing_failed("two of three managers demoted, then a label changed");
}

#[test]
fn the_leader_is_cut_off_and_comes_back() {
    require_stack();
    let _managers = Managers::three();
    let leader = leader();
    let others: Vec<u8> = NODES.into_iter().filter(|&node| node != leader).collect();
    let not_there = format!("node.hostname!=node{leader}");
    let service = real_service("elected").global().args(&["--constraint", &not_there]);
    let _service = served(service, "elected", &NODES);
    let load = Everywhere::start("elected.test", &others);
    let cut = Broken::cut_off(leader);
    let other = others.first().copied().expect("two others");
    wait_for("another leader", Duration::from_secs(90), || manager_answers(other).then_some(()));
    let changed = Instant::now();
    let label = ["--label-add", "hiveway.host=elected.test,new.test", "elected"];
    docker_on(other, &[&["service", "update", "--detach"], &label[..]].concat());
    for &node in &others {
        wait_served(node, "new.test");
    }
    eprintln!("label changed by the new leader -> live: max {:.1?}", changed.elapsed());
    drop(cut);
    wait_for("the old leader", Duration::from_secs(90), || manager_answers(leader).then_some(()));
    wait_served(leader, "new.test");
    load.stop().assert_nothing_failed("the leader cut off, and back");
}

fn leader() -> u8 {
    let list = docker(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]);
    let line = list.lines().find(|line| line.ends_with("Leader")).expect("a leader");
    let number = line.trim_start_matches("node").split(' ').next().unwrap_or_default();
    number.parse().expect("nodes are called node1, node2, ...")
}
