//! One replica of a service, reached past the Swarm: to end it, to turn it bad, to count what comes.

use crate::docker::docker;
use crate::lab::{script, stdout};

/// The port that replicas listen on.
const PORT: &str = "8080";

/// One that runs on node 1.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// Of its container.
    pub(crate) id: String,
    /// Of its process.
    pid: String,
    /// As metrics have it, for example `shop_web.3`.
    pub(crate) endpoint: String,
}

impl Replica {
    /// One of the service's, whichever.
    pub(crate) fn one_of(service: &str) -> Self {
        Self::all_of(service).into_iter().next().expect("a container")
    }

    /// All of the service's.
    pub(crate) fn all_of(service: &str) -> Vec<Self> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let ids = docker(&["ps", "--quiet", "--filter", &filter]);
        ids.lines().map(Self::of_container).collect()
    }

    fn of_container(id: &str) -> Self {
        let format = "{{.State.Pid}} {{index .Config.Labels \"com.docker.swarm.task.name\"}}";
        let told = docker(&["inspect", "--format", format, id]);
        let (pid, task) = told.split_once(' ').expect("a pid and a name");
        let endpoint = task.rsplit_once('.').map_or(task, |(endpoint, _)| endpoint).to_owned();
        Self { id: id.to_owned(), pid: pid.to_owned(), endpoint }
    }

    /// Sends its process a signal, for example `KILL`, which the engine knows nothing of.
    pub(crate) fn signal(&self, name: &str) {
        stdout(&mut script("on.sh", &["1", "kill", "-s", name, &self.pid]));
    }

    /// Changes how it answers; see `/mood` of `examples/replica`.
    pub(crate) fn becomes(&self, mood: &str) {
        let url = format!("http://127.0.0.1:{PORT}/mood?is={mood}");
        self.inside(&["curl", "--silent", "--fail", "--max-time", "5", &url]);
    }

    /// Swallows every packet to its port from now on.
    pub(crate) fn swallows(&self) {
        self.iptables(&["-A", "INPUT", "-p", "tcp", "--dport", PORT, "-j", "DROP"]);
    }

    /// Refuses connections from now on, and resets those that are there.
    pub(crate) fn refuses(&self) {
        let to_port = ["-A", "INPUT", "-p", "tcp", "--dport", PORT];
        self.iptables(&[to_port.as_slice(), &["--syn"]].concat());
        let reject = ["-j", "REJECT", "--reject-with", "tcp-reset"];
        self.iptables(&[to_port.as_slice(), &reject].concat());
    }

    /// Connections that were asked of it since it [`refuses`](Self::refuses).
    pub(crate) fn dials(&self) -> u64 {
        let list = self.iptables(&["-L", "INPUT", "-v", "-x", "-n"]);
        let first = list.lines().nth(2).and_then(|rule| rule.split_whitespace().next());
        first.and_then(|packets| packets.parse().ok()).expect("the counter of the first rule")
    }

    fn iptables(&self, args: &[&str]) -> String {
        self.inside(&[&["iptables", "-w"], args].concat())
    }

    /// Runs a program of this machine in its network.
    fn inside(&self, command: &[&str]) -> String {
        let enter = ["1", "nsenter", "-n", "-t", &self.pid];
        stdout(&mut script("on.sh", &[enter.as_slice(), command].concat()))
    }
}
