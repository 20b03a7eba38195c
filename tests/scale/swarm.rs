//! A Swarm that exists on paper: services, tasks and their history, as the engine lists them.
//!
//! Each object is one that was recorded (`tests/data/docker`), with names, ids, addresses and labels
//! of its own, and the parts filled in that the recordings leave out: what a container is made
//! from, limits, placement. So the lists are as long as real ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

/// How much the Swarm runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Replicated services, five to a stack.
    pub(crate) services: usize,
    /// Running tasks of each.
    pub(crate) replicas: usize,
    /// Ended tasks that the managers remember of each replica.
    pub(crate) history: usize,
}

/// The overlay network of all services; its subnet is a part of loopback.
const NETWORK: &str = "vo8s47kd9rn3qvqst9yyv1q5m";
/// Name of that network.
pub(crate) const NETWORK_NAME: &str = "edge";
const SUBNET: &str = "127.99.0.0/16";

/// What runs, and what it looks like to whoever lists it.
#[derive(Debug)]
pub(crate) struct Swarm {
    size: Size,
    /// On which every replica listens.
    port: u16,
    service: Value,
    task: Value,
    /// Each as a piece of a list.
    services: Vec<String>,
    /// Live tasks of each service, then its history.
    tasks: Vec<Vec<String>>,
    /// What DNS tells, by the service's name.
    addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    raft: u64,
    /// Addresses that have been given out.
    given: u32,
    /// Tasks that have been made.
    made: u64,
}

impl Swarm {
    pub(crate) fn of(size: Size, port: u16) -> Self {
        let service = recorded("services.json", |it| it["Spec"]["Name"] == "shop_web");
        let task = recorded("tasks.json", |it| it["Status"]["State"] == "running");
        let (services, tasks) = (Vec::new(), Vec::new());
        let addresses = BTreeMap::new();
        let (raft, given, made) = (100, 0, 0);
        let mut swarm =
            Self { size, port, service, task, services, tasks, addresses, raft, given, made };
        for n in 0..size.services {
            swarm.services.push(swarm.service(n, &host(n, 0)));
            let addresses: Vec<_> = (0..size.replicas).map(|_| swarm.next_address()).collect();
            let live: Vec<_> = (0..size.replicas)
                .map(|slot| swarm.task(n, slot, "running", addresses[slot]))
                .collect();
            let ended = (0..size.history * size.replicas)
                .map(|at| swarm.task(n, at % size.replicas, "shutdown", Ipv4Addr::LOCALHOST));
            let ended: Vec<_> = ended.collect();
            swarm.tasks.push(live.into_iter().chain(ended).collect());
            swarm.addresses.insert(name(n), addresses);
        }
        swarm
    }

    /// The answer to `GET /services`.
    pub(crate) fn list_services(&self) -> String {
        format!("[{}]", self.services.join(","))
    }

    /// The answer to `GET /tasks`.
    pub(crate) fn list_tasks(&self) -> String {
        let all: Vec<&str> = self.tasks.iter().flatten().map(String::as_str).collect();
        format!("[{}]", all.join(","))
    }

    /// How long the two lists are together.
    pub(crate) fn bytes(&self) -> usize {
        self.list_services().len() + self.list_tasks().len()
    }

    /// The addresses of a service by its name.
    pub(crate) fn addresses(&self, name: &str) -> Option<&[Ipv4Addr]> {
        self.addresses.get(name).map(Vec::as_slice)
    }

    /// Gives a service another host by its label; which one.
    pub(crate) fn relabel(&mut self, n: usize, revision: usize) -> String {
        self.raft += 1;
        let host = host(n, revision);
        self.services[n] = self.service(n, &host);
        host
    }

    /// Ends the first task of a service, and runs another in its place; where that one is.
    pub(crate) fn replace_task(&mut self, n: usize) -> Ipv4Addr {
        let address = self.next_address();
        let ended = self.task(n, 0, "shutdown", Ipv4Addr::LOCALHOST);
        self.tasks[n][0] = self.task(n, 0, "running", address);
        // The oldest is forgotten.
        if self.size.history > 0 {
            self.tasks[n][self.size.replicas] = ended;
        }
        self.addresses.get_mut(&name(n)).expect("a service")[0] = address;
        address
    }

    /// What the engine's event stream says about a change of a service.
    pub(crate) fn event(n: usize) -> String {
        let attributes = json!({ "name": name(n) });
        json!({
            "Type": "service", "Action": "update", "scope": "swarm",
            "Actor": { "ID": service_id(n), "Attributes": attributes },
            "time": 1_795_000_000, "timeNano": 1_795_000_000_000_000_000_u64,
        })
        .to_string()
    }

