//! How soon a changed label is live everywhere.

use std::thread;
use std::time::{Duration, Instant};

use super::{NODES, addresses, require_stack, served};
use crate::client::get_from;
use crate::docker::Service;
use crate::report::quantile;

const CHANGES: u32 = 20;

/// Until all edges are the same again users would notice that they are not.
const WORST: Duration = Duration::from_millis(1500);

#[test]
fn a_changed_label_is_live_on_every_edge_within_a_second_and_a_half() {
    require_stack();
    let service = Service::new("everywhere").label("hiveway.host=everywhere.test");
    let service = served(service, "everywhere", &NODES);
    let mut times: Vec<Duration> = (0..CHANGES)
        .map(|change| {
            let host = format!("change{change}.test");
            let before = Instant::now();
            let waiting = NODES.map(|node| {
                let host = host.clone();
                thread::spawn(move || until_served(node, &host))
            });
            service.label(&format!("hiveway.host={host}"));
            let live = waiting.into_iter().map(|waiting| waiting.join().expect("a thread"));
            let last = live.max().expect("three nodes");
            last.duration_since(before)
        })
        .collect();
    times.sort_unstable();
    let (median, worst) = (quantile(&times, 0.5), quantile(&times, 1.0));
    eprintln!(
        "label-add begun -> live on all edges: median {median:.0?}, max {worst:.0?}, n={CHANGES}"
    );
    assert!(worst < WORST, "{times:?}");
}

/// When that node answered for that host for the first time.
fn until_served(node: u8, host: &str) -> Instant {
    let [address, _] = addresses(node, 80);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let status = get_from(address, host, "/").map(|answer| answer.status);
        let now = Instant::now();
        if status == Ok(200) || now > end {
            return now;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
