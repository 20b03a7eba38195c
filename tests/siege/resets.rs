//! Streams that are reset as soon as they are open: by the attacker (CVE-2023-44487), or by the edge
//! because the attacker makes it (CVE-2025-8671). Each may cost the replica a whole request.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use crate::attacker::{Attacker, attackers};
use crate::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, HELLO, RST_STREAM, WINDOW_UPDATE, fields, frame, get,
};
use crate::siege::{Bounds, Siege, long};

/// Attackers at a time, each as fast as it can.
const ATTACKERS: usize = 5;
/// How long they come back.
const ATTACK: Duration = Duration::from_secs(2);
/// How long one waits for its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Streams in one write.
const BATCH: u32 = 20;

/// Streams that follow this pattern, for as long as the edge takes them.
fn streams(name: &'static str, one: fn(u32) -> Vec<u8>) {
    let siege = Siege::of(name, "");
    let edge = siege.edge.web;
    let toll = siege.attack(None, async {
        let over = Instant::now() + ATTACK * long();
        attackers(ATTACKERS, over, move |_| async move {
            let attacker = Attacker::at(edge).await?;
            let act = async |writer: &mut OwnedWriteHalf| {
                writer.write_all(HELLO).await?;
                for batch in 0.. {
                    let streams = (0..BATCH).map(|number| 2 * (batch * BATCH + number) + 1);
                    let bytes: Vec<u8> = streams.flat_map(one).collect();
                    writer.write_all(&bytes).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            };
            Ok(attacker.until_cut(PATIENCE, act).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(4), memory: 64, upstream: 100 });
}

#[test]
fn streams_that_are_reset_at_once() {
    streams("rapid reset", |stream| {
        [get(stream, "/attack"), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
}

#[test]
fn streams_whose_window_overflows() {
    streams("MadeYouReset by windows", |stream| {
        let most = 0x7fff_ffff_u32.to_be_bytes();
        [get(stream, "/attack"), frame(WINDOW_UPDATE, 0, stream, &most)].concat()
    });
}

#[test]
fn streams_whose_body_is_shorter_than_they_say() {
    streams("MadeYouReset by lengths", |stream| {
        let fields = fields("POST", "/attack", Some("5"));
        let head = frame(HEADERS, END_HEADERS, stream, &fields);
        [head, frame(DATA, END_STREAM, stream, b"x")].concat()
    });
}

#[test]
fn streams_that_go_on_after_their_end() {
    streams("MadeYouReset by DATA after the end", |stream| {
        [get(stream, "/attack"), frame(DATA, 0, stream, b"x")].concat()
    });
}
