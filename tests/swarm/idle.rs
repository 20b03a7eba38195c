//! What Hiveway costs while nobody asks for anything.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::client::wait_status;
use crate::docker::{Deployed, Service, docker};
use crate::lab::{EDGE, require_edge, script, stdout};

/// Services, one replica each.
const SERVICES: u32 = 50;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(60);
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

/// CPU seconds so far of the edge (all processes of its container) and of the engine.
fn cpu() -> (f64, f64) {
    let id =
        docker(&["ps", "-q", "--filter", &format!("label=com.docker.swarm.service.name={EDGE}")]);
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
    // Upstreams with traffic in the last 30 s are looked after more closely: let that pass.
    thread::sleep(Duration::from_secs(40));
    let (edge, engine) = cpu();
    thread::sleep(MEASURED);
    let (edge_after, engine_after) = cpu();
    let (edge, engine) = (edge_after - edge, engine_after - engine);
    eprintln!("{SERVICES} idle services, CPU in a minute: edge {edge:.2} s, engine {engine:.2} s");
    assert!(edge < 3.0, "the edge used {edge:.2} s of a CPU in a minute of nothing");
    drop(services);
}
