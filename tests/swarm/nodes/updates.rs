//! Hiveway itself is updated while it is used.

use std::thread;
use std::time::Duration;

use super::everywhere::Everywhere;
use super::keepers::{End, Keeper};
use super::{NODES, addresses, real_service, require_stack, served};
use crate::client::SlowDownload;
use crate::docker::Deployed;

/// Updates services of the stack, all at once, under load, with connections of every kind kept open
/// and downloads under way. `asks` says whether kept connections are asked to go meanwhile.
fn check_update(parts: &[&str], asks: bool) {
    require_stack();
    let name = parts.join("-");
    let web = format!("{name}-web");
    let calls = format!("{name}-calls");
    let web_service = served(real_service(&web).replicas(3), &web, &NODES);
    let grpc = real_service(&calls).env("REPLICA_H2C=true").label("hiveway.protocol=grpc");
    let grpc = served(grpc, &calls, &NODES);
    let (web, calls) = (format!("{web}.test"), format!("{calls}.test"));
    let keepers = NODES.into_iter().flat_map(|node| Keeper::all(node, &web, &calls));
    let keepers: Vec<Keeper> = keepers.collect();
    let downloads = NODES.map(|node| SlowDownload::start(addresses(node, 80)[0], &web, 25));
    let load = Everywhere::start(&web, &NODES);
    let updated = parts.iter().map(|part| Deployed::of_stack(&format!("hiveway_{part}")));
    let updated: Vec<_> = updated.collect();
    for part in &updated {
        part.update(&["--force"]);
    }
    updated.iter().for_each(Deployed::wait_updated);
    thread::sleep(Duration::from_secs(5));
    load.stop().assert_nothing_failed(&format!("an update of {}", parts.join(", ")));
    for download in downloads {
        download.wait().unwrap_or_else(|why| panic!("a download during the update: {why}"));
    }
    let kept: Vec<_> = keepers.into_iter().map(Keeper::end).collect();
    for kept in &kept {
        eprintln!("  {kept}");
    }
    for kept in &kept {
        let right = if asks { matches!(kept.end, End::Asked(_)) } else { kept.end == End::Stopped };
        assert!(right, "{kept}");
    }
    drop((web_service, grpc));
}

#[test]
fn an_update_of_the_edges_loses_nothing_and_asks_those_who_stay_to_go() {
    check_update(&["edge"], true);
}

#[test]
fn an_update_of_the_agents_is_seen_by_nobody() {
    check_update(&["agent"], false);
}

#[test]
fn an_update_of_the_sockets_is_seen_by_nobody() {
    check_update(&["sockets"], false);
}

#[test]
fn an_update_of_all_three_at_once_loses_nothing() {
    check_update(&["agent", "edge", "sockets"], true);
}
