//! Frames that ask for nothing, as many as the edge takes.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use crate::attacker::{Attacker, attackers};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, HELLO, PING, SETTINGS, fields, frame,
};
use crate::siege::{Bounds, Siege, long};

/// Attackers at a time, each as fast as it can.
const ATTACKERS: usize = 4;
/// How long they come back.
const ATTACK: Duration = Duration::from_secs(1);
/// How long one waits for its end.
const PATIENCE: Duration = Duration::from_secs(8);
/// Frames in one write.
const BATCH: usize = 1000;

/// `first`, then one frame again and again.
fn flood(name: &'static str, first: &[u8], one: &[u8]) {
    let siege = Siege::of(name, "");
    let edge = siege.edge.web;
    let (first, batch) =
        ([HELLO, first].concat().leak() as &[u8], one.repeat(BATCH).leak() as &[u8]);
    let toll = siege.attack(None, async {
        let over = Instant::now() + ATTACK * long();
        attackers(ATTACKERS, over, move |_| async move {
            let attacker = Attacker::at(edge).await?;
            let act = async |writer: &mut OwnedWriteHalf| {
                writer.write_all(first).await?;
                loop {
                    writer.write_all(batch).await?;
                    tokio::task::yield_now().await;
                }
            };
            Ok(attacker.until_cut(PATIENCE, act).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(7), memory: 32, upstream: 1 });
}

#[test]
fn pings() {
    flood("PING flood", b"", &frame(PING, 0, 0, &[7; 8]));
}

#[test]
fn settings() {
    flood("SETTINGS flood", b"", &frame(SETTINGS, 0, 0, b""));
}

#[test]
fn continuations() {
    let begun = frame(HEADERS, 0, 1, &fields("GET", "/attack", None));
    flood("CONTINUATION flood", &begun, &frame(CONTINUATION, 0, 1, b""));
}

#[test]
fn empty_data() {
    let begun = frame(HEADERS, END_HEADERS, 1, &fields("POST", "/attack", None));
    flood("empty DATA flood", &begun, &frame(DATA, 0, 1, b""));
}
