//! Planned changes under load: not one request of a client is lost.

use std::thread;
use std::time::Duration;

use crate::client::{EDGE, OpenWebSocket, SlowDownload, wait_replicas, wait_status};
use crate::docker::{Deployed, Service};
use crate::lab::{extended, require_edge};
use crate::load::{Load, Plan, Target};
use crate::report::Report;

/// Requests per second.
const RATE: u32 = 500;

fn target(host: &str) -> Target {
    Target { address: EDGE, host: host.to_owned(), path: "/".to_owned() }
}

/// A service whose replicas behave as real ones do: they close idle connections after two seconds.
fn real_service(name: &str) -> Service {
    Service::new(name).label(&format!("hiveway.host={name}.test")).env("REPLICA_IDLE=2s")
}

fn assert_nothing_lost(what: &str, report: &Report) {
    eprintln!("{what}: {report}");
    assert_eq!(report.failed(), 0, "{what}: {report}");
}

#[test]
fn a_time_without_any_change_loses_nothing_although_replicas_close_idle_connections() {
    require_edge();
    let _service = real_service("quiet").replicas(2).create();
    wait_replicas("quiet.test", 2);
    // Slow enough that most connections to the replicas grow idle before they are used again.
    let plan = Plan::mixed(vec![target("quiet.test")], 2);
    let time = Duration::from_secs(if extended() { 60 } else { 8 });
    let report = Load::start(Plan { duration: Some(time), ..plan }).wait();
    assert_nothing_lost("a quiet time", &report.unwrap());
}

#[test]
fn label_changes_elsewhere_and_scaling_lose_nothing_nor_cut_what_is_open() {
    require_edge();
    let steady = real_service("steady").create();
    let scaled = real_service("elastic").replicas(2).create();
    let other = |n| Service::new(&format!("other{n}")).label(&format!("hiveway.host=o{n}.test"));
    let others: Vec<Deployed> = (0..5).map(|n| other(n).create()).collect();
    wait_replicas("steady.test", 1);
    wait_replicas("elastic.test", 2);

    let socket = OpenWebSocket::open(EDGE, "steady.test");
    let download = SlowDownload::start(EDGE, "steady.test", 60);
    let load = Load::start(Plan::mixed(vec![target("elastic.test")], RATE));
    for change in 0..10 {
        let other = &others[change % others.len()];
        other.label(&format!("hiveway.host=changed{change}.test"));
        wait_status(&format!("changed{change}.test"), "/", 200);
        match change {
            2 => scaled.scale(5),
            6 => scaled.scale(2),
            _ => {}
        }
        thread::sleep(Duration::from_secs(2));
    }
    wait_replicas("elastic.test", 2);
    // Docker stops a task two seconds after its name is gone: see the last one end.
    scaled.wait_running(2);
    thread::sleep(Duration::from_secs(2));
    let report = load.stop().unwrap();

    assert_nothing_lost("ten label changes, 2 -> 5 -> 2 replicas", &report);
    assert!(report.replicas.len() >= 5, "all five replicas answered: {report}");
    let echoes = socket.close().unwrap_or_else(|why| panic!("the WebSocket broke: {why}"));
    assert!(echoes > 50, "only {echoes} echoes");
    download.wait().unwrap_or_else(|failure| panic!("the download failed: {failure}"));
    drop(steady);
}
