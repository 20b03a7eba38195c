//! What the form of one container costs when Hiveway itself is updated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{get, wait_replicas};
use crate::docker::{Deployed, Service};
use crate::exchange::Failure;
use crate::lab::{EDGE, require_edge};

#[test]
fn an_update_of_an_edge_that_publishes_its_ports_refuses_for_some_seconds_at_most() {
    require_edge();
    let _service = Service::new("lone").label("hiveway.host=lone.test").create();
    wait_replicas("lone.test", 1);
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || ask_on(&stop))
    };
    let edge = Deployed::of_stack(EDGE);
    edge.update(&["--force"]);
    edge.wait_updated();
    wait_replicas("lone.test", 1);
    stop.store(true, Relaxed);
    let asked = asking.join().expect("the thread that asks");
    let mut failed = asked.iter().filter(|(_, failure)| failure.is_some());
    let first = failed.next().map(|(at, _)| *at);
    let last = failed.next_back().map(|(at, _)| *at).or(first);
    let refused = first.zip(last).map(|(first, last)| last.duration_since(first));
    let refused = refused.unwrap_or_default();
    let kinds: std::collections::BTreeSet<_> = asked.iter().filter_map(|(_, it)| *it).collect();
    eprintln!("one container updated -> connections fail for: max {refused:.1?} ({kinds:?})");
    assert!(refused < Duration::from_secs(5), "{refused:?}");
}

/// Asks every 10 ms, on a connection of its own, one after the other.
fn ask_on(stop: &AtomicBool) -> Vec<(Instant, Option<Failure>)> {
    let mut asked = Vec::new();
    while !stop.load(Relaxed) {
        let at = Instant::now();
        asked.push((at, get("lone.test", "/").err()));
        thread::sleep(Duration::from_millis(10));
    }
    asked
}
