//! More connections than anybody needs, and more than there are files for.

use std::fs;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use crate::attacker::{ARRIVING, Attacker, arriving, attackers};
use crate::frames::HELLO;
use crate::others::{EVERY_WAY, Way};
use crate::siege::{Bounds, Holding, Siege};

/// How long an attacker waits for its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Open files that this process may have.
fn files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}

#[test]
fn connections_that_do_nothing() {
    let count = files().saturating_sub(1000).min(10_000);
    assert!(count >= 3000, "too few files for a crowd: run `ulimit -n \"$(ulimit -Hn)\"` before");
    let name: &str = format!("{count} idle connections").leak();
    let siege = Siege::with(name, "connections = 11000\nkeepalive-idle = \"8s\"", None, EVERY_WAY);
    let edge = siege.edge.web;
    let holding = Holding { after: Duration::from_millis(5500), lasts: Duration::from_secs(2) };
    let toll = siege.attack(Some(holding), async {
        arriving(2 * ARRIVING, count, Instant::now(), move |number| async move {
            let attacker = Attacker::at(edge).await?;
            let greet = async |writer: &mut OwnedWriteHalf| match number % 4 {
                0 => Ok(()),
                1 => writer.write_all(HELLO).await,
                _ => writer.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await,
            };
            Ok(attacker.until_cut(PATIENCE, greet).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(16), memory: 320, upstream: 0 });
}

/// 600 who hold on to what they get, with files for less than half of them.
fn few_files(name: &'static str, limits: &str) {
    // Who comes anew then may be turned away; whoever is there is served.
    let siege = Siege::with(name, limits, Some(256), &[Way::KeptStreams]);
    let edge = siege.edge.web;
    let holding = Holding { after: Duration::from_secs(1), lasts: Duration::from_secs(2) };
    let toll = siege.attack(Some(holding), async {
        attackers(600, Instant::now(), move |_| async move {
            let attacker = Attacker::at(edge).await?;
            Ok(attacker.until_cut(PATIENCE, async |_| Ok(())).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(9), memory: 16, upstream: 0 });
}

#[test]
fn more_connections_than_files_allow() {
    few_files("256 files", "keepalive-idle = \"4s\"");
}

#[test]
fn more_connections_than_files_allow_when_told_to_take_them() {
    few_files("256 files, 1000 connections allowed", "connections = 1000\nkeepalive-idle = \"4s\"");
}
