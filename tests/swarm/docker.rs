//! Services, made and changed by the `docker` command as a person would.

use std::process::Command;
use std::time::Duration;

use crate::lab::{lab_root, stdout, wait_for};

/// What `docker ARGS...` prints, asked of node 1's engine.
///
/// # Panics
///
/// If it fails, with all that it said.
pub(crate) fn docker(args: &[&str]) -> String {
    docker_on(1, args)
}

/// As [`docker`], asked of the engine of another node.
pub(crate) fn docker_on(node: u8, args: &[&str]) -> String {
    stdout(command_on(node).args(args))
}

fn command() -> Command {
    command_on(1)
}

fn command_on(node: u8) -> Command {
    let mut command = Command::new("docker");
    let socket = lab_root().join(format!("{node}/docker.sock"));
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command
}

/// A service of the test replica, before it is made.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    args: Vec<String>,
    network: Option<&'static str>,
    replicas: Option<u32>,
}

impl Service {
    /// One replica on the network `hiveway`, listening on 8080, which the label `hiveway.port` says.
    pub(crate) fn new(name: &str) -> Self {
        let service = Self {
            name: name.to_owned(),
            args: Vec::new(),
            network: Some("hiveway"),
            replicas: Some(1),
        };
        service.label("hiveway.port=8080").env("REPLICA_TASK={{.Task.Name}}")
    }

    /// Adds a service label, `name=value`.
    pub(crate) fn label(self, label: &str) -> Self {
        self.args(&["--label", label])
    }

    /// Adds an environment variable, `NAME=value`; see `examples/replica` for what there is.
    pub(crate) fn env(self, variable: &str) -> Self {
        self.args(&["--env", variable])
    }

    /// Adds any arguments of `docker service create`.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Publishes the replica's port on node 1 alone, past the edge.
    pub(crate) fn on_host_port(self, port: u16) -> Self {
        let publish = format!("published={port},target=8080,mode=host");
        self.args(&["--publish", &publish, "--constraint", "node.hostname==node1"])
    }

    /// Only on that node.
    pub(crate) fn on_node(self, node: u8) -> Self {
        self.args(&["--constraint", &format!("node.hostname==node{node}")])
    }

    /// So many replicas.
    pub(crate) fn replicas(mut self, count: u32) -> Self {
        self.replicas = Some(count);
        self
    }

    /// One replica on each node.
    pub(crate) fn global(mut self) -> Self {
        self.replicas = None;
        self
    }

    /// On no network but the engine's own.
    pub(crate) fn off_the_network(mut self) -> Self {
        self.network = None;
        self
    }

    /// Makes it, and returns when Docker has taken the order: its tasks are not there yet.
    pub(crate) fn create(self) -> Deployed {
        let mut command = command();
        command.args(["service", "create", "--quiet", "--detach", "--no-resolve-image"]);
        command.args(["--name", &self.name]);
        match self.replicas {
            Some(count) => command.args(["--replicas", &count.to_string()]),
            None => command.args(["--mode", "global"]),
        };
        if let Some(network) = self.network {
            command.args(["--network", network]);
        }
        stdout(command.args(&self.args).arg("replica:latest"));
        Deployed { name: self.name, stays: false }
    }
}

/// A service that is there; removed when this is dropped, also by a test that fails.
#[derive(Debug)]
pub(crate) struct Deployed {
    name: String,
    stays: bool,
}

impl Deployed {
    /// A service that was made by other means, to be removed like the others.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), stays: false }
    }

    /// A service of a stack, which is there for other tests, too.
    pub(crate) fn of_stack(name: &str) -> Self {
        Self { name: name.to_owned(), stays: true }
    }

    /// `docker service update ARGS...`; returns when Docker has taken the order.
    pub(crate) fn update(&self, args: &[&str]) {
        let fixed = ["service", "update", "--quiet", "--detach", "--no-resolve-image"];
        docker(&[&fixed, args, &[&self.name]].concat());
    }

    /// Adds or replaces a service label, `name=value`.
    pub(crate) fn label(&self, label: &str) {
        self.update(&["--label-add", label]);
    }

    /// Asks for so many replicas.
    pub(crate) fn scale(&self, count: u32) {
        self.update(&["--replicas", &count.to_string()]);
    }

    /// Waits until exactly so many tasks run, and healthily.
    pub(crate) fn wait_running(&self, count: usize) {
        let what = format!("{count} running tasks of {}", self.name);
        wait_for(&what, Duration::from_mins(1), || (self.running() == count).then_some(()));
    }

    /// How many tasks run, those that are being stopped included.
    pub(crate) fn running(&self) -> usize {
        let format = "{{.CurrentState}}";
        let states = docker(&["service", "ps", "--format", format, &self.name]);
        states.lines().filter(|state| state.starts_with("Running")).count()
    }

    /// Waits until an update that was asked for has come to its end.
    ///
    /// # Panics
    ///
    /// If Docker paused the update or rolled it back.
    pub(crate) fn wait_updated(&self) {
        let format = "{{with .UpdateStatus}}{{.State}}{{end}}";
        let what = format!("the update of {}", self.name);
        wait_for(&what, Duration::from_mins(2), || {
            let state = docker(&["service", "inspect", "--format", format, &self.name]);
            assert!(matches!(state.as_str(), "updating" | "completed" | ""), "{what}: {state}");
            (state == "completed").then_some(())
        });
    }

    /// Removes it now.
    pub(crate) fn remove(self) {
        drop(self);
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // A test that failed because the service is gone must not fail again here.
        let _ = command().args(["service", "rm", &self.name]).output();
    }
}

/// A stack that is there; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Stack(pub(crate) &'static str);

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = command().args(["stack", "rm", self.0]).output();
    }
}
