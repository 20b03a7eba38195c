//! The whole stack on three nodes, as clients of each node see it while the Swarm changes, breaks and heals.
//!
//! Node 1 is the manager at first; tests that need three promote the others and take that back. The
//! long forms, where they differ, run with `HIVEWAY_EXTENDED` set.

mod broken;
mod entry;
mod everywhere;
mod intruders;
mod keepers;
mod labels;
mod loss;
mod managers;
mod sessions;
mod updates;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Once;
use std::time::Duration;

use crate::client::get_from;
use crate::docker::{Deployed, Service, docker};
use crate::lab::{admin_of, deploy_whole_stack, require_lab, wait_for};

/// The nodes of the lab.
const NODES: [u8; 3] = [1, 2, 3];

/// The client's own addresses, as the nodes see them.
const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 99, 0, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0xfe)),
];

/// A port of a node: by IPv4, and by IPv6.
fn addresses(node: u8, port: u16) -> [SocketAddr; 2] {
    let v4 = Ipv4Addr::new(10, 99, 0, node);
    let v6 = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, u16::from(node));
    [(v4, port).into(), (v6, port).into()]
}

/// Makes sure that every node serves: deploys the whole stack if that is not done yet.
fn require_stack() {
    static ONCE: Once = Once::new();
    require_lab();
    ONCE.call_once(|| {
        let nodes = docker(&["node", "ls", "--quiet"]).lines().count();
        assert_eq!(nodes, NODES.len(), "these tests need a lab of three nodes: lab/up.sh 3 1");
        deploy_whole_stack();
    });
    // Also after what the test before has done.
    for node in NODES {
        wait_ready(node);
    }
}

/// Waits until the edge on that node is ready.
fn wait_ready(node: u8) {
    wait_for(&format!("the edge on node {node} to be ready"), Duration::from_secs(90), || {
        admin_of(node, "/readyz").map(|_| ())
    });
}

/// A service whose replicas close idle connections, as those of Node.js do, at `name.test`.
fn real_service(name: &str) -> Service {
    Service::new(name).label(&format!("hiveway.host={name}.test")).env("REPLICA_IDLE=5s")
}

/// Makes it, and waits until each of these nodes serves it.
fn served(service: Service, name: &str, at: &[u8]) -> Deployed {
    let deployed = service.create();
    for &node in at {
        wait_served(node, &format!("{name}.test"));
    }
    deployed
}

/// Waits until that node answers for that host with 200.
fn wait_served(node: u8, host: &str) {
    let [address, _] = addresses(node, 80);
    wait_for(&format!("node {node} to serve {host}"), Duration::from_mins(1), || {
        (get_from(address, host, "/").ok()?.status == 200).then_some(())
    });
}
