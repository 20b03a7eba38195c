//! Every node is a way in, and only for those who are outside.

use std::thread;

use super::{CLIENT, NODES, addresses, require_stack, served, wait_served};
use crate::client::{SOON, get_from};
use crate::docker::Service;
use crate::exchange::Failure;
use crate::lab::{AGENT, EDGE, metrics_inside, script, stdout, wait_for};

#[test]
fn every_node_answers_for_replicas_on_one_of_them_and_tells_the_clients_own_address() {
    require_stack();
    let service = Service::new("afar").label("hiveway.host=afar.test").replicas(2).on_node(3);
    let _service = served(service, "afar", &NODES);
    for node in NODES {
        wait_served(node, "afar.test");
        for (address, client) in addresses(node, 80).into_iter().zip(CLIENT) {
            let answer = get_from(address, "afar.test", "/").expect("an answer");
            let arrived: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            let told = arrived.pointer("/headers/x-forwarded-for/0").and_then(|it| it.as_str());
            assert_eq!(told, Some(&*client.to_string()), "through {address}");
        }
    }
}

#[test]
fn applications_reach_edges_by_name_and_neither_their_metrics_nor_the_agents() {
    require_stack();
    let service = Service::new("nosy").label("hiveway.host=nosy.test").on_node(2);
    let _service = served(service, "nosy", &NODES);
    let edges = wait_for("the names of all edges", SOON, || {
        Some(resolved_by("nosy", EDGE)).filter(|edges| edges.len() == NODES.len())
    });
    for edge in edges {
        let own = ask_from("nosy", &format!("http://{edge}/"));
        assert!(own.as_ref().is_some_and(|own| own.contains("no_route")), "{own:?} from {edge}");
        let metrics = ask_from("nosy", &format!("http://{edge}:9400/metrics"));
        assert!(metrics.is_none_or(|text| !text.contains("hiveway_build_info")), "at {edge}");
    }
    let names = ["agent", "tasks.agent", AGENT, "tasks.hiveway_agent"];
    let resolving = names.map(|name| thread::spawn(move || resolved_by("nosy", name)));
    for (name, resolving) in names.into_iter().zip(resolving) {
        assert!(resolving.join().expect("a thread").is_empty(), "{name} is a name here");
    }
    for address in addresses_inside(1, AGENT) {
        assert_eq!(ask_from("nosy", &format!("https://{address}:9401/")), None);
    }
}

/// What an unknown host gets from that address, asked from within the network of a service on node 2.
fn ask_from(service: &str, url: &str) -> Option<String> {
    let args = ["2", service, "curl", "--silent", "--insecure", "--max-time", "2", url];
    let output = script("inside.sh", &args).output().expect("inside.sh");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The addresses that a name has for the replicas of a service. Docker's server may say nothing at all
/// about a name that it does not know.
fn resolved_by(service: &str, name: &str) -> Vec<String> {
    let [address, _] = addresses(1, 80);
    let path = format!("/resolve?name={name}");
    match get_from(address, &format!("{service}.test"), &path) {
        Ok(answer) => serde_json::from_slice(&answer.body).expect("a list"),
        Err(Failure::Timeout) => Vec::new(),
        Err(other) => panic!("{name}: {other}"),
    }
}

/// All addresses of a service's task on that node but loopback.
pub(super) fn addresses_inside(node: u8, service: &str) -> Vec<String> {
    let args = [&*node.to_string(), service, "ip", "-4", "-o", "addr"];
    let text = stdout(&mut script("inside.sh", &args));
    let addresses = text.split_whitespace().filter_map(|word| word.split_once('/'));
    let addresses = addresses.map(|(address, _)| address.to_owned());
    addresses.filter(|address| !address.starts_with("127.")).collect()
}

/// How many requests the edge on that node has sent to replicas of a service that nobody answered.
pub(super) fn unanswered(node: u8, service: &str) -> u64 {
    let metrics = metrics_inside(node, EDGE).expect("the edge's metrics");
    let service = format!("{{service=\"{service}\",");
    let lines = metrics.lines().filter_map(|line| {
        let (labels, count) =
            line.strip_prefix("hiveway_upstream_requests_total")?.split_once("} ")?;
        let outcome = ["silent", "reset", "timeout"]
            .iter()
            .find(|outcome| labels.ends_with(&format!("outcome=\"{outcome}\"")));
        (labels.starts_with(&service) && outcome.is_some())
            .then(|| count.parse::<u64>().expect("a count"))
    });
    lines.sum()
}
