//! What Hiveway costs while nobody asks for anything.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::client::{SOON, wait_status};
use crate::crowd::{ALIASES, Crowd, alias};
use crate::docker::{Deployed, Service, docker};
use crate::lab::{EDGE, lab_root, metrics_inside, require_edge, script, stdout, wait_for};

/// Services, one replica each.
const SERVICES: u32 = 50;
/// How long is measured.
const MEASURED: Duration = Duration::from_mins(1);
/// Clock ticks of `/proc/<pid>/stat` in a second; fixed at 100 for programs on Linux.
const TICKS: f64 = 100.0;

/// One process on node 1.
#[derive(Debug)]
struct Process {
    parent: u32,
    name: String,
    /// Time on a CPU so far, in seconds.
    cpu: f64,
}

/// Every process of node 1. A line of `stat` is `pid (name) state parent ... utime stime ...`.
fn processes() -> BTreeMap<u32, Process> {
    let lines = stdout(&mut script("on.sh", &["1", "sh", "-c", "cat /proc/[0-9]*/stat; true"]));
    let parse = |line: &str| {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let parent = fields.get(1)?.parse().ok()?;
        let cpu = (ticks(11)? + ticks(12)?) / TICKS;
        Some((pid.parse().ok()?, Process { parent, name: name.to_owned(), cpu }))
    };
    lines.lines().filter_map(parse).collect()
}

/// CPU seconds so far of an edge (all processes of its container) and of the engine.
fn cpu(service: &str) -> (f64, f64) {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let id = docker(&["ps", "-q", "--filter", &filter]);
    let edge: u32 = docker(&["inspect", "-f", "{{.State.Pid}}", &id]).parse().expect("a pid");
    let all = processes();
    let below_edge = |mut pid: u32| loop {
        if pid == edge {
            return true;
        }
        match all.get(&pid) {
            Some(process) if process.parent != 0 => pid = process.parent,
            _ => return false,
        }
    };
    let of_edge = all.iter().filter(|&(&pid, _)| below_edge(pid)).map(|(_, process)| process.cpu);
    let engine = ["dockerd", "containerd"];
    let of_engine = all.values().filter(|process| engine.contains(&process.name.as_str()));
    (of_edge.sum(), of_engine.map(|process| process.cpu).sum())
}

/// What an edge and the engine use in a minute, in seconds, once the last traffic is forgotten.
fn cpu_in_a_minute(service: &str) -> (f64, f64) {
    // Upstreams with traffic in the last 30 s are looked after more closely: let that pass.
    thread::sleep(Duration::from_secs(40));
    let (edge, engine) = cpu(service);
    thread::sleep(MEASURED);
    let (edge_after, engine_after) = cpu(service);
    (edge_after - edge, engine_after - engine)
}

#[test]
fn fifty_idle_services_cost_next_to_nothing() {
    require_edge();
    let services: Vec<Deployed> = (0..SERVICES)
        .map(|n| {
            let service = Service::new(&format!("idle{n}")).args(&["--no-healthcheck"]);
            service.label(&format!("hiveway.host=idle{n}.test")).create()
        })
        .collect();
    (0..SERVICES).for_each(|n| wait_status(&format!("idle{n}.test"), "/", 200));
    let (edge, engine) = cpu_in_a_minute(EDGE);
    eprintln!("{SERVICES} idle services, CPU in a minute: edge {edge:.2} s, engine {engine:.2} s");
    assert!(edge < 3.0, "the edge used {edge:.2} s of a CPU in a minute of nothing");
    drop(services);
}

/// How many services of the crowd an edge of that name serves, with a replica that it has reached.
fn reached(service: &str) -> Option<u32> {
    let metrics = metrics_inside(1, service)?;
    let states =
        metrics.lines().filter(|line| line.starts_with("hiveway_upstream_endpoint_state{"));
    let healthy = states.filter(|line| {
        let parts = ["service=\"crowded", "state=\"healthy\"} 1"];
        parts.iter().all(|part| line.contains(part))
    });
    u32::try_from(healthy.count()).ok()
}

/// Another edge, whose engine is the crowd's, and that asks DNS so often. No port of it is published:
/// what it costs to know of services is all that is asked.
fn edge_before(crowd: &Crowd, name: &'static str, dns_interval: &str) -> Deployed {
    let dns_interval = format!("HIVEWAY_DNS_INTERVAL_IDLE={dns_interval}");
    let mount = format!("type=bind,dst=/var/run/docker.sock,src={}", crowd.socket.display());
    docker(&[
        "service",
        "create",
        "--quiet",
        "--detach",
        "--no-resolve-image",
        "--name",
        name,
        "--user",
        "0:0",
        "--network",
        "hiveway",
        "--mount",
        &mount,
        "--constraint",
        "node.hostname==node1",
        "--env",
        "HIVEWAY_PROVIDER_KIND=docker",
        "--env",
        &dns_interval,
        "hiveway:latest",
        "edge",
    ]);
    Deployed::named(name)
}

#[test]
fn three_hundred_idle_services_cost_little_more() {
    require_edge();
    let services: Vec<Deployed> = (0..SERVICES)
        .map(|n| {
            let name = format!("crowded{n}");
            let aliases = (0..ALIASES).map(|n| format!("alias={}", alias(&name, n)));
            let network = ["name=hiveway".to_owned()].into_iter().chain(aliases);
            let network = network.collect::<Vec<_>>().join(",");
            let service = Service::new(&name).off_the_network().args(&["--no-healthcheck"]);
            let service = service.args(&["--network", &network]);
            service.label(&format!("hiveway.host={name}.test")).create()
        })
        .collect();
    let node = lab_root().join("1");
    let crowd = Crowd::before(&node.join("docker.sock"), node.join("crowd.sock"), "crowded");
    let all = SERVICES * (1 + ALIASES);
    let cost = |name, dns_interval| {
        let edge = edge_before(&crowd, name, dns_interval);
        wait_for("every service of the crowd to be reached", SOON * 4, || {
            (reached(name)? == all).then_some(())
        });
        let cost = cpu_in_a_minute(name);
        edge.remove();
        cost
    };
    let (cpu, engine) = cost("crowd", "5s");
    eprintln!(
        "{all} idle services, CPU in a minute: edge {cpu:.2} s, engine for two edges {engine:.2} s"
    );
    assert!(cpu < 6.0, "the edge used {cpu:.2} s of a CPU in a minute of nothing");
    let (unasking_cpu, unasking_engine) = cost("unasking", "1h");
    eprintln!(
        "{all} idle services, CPU in a minute of DNS, asked {} times a second: edge {:.2} s, engine \
         {:.2} s",
        all / 5,
        cpu - unasking_cpu,
        engine - unasking_engine
    );
    drop(services);
}
