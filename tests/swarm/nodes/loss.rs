//! Nodes and links that go away, announced or not, and come back.

use std::thread;
use std::time::{Duration, Instant};

use super::broken::{Broken, NoNames, Partition};
use super::entry::{addresses_inside, unanswered};
use super::everywhere::{Everywhere, Outcome};
use super::{NODES, addresses, real_service, require_stack, served, wait_ready, wait_served};
use crate::client::get_from;
use crate::docker::docker;
use crate::exchange::Failure;
use crate::lab::{extended, wait_for};

/// A node that takes no tasks, or none that are new.
struct Availability(&'static str);

impl Availability {
    fn set(node: &'static str, availability: &str) -> Self {
        docker(&["node", "update", "--availability", availability, node]);
        Self(node)
    }
}

impl Drop for Availability {
    fn drop(&mut self) {
        docker(&["node", "update", "--availability", "active", self.0]);
    }
}

#[test]
fn a_worker_is_drained_also_with_a_single_replica_and_one_that_starts_slowly() {
    require_stack();
    let not_first = |name: &str| real_service(name).args(&["--constraint", "node.hostname!=node1"]);
    let many = served(not_first("many").replicas(4), "many", &NODES);
    // On node 3, as long as that takes tasks.
    let elsewhere = Availability::set("node2", "pause");
    // A machine that does much else at the time starts a container in seconds.
    let patient = |name| not_first(name).label("hiveway.timeout.queue=20s");
    let single = served(patient("single"), "single", &NODES);
    let slow = served(patient("slow").env("REPLICA_START_DELAY=4s"), "slow", &NODES);
    drop(elsewhere);

    let hosts = ["many.test", "single.test", "slow.test"];
    // 300 requests per second over the three nodes.
    let loads = hosts.map(|host| Everywhere::at(40, host, &[1, 2]));
    let leaver = Everywhere::at(60, "many.test", &[3]);
    let drained = Availability::set("node3", "drain");
    wait_for("the last task to leave node 3", Duration::from_secs(90), || {
        let tasks = docker(&["node", "ps", "--filter", "desired-state=running", "node3", "-q"]);
        tasks.is_empty().then_some(())
    });
    thread::sleep(Duration::from_secs(12));
    for (host, load) in hosts.into_iter().zip(loads) {
        load.stop().assert_nothing_failed(&format!("a worker drained, {host}"));
    }
    let Outcome(leaver) = leaver.stop();
    for (_, report) in leaver {
        let refused = report.failures.get(&Failure::Refused).copied().unwrap_or_default();
        eprintln!(
            "on the drained node itself: {} answered, then {refused} refused",
            report.answered
        );
        // Who connects in the very moment in which the socket is closed is reset: nobody is left there.
        assert!(report.failed() - refused <= 2, "what it took it answered: {report}");
    }
    drop(drained);
    wait_ready(3);
    drop((many, single, slow));
}

/// Tells what a loss cost, and when the last request failed. What is under way to a replica when it is
/// lost may have run, and is not sent twice unless its method allows it. While it hangs the replica has
/// the most requests under way, so that others go elsewhere: one or two of each edge fail.
fn check_loss(what: &str, outcome: &Outcome) {
    eprintln!("{what}: {outcome}");
    for (node, report) in &outcome.0 {
        for (failure, count) in &report.failures {
            eprintln!("  node {node}: {count} {failure}");
        }
        if let Some(last) = report.lost.last() {
            eprintln!(
                "  node {node}: the last was sent {:.1} s after the start",
                last.at.as_secs_f64()
            );
        }
        let broken = report.failures.get(&Failure::Status(502)).copied().unwrap_or_default();
        assert_eq!(report.failed(), broken, "{what}, on node {node}: {report}");
        assert!(broken <= 8, "{what}, on node {node}: {report}");
    }
}

#[test]
fn a_workers_link_is_cut_and_returns() {
    check_cut("spread", None);
}

#[test]
fn a_workers_link_returns_and_its_names_do_not() {
    // What engines 29.0 to 29.6 do after some cuts, on every node, until a service is updated.
    check_cut("nameless", Some(1));
}

#[test]
fn a_workers_engine_is_stopped_and_returns() {
    require_stack();
    let service = real_service("halted").global().args(&["--constraint", "node.hostname!=node1"]);
    let service = served(service, "halted", &NODES);
    wait_replicas(&[1, 2], "halted.test");
    let load = Everywhere::start("halted.test", &[1, 2]);
    thread::sleep(Duration::from_secs(3));
    // Its replica is told to end while DNS still names it.
    let stopped = Broken::engine_stopped(3);
    thread::sleep(Duration::from_secs(16));
    drop(stopped);
    wait_ready(3);
    wait_replicas(&[1, 2], "halted.test");
    check_loss("a worker's engine stopped, and started again", &load.stop());
    drop(service);
}

/// Cuts off node 3 under load, with replicas on nodes 2 and 3. On one node there are no names from
/// then on.
fn check_cut(name: &str, nameless: Option<u8>) {
    require_stack();
    let host = format!("{name}.test");
    let service = real_service(name).global().args(&["--constraint", "node.hostname!=node1"]);
    let service = served(service, name, &NODES);
    wait_replicas(&[1, 2], &host);
    let load = Everywhere::start(&host, &[1, 2]);
    thread::sleep(Duration::from_secs(3));
    let cut = Broken::cut_off(3);
    let no_names = nameless.map(NoNames::on);
    check_swallowed(&[1, 2], name, 3);
    // A node is forgotten after some 13 s.
    thread::sleep(Duration::from_secs(if extended() { 55 } else { 11 }));
    let outcome = load.stop();
    check_loss(&format!("a worker's link cut ({name})"), &outcome);
    let load = Everywhere::start(&host, &[1, 2]);
    thread::sleep(Duration::from_secs(2));
    drop(cut);
    let returned = Instant::now();
    wait_replicas(&[1, 2], &host);
    eprintln!("link back -> its replica serves again: max {:.1?}", returned.elapsed());
    drop(no_names);
    wait_served(3, &host);
    load.stop().assert_nothing_failed("after the loss, and while the link returns");
    drop(service);
}

/// Waits until each of these edges must have found out that a replica swallows what it is sent, and tells
/// how many requests that took. An endpoint that is gone is counted no longer.
fn check_swallowed(nodes: &[u8], service: &str, most: u64) {
    thread::sleep(Duration::from_secs(5));
    for &node in nodes {
        let swallowed = unanswered(node, service);
        eprintln!("  node {node}: its edge sent {swallowed} requests that nobody answered");
        // Those of the very moment: once it is silent for longer than usual, only dials are sent there.
        assert!(swallowed <= most, "node {node}: {swallowed}");
    }
}

/// Waits until both replicas answer through each of these nodes.
fn wait_replicas(nodes: &[u8], host: &str) {
    for &node in nodes {
        wait_for(&format!("both replicas through node {node}"), Duration::from_mins(2), || {
            (replicas(node, host) == 2).then_some(())
        });
    }
}

/// How many replicas answer through that node.
fn replicas(node: u8, host: &str) -> usize {
    let [address, _] = addresses(node, 80);
    let name = |_| get_from(address, host, "/").ok()?.field("x-replica").map(str::to_owned);
    (0..20).filter_map(name).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn one_edge_and_one_replica_do_not_reach_each_other() {
    require_stack();
    let service = real_service("parted").global().args(&["--constraint", "node.hostname!=node1"]);
    let service = served(service, "parted", &NODES);
    wait_replicas(&[1], "parted.test");
    let address = address_of("parted", 3);
    let load = Everywhere::start("parted.test", &[1, 2]);
    thread::sleep(Duration::from_secs(3));
    let [node1, _] = addresses(1, 80);
    let slow = move || get_from(node1, "parted.test", "/slow?ms=1200").map(|answer| answer.status);
    let slow: Vec<_> = (0..8).map(|_| thread::spawn(slow)).collect();
    // Acknowledged, so that TCP by itself waits for nothing.
    thread::sleep(Duration::from_millis(400));
    let partition = Partition::between(1, &address);
    for answer in slow.into_iter().map(|thread| thread.join().expect("no panic")) {
        assert_eq!(answer.ok(), Some(200), "the replica has it, and its answer is lost");
    }
    // Those eight at most, and some of the load.
    check_swallowed(&[1], "parted", 16);
    thread::sleep(Duration::from_secs(if extended() { 25 } else { 3 }));
    let outcome = load.stop();
    check_loss("one edge parted from one replica", &outcome);
    let load = Everywhere::start("parted.test", &[1, 2]);
    thread::sleep(Duration::from_secs(2));
    drop(partition);
    wait_replicas(&[1], "parted.test");
    load.stop().assert_nothing_failed("after the loss, and while they meet again");
    drop(service);
}

/// The address of the service's task on that node, on the applications' network.
fn address_of(service: &str, node: u8) -> String {
    let mut addresses = addresses_inside(node, service).into_iter();
    addresses.find(|address| address.starts_with("10.200.")).expect("an address")
}
