//! The measure itself: failures that Swarm alone causes are counted. Hiveway takes no part here.

use std::thread;
use std::time::Duration;

use crate::client::{OpenWebSocket, SOON, SlowDownload, get_from};
use crate::docker::Service;
use crate::lab::{require_lab, wait_for};
use crate::load::{Load, Plan, Target};

#[test]
fn an_update_behind_a_host_port_loses_requests_and_they_are_counted() {
    require_lab();
    let service = Service::new("counting").off_the_network().on_host_port(8081).create();
    service.wait_running(1);
    let address = "10.99.0.1:8081".parse().unwrap();
    wait_for("the replica", SOON, || get_from(address, "test", "/").ok());

    let target = Target { address, host: "test".to_owned(), path: "/".to_owned() };
    let load = Load::start(Plan::mixed(vec![target], 200));
    thread::sleep(Duration::from_secs(1));
    service.update(&["--force"]);
    service.wait_updated();
    let report = load.stop().unwrap();

    eprintln!("an update behind a host port: {report}");
    assert!(report.failed() >= 10, "a stop-first update refuses for about a second: {report}");
    assert_eq!(report.replicas.len(), 2, "the old and the new task answered: {report}");
    assert_eq!(report.answered + report.failed(), report.sent);
}

#[test]
fn what_is_open_breaks_with_its_replica_and_that_is_seen() {
    require_lab();
    let service = Service::new("breaking").off_the_network().env("REPLICA_ON_SIGTERM=die");
    let service = service.on_host_port(8083).create();
    service.wait_running(1);
    let address = "10.99.0.1:8083".parse().unwrap();
    wait_for("the replica", SOON, || get_from(address, "test", "/").ok());

    let closed_by_us = OpenWebSocket::open(address, "test");
    let complete = SlowDownload::start(address, "test", 1);
    thread::sleep(Duration::from_secs(1));
    assert!(closed_by_us.close().unwrap() >= 4);
    complete.wait().unwrap();

    let socket = OpenWebSocket::open(address, "test");
    let download = SlowDownload::start(address, "test", 60);
    thread::sleep(Duration::from_secs(1));
    service.update(&["--force"]);
    service.wait_updated();
    assert!(socket.close().is_err());
    assert!(download.wait().is_err());
}
