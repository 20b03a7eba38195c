//! How soon a change is live. Prints medians and maxima; fails above bounds that users would notice.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{SOON, get, get_from, wait_replicas, wait_status};
use crate::docker::Service;
use crate::lab::{extended, require_edge, wait_for};
use crate::report::quantile;

const RUNS: u32 = 20;

/// Prints the times and fails if the median is above the limit.
fn check(what: &str, mut times: Vec<Duration>, limit: Duration) {
    times.sort_unstable();
    let (median, max) = (quantile(&times, 0.5), quantile(&times, 1.0));
    eprintln!("{what}: median {median:.1?}, max {max:.1?}, n={}", times.len());
    assert!(median < limit, "{what}: median {median:?} is not below {limit:?}: {times:?}");
}

#[test]
fn a_new_label_serves_its_first_request_within_a_second() {
    require_edge();
    let service = Service::new("relabel").label("hiveway.host=relabel.test").create();
    wait_replicas("relabel.test", 1);
    let times = (0..RUNS).map(|run| {
        let host = format!("relabel{run}.test");
        service.label(&format!("hiveway.host={host}"));
        let returned = Instant::now();
        wait_status(&host, "/", 200);
        returned.elapsed()
    });
    check(
        "label-add returned -> first request by the new route",
        times.collect(),
        Duration::from_secs(1),
    );
}

/// How many addresses the Swarm's DNS has for the service now, as another service sees it.
fn in_dns(resolver: std::net::SocketAddr, service: &str) -> usize {
    let path = format!("/resolve?name=tasks.{service}.hiveway");
    let answer = get_from(resolver, "resolver", &path).expect("the resolver answers");
    let addresses: Vec<String> = serde_json::from_slice(&answer.body).expect("a list");
    addresses.len()
}

#[test]
fn a_new_task_serves_its_first_request_within_a_second_of_its_name() {
    require_edge();
    let resolver = Service::new("resolver").on_host_port(8082).create();
    let service = Service::new("joining").label("hiveway.host=joining.test").create();
    wait_replicas("joining.test", 1);
    resolver.wait_running(1);
    let address = "10.99.0.1:8082".parse().unwrap();
    wait_for("the resolver", SOON, || get_from(address, "resolver", "/").ok());

    // A replica takes its time to go.
    let runs = if extended() { RUNS } else { RUNS / 3 };
    let times = (0..runs).map(|_| {
        let old = wait_replicas("joining.test", 1);
        service.scale(2);
        wait_for("the new task in DNS", SOON, || (in_dns(address, "joining") == 2).then_some(()));
        let named = Instant::now();
        wait_for("its first request", SOON, || {
            let answer = get("joining.test", "/").ok()?;
            (!old.contains(answer.field("x-replica")?)).then_some(())
        });
        let took = named.elapsed();
        service.scale(1);
        service.wait_running(1);
        thread::sleep(Duration::from_millis(500));
        took
    });
    check("task in DNS -> its first request", times.collect(), Duration::from_secs(1));
}