    fn next_address(&mut self) -> Ipv4Addr {
        self.given += 1;
        let given = self.given.to_be_bytes();
        Ipv4Addr::new(127, 99, given[2], given[3])
    }

    fn service(&self, n: usize, host: &str) -> String {
        let mut service = self.service.clone();
        service["ID"] = json!(service_id(n));
        service["Version"]["Index"] = json!(self.raft);
        service["Spec"]["Name"] = json!(name(n));
        service["Spec"]["Labels"] = json!({
            "com.docker.stack.image": image(n),
            "com.docker.stack.namespace": stack(n),
            "hiveway.host": host,
            "hiveway.port": self.port.to_string(),
            "hiveway.timeout.response-header": "30s",
            "hiveway.retry.attempts": "2",
            "monitoring.team": format!("team-{}", n % 7),
            "backup.enable": "false",
        });
        service["Spec"]["TaskTemplate"] = template(n);
        service["Spec"]["Mode"] = json!({ "Replicated": { "Replicas": self.size.replicas } });
        service["Spec"]["EndpointSpec"] = json!({ "Mode": "vip" });
        let virtual_address = json!({ "NetworkID": NETWORK, "Addr": "127.99.250.1/16" });
        service["Endpoint"] = json!({ "Spec": { "Mode": "vip" }, "VirtualIPs": [virtual_address] });
        service.to_string()
    }

    fn task(&mut self, n: usize, slot: usize, state: &str, address: Ipv4Addr) -> String {
        (self.made, self.raft) = (self.made + 1, self.raft + 1);
        let mut task = self.task.clone();
        task["ID"] = json!(format!("task{:021}", self.made));
        task["Version"]["Index"] = json!(self.raft);
        task["ServiceID"] = json!(service_id(n));
        task["Slot"] = json!(slot + 1);
        task["Spec"] = template(n);
        task["DesiredState"] = json!(state);
        task["Status"]["State"] = json!(state);
        let container = format!("{:064x}", u128::from(self.made) << 64);
        task["Status"]["ContainerStatus"]["ContainerID"] = json!(container);
        let attachment = &mut task["NetworksAttachments"][0];
        attachment["Network"]["ID"] = json!(NETWORK);
        attachment["Network"]["Spec"]["Name"] = json!(NETWORK_NAME);
        attachment["Network"]["IPAMOptions"]["Configs"] =
            json!([{ "Subnet": SUBNET, "Gateway": "127.99.0.1" }]);
        attachment["Addresses"] = json!([format!("{address}/16")]);
        task.to_string()
    }
}

fn stack(n: usize) -> String {
    format!("stack{:02}", n / 5)
}

fn name(n: usize) -> String {
    let part = ["web", "api", "admin", "worker", "search"][n % 5];
    format!("{}_{part}", stack(n))
}

/// The host of a service at first, or after a change.
fn host(n: usize, revision: usize) -> String {
    format!("{}-{revision}.example.test", name(n).replace('_', "-"))
}

fn service_id(n: usize) -> String {
    format!("service{n:018}")
}

fn image(n: usize) -> String {
    format!("registry.example.test/{}:1.{n}.0@sha256:{:064x}", name(n).replace('_', "/"), n)
}

/// What a service's containers are made from, of a common length.
fn template(n: usize) -> Value {
    let environment: Vec<_> =
        (0..15).map(|at| format!("SETTING_{at}=a value as they are common, number {n}")).collect();
    json!({
        "ContainerSpec": {
            "Image": image(n),
            "Labels": { "com.docker.stack.namespace": stack(n) },
            "Env": environment,
            "Privileges": { "CredentialSpec": null, "SELinuxContext": null },
            "StopGracePeriod": 30_000_000_000_u64,
            "DNSConfig": {},
            "Isolation": "default",
        },
        "Resources": {
            "Limits": { "NanoCPUs": 1_000_000_000, "MemoryBytes": 536_870_912 },
            "Reservations": { "MemoryBytes": 134_217_728 },
        },
        "RestartPolicy": { "Condition": "any", "Delay": 5_000_000_000_u64, "MaxAttempts": 0 },
        "Placement": { "Platforms": [{ "Architecture": "amd64", "OS": "linux" }] },
        "Networks": [{ "Target": NETWORK, "Aliases": [name(n)] }],
        "ForceUpdate": 0,
        "Runtime": "container",
    })
}

/// One of the recorded objects.
fn recorded(file: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/docker").join(file);
    let text = std::fs::read_to_string(path).expect("what was recorded");
    let all: Vec<Value> = serde_json::from_str(&text).expect("a list");
    all.into_iter().find(is_it).expect("a recorded object")
}
