//! What is broken for a while, and mended when dropped, also by a test that fails.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::docker::docker;
use crate::lab::{EDGE, script, stdout, wait_for};

/// A node with which something is wrong.
#[derive(Debug)]
pub(super) struct Broken {
    node: String,
    mended_by: &'static str,
}

impl Broken {
    /// Its engine stands still; its containers run on.
    pub(super) fn engine_frozen(node: u8) -> Self {
        Self::by("pause", "resume", node)
    }

    /// Its engine was stopped in good order: its containers are told to end, and the Swarm learns nothing.
    pub(super) fn engine_stopped(node: u8) -> Self {
        Self::by("stop", "start", node)
    }

    /// It is without its cable.
    pub(super) fn cut_off(node: u8) -> Self {
        Self::by("cut", "restore", node)
    }

    fn by(action: &str, mended_by: &'static str, node: u8) -> Self {
        let node = node.to_string();
        stdout(&mut script("node.sh", &[&node, action]));
        Self { node, mended_by }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = script("node.sh", &[&self.node, self.mended_by]).status();
    }
}

/// Further managers beside node 1, which is one again alone at the end.
#[derive(Debug)]
pub(super) struct Managers;

impl Managers {
    pub(super) fn three() -> Self {
        docker(&["node", "promote", "node2", "node3"]);
        let managers = Self;
        wait_managers(3);
        managers
    }
}

/// Waits until so many managers say of themselves, and of each other, that they are there.
fn wait_managers(count: usize) {
    wait_for(&format!("{count} managers"), Duration::from_mins(1), || {
        (1..=count).all(|node| reachable(node) == count).then_some(())
    });
    // One that was just promoted reads the log of the others.
    thread::sleep(Duration::from_secs(2));
}

/// How many managers are there, as that one sees it.
fn reachable(node: usize) -> usize {
    let list = ["timeout", "2", "docker", "node", "ls", "--format", "{{.ManagerStatus}}"];
    let output = script("on.sh", &[&[&*node.to_string()], &list[..]].concat()).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let list = String::from_utf8_lossy(&output).into_owned();
    list.lines().filter(|state| matches!(*state, "Leader" | "Reachable")).count()
}

impl Drop for Managers {
    fn drop(&mut self) {
        // Two of two must agree: without the second one before its time the first would be alone.
        // Each until it works: an election may be under way.
        for node in ["node3", "node2"] {
            wait_for("a manager to be demoted", Duration::from_mins(1), || {
                let mut command = script("on.sh", &["1", "docker", "node", "demote", node]);
                command.output().ok()?.status.success().then_some(())
            });
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// No packet between the edge on a node and one address.
#[derive(Debug)]
pub(super) struct Partition {
    node: String,
    address: String,
}

impl Partition {
    pub(super) fn between(node: u8, address: &str) -> Self {
        let partition = Self { node: node.to_string(), address: address.to_owned() };
        partition.rules("-I").for_each(|mut rule| {
            stdout(&mut rule);
        });
        partition
    }

    fn rules(&self, action: &'static str) -> impl Iterator<Item = Command> + '_ {
        [("OUTPUT", "-d"), ("INPUT", "-s")].into_iter().map(move |(chain, side)| {
            let Self { node, address } = self;
            let rule = ["iptables", "-w", action, chain, side, address, "-j", "DROP"];
            script("inside.sh", &[&[node, EDGE], &rule[..]].concat())
        })
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        for mut rule in self.rules("-D") {
            let _ = rule.status();
        }
    }
}

/// Answers each question on port 5353 with NXDOMAIN, until its standard input ends.
const KNOWS_NOTHING: &str = "
import os, socket, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('', 5353))
while True:
    question, asker = server.recvfrom(4096)
    end = 12
    while question[end]:
        end += question[end] + 1
    head = question[:2] + b'\\x81\\x83' + question[4:6] + bytes(6)
    server.sendto(head + question[12:end + 5], asker)
";

/// For the edge on a node there are no names.
#[derive(Debug)]
pub(super) struct NoNames {
    node: String,
    server: Child,
}

impl NoNames {
    pub(super) fn on(node: u8) -> Self {
        let node = node.to_string();
        let mut server = script("inside.sh", &[&node, EDGE, "python3", "-c", KNOWS_NOTHING]);
        let server = server.stdin(Stdio::piped()).spawn().expect("a server of names");
        let no_names = Self { node, server };
        stdout(&mut no_names.rule("-I"));
        no_names
    }

    fn rule(&self, action: &str) -> Command {
        let rule = ["-d", "127.0.0.11", "-p", "udp", "--dport", "53", "-j", "REDIRECT"];
        let head = [&*self.node, EDGE, "iptables", "-w", "-t", "nat", action, "OUTPUT"];
        script("inside.sh", &[&head[..], &rule, &["--to-ports", "5353"]].concat())
    }
}

impl Drop for NoNames {
    fn drop(&mut self) {
        let _ = self.rule("-D").status();
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}
