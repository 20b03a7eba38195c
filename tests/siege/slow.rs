//! Attackers who take their time: heads and bodies that never end, answers that are never read.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep};

use crate::attacker::{Attacker, attackers};
use crate::frames::{DATA, END_HEADERS, HEADERS, HELLO, SETTINGS, fields, frame, get};
use crate::origin::LARGE;
use crate::siege::{Bounds, Holding, Siege, long};

/// How long an attacker waits for its end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two bytes.
const DRIP: Duration = Duration::from_millis(500);
/// Who sends or takes less of a body is cut off after this time.
const IMPATIENT: &str = "body-rate = \"1KiB\"\nbody-grace = \"4s\"";
/// When all attackers are there, and none is due to go yet.
const HOLDING: Holding =
    Holding { after: Duration::from_millis(2200), lasts: Duration::from_secs(1) };

/// They come once, or again and again.
fn over() -> Instant {
    Instant::now() + Duration::from_secs(5) * (long() - 1)
}

#[test]
fn heads_that_never_end() {
    let siege = Siege::of("2000 slow heads", "head-time = \"4s\"");
    let edge = siege.edge.web;
    let toll = siege.attack(Some(HOLDING), async {
        attackers(2000, over(), move |_| async move {
            let attacker = Attacker::at(edge).await?;
            let drip = async |writer: &mut OwnedWriteHalf| {
                writer.write_all(b"GET /attack HTTP/1.1\r\nHost: shop.test\r\nX-Slow: ").await?;
                loop {
                    sleep(DRIP).await;
                    writer.write_all(b"x").await?;
                }
            };
            Ok(attacker.until_cut(PATIENCE, drip).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_millis(5500), memory: 100, upstream: 0 });
}

#[test]
fn heads_that_never_end_over_http2() {
    let siege =
        Siege::of("500 slow heads over HTTP/2", "head-time = \"4s\"\nkeepalive-idle = \"4s\"");
    let edge = siege.edge.web;
    let toll = siege.attack(Some(HOLDING), async {
        attackers(500, over(), move |_| async move {
            let attacker = Attacker::at(edge).await?;
            let begin = async |writer: &mut OwnedWriteHalf| {
                let fields = fields("GET", "/attack", None);
                let begun = frame(HEADERS, 0, 1, &fields);
                writer.write_all(&[HELLO, &begun].concat()).await
            };
            Ok(attacker.until_cut(PATIENCE, begin).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(10), memory: 100, upstream: 0 });
}

#[test]
fn bodies_that_never_end() {
    let siege = Siege::of("2000 slow bodies", IMPATIENT);
    let edge = siege.edge.web;
    let toll = siege.attack(Some(HOLDING), async {
        attackers(2000, over(), move |number| async move {
            let attacker = Attacker::at(edge).await?.with_one_stream();
            let http2 = number % 4 == 3;
            let drip = async |writer: &mut OwnedWriteHalf| {
                let (head, byte) = if http2 {
                    let fields = fields("POST", "/attack", Some("1000000"));
                    let head = frame(HEADERS, END_HEADERS, 1, &fields);
                    ([HELLO, &head].concat(), frame(DATA, 0, 1, b"x"))
                } else {
                    let head = "POST /attack HTTP/1.1\r\nHost: shop.test\r\n\
                                Content-Length: 1000000\r\n\r\n";
                    (head.into(), b"x".to_vec())
                };
                writer.write_all(&head).await?;
                loop {
                    sleep(DRIP).await;
                    writer.write_all(&byte).await?;
                }
            };
            Ok(attacker.until_cut(PATIENCE, drip).await)
        })
        .await
    });
    toll.is_within(Bounds { gone: Duration::from_secs(7), memory: 192, upstream: 1 });
}

/// 1,000 who ask for what is large and read none of it.
fn never_read(name: &'static str, request: &'static [u8]) {
    let siege = Siege::of(name, IMPATIENT);
    let edge = siege.edge.web;
    let toll = siege.attack(Some(HOLDING), async {
        attackers(1000, over(), move |_| async move {
            let attacker = Attacker::at(edge).await?;
            Ok(attacker.without_reading(request, Duration::from_secs(8)).await)
        })
        .await
    });
    toll.is_within_as_the_edge_tells(Bounds {
        gone: Duration::from_secs(7),
        memory: 160,
        upstream: 1,
    });
}

#[test]
fn clients_that_never_read() {
    let request = format!("GET {LARGE} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    never_read("1000 who never read", request.into_bytes().leak());
}

#[test]
fn clients_that_never_open_their_window() {
    // SETTINGS_INITIAL_WINDOW_SIZE (4) is 0.
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let request = [HELLO, &no_window, &get(1, LARGE)].concat();
    never_read("1000 who never read over HTTP/2", request.leak());
}
