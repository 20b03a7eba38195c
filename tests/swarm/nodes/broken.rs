//! What is broken for a while, and mended when dropped, also by a test that fails.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::docker::docker;
use crate::lab::{EDGE, script, stdout, wait_for};

/// An engine that stands still; its containers run on.
#[derive(Debug)]
pub(super) struct Frozen(u8);

impl Frozen {
    pub(super) fn engine_of(node: u8) -> Self {
        stdout(&mut script("node.sh", &[&node.to_string(), "pause"]));
        Self(node)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = script("node.sh", &[&self.0.to_string(), "resume"]).status();
    }
}

/// A node without its cable.
#[derive(Debug)]
pub(super) struct Cut(u8);

impl Cut {
    pub(super) fn off(node: u8) -> Self {
        stdout(&mut script("node.sh", &[&node.to_string(), "cut"]));
        Self(node)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = script("node.sh", &[&self.0.to_string(), "restore"]).status();
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
            wait_for("a manager to be demoted", std::time::Duration::from_mins(1), || {
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
