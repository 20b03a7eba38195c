//! A hostile replica: what it answers beyond all rules harms its own client only, and that one sees
//! that something is wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::case::{Case, read_all};
use super::frames::{Encoder, Frame, PREFACE, frame, kind};
use super::trial::{self, PATIENCE};
use crate::support::{Ingress, Origin, Reply, Wire, check, get, service};

/// What the replicas answer, and what they have been asked: each case comes between two innocent
/// requests, which get the number of their connection and their own.
struct Script {
    cases: Vec<Case>,
    asked: AtomicUsize,
    connections: AtomicUsize,
}

impl Script {
    fn read(directory: &str) -> Arc<Self> {
        let cases = read_all(directory);
        assert!(!cases.is_empty());
        let (asked, connections) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { cases, asked, connections })
    }

    /// The next request's number, and its case unless it is innocent.
    fn next(&self) -> (usize, Option<&Case>) {
        let number = self.asked.fetch_add(1, SeqCst);
        (number, self.cases.get(number / 3).filter(|_| number % 3 == 1))
    }
}

async fn replica_of_http1(script: &Arc<Script>) -> Origin {
    let script = Arc::clone(script);
    Origin::scripted_by_number(move |mut wire, connection| {
        let script = Arc::clone(&script);
        async move {
            while wire.next_head().await.is_some() {
                let (number, case) = script.next();
                let body = format!("{connection} {number}");
                let length = body.len();
                let innocent = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                wire.write(case.map_or(innocent.into_bytes(), Case::bytes)).await;
                if case.is_some_and(Case::finishes) {
                    wire.finish().await;
                }
            }
        }
    })
    .await
}

async fn replica_of_http2(script: &Arc<Script>) -> Origin {
    let script = Arc::clone(script);
    Origin::connected(move |stream| {
        let script = Arc::clone(&script);
        async move {
            // Whoever only looks whether somebody listens sends no preface.
            let _ = speak_http2(stream, &script).await;
        }
    })
    .await
}

async fn speak_http2(mut stream: TcpStream, script: &Script) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE.len()]).await?;
    stream.write_all(&frame(kind("SETTINGS"), 0, 0, b"")).await?;
    let connection = script.connections.fetch_add(1, SeqCst);
    let mut unread = Vec::new();
    while stream.read_buf(&mut unread).await? > 0 {
        while let Some(asked) = Frame::take(&mut unread) {
            if asked.kind != kind("HEADERS") {
                continue;
            }
            let (number, case) = script.next();
            let answer = case.map_or_else(
                || {
                    let body = format!("{connection} {number}");
                    let head = frame(kind("HEADERS"), 4, asked.stream, b"\x88");
                    [head, frame(kind("DATA"), 1, asked.stream, body.as_bytes())].concat()
                },
                |case| Encoder::encode(&case.sent, asked.stream),
            );
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// The connection that an innocent client's request came on, which must have got its own answer.
async fn innocent(ingress: &Ingress, number: usize) -> Result<usize, String> {
    let reply = get(ingress, "a", "/").await.to_string();
    let answer = reply.strip_prefix("200 ").and_then(|answer| answer.split_once(' '));
    let (connection, own) = answer.ok_or(&reply)?;
    let connection = connection.parse().map_err(|_| reply.clone())?;
    if own == number.to_string() { Ok(connection) } else { Err(reply) }
}

/// What the client sees, and whether the next request came on the same connection.
async fn replay(ingress: &Ingress, number: usize) -> Result<Vec<String>, String> {
    let before = innocent(ingress, 3 * number).await?;
    let mut wire = Wire::to(ingress.address).await;
    wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // What breaks at once may take the head with it.
    let reply = match wire.next_head().await {
        Some(head) => Some(wire.reply_with(head).await).filter(|reply| reply.whole),
        None => None,
    };
    let after = innocent(ingress, 3 * number + 2).await?;
    let answer = reply.as_ref().map_or_else(|| Ok("broken".to_owned()), describe)?;
    let connection = if before == after { "reused" } else { "closed" };
    Ok(vec![answer, connection.to_owned()])
}

/// Status and body, or the reason word if it is the proxy's own.
fn describe(reply: &Reply) -> Result<String, String> {
    let lines = reply.head.lines().map(str::to_ascii_lowercase);
    let names: Vec<_> = lines.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    let framing = |name: &&String| ["content-length", "transfer-encoding"].contains(&name.as_str());
    let framings = names.iter().filter(framing).count();
    if framings != usize::from(![204, 304].contains(&reply.status())) {
        return Err(format!("{framings} framings in {}", reply.head));
    }
    for never in ["x-secret", "keep-alive", "proxy-authenticate", "upgrade", "set-cookie"] {
        if names.iter().any(|name| name == never) {
            return Err(format!("{never} in {}", reply.head));
        }
    }
    if reply.status() == 502 {
        return Ok(trial::describe("502", &reply.body));
    }
    Ok(reply.to_string().trim_end().escape_debug().to_string())
}

async fn run(script: &Script, protocol: &str, replica: SocketAddr) {
    let labels = format!(
        "hiveway.protocol={protocol} hiveway.eject.consecutive=100000 hiveway.retry.attempts=0"
    );
    let ingress = Ingress::start([service("shop", &labels, &[replica])]).await;
    let mut failures = Vec::new();
    for (number, case) in script.cases.iter().enumerate() {
        let outcome = tokio::time::timeout(PATIENCE, replay(&ingress, number)).await;
        let came = outcome.unwrap_or_else(|_| Err("hangs".to_owned()));
        if came.as_ref() != Ok(&case.expected) {
            failures.push(case.failure(&format!("    < {came:?}")));
        }
        // Whatever came of it, the next case begins with its own number.
        script.asked.store(3 * number + 3, SeqCst);
    }
    assert!(failures.is_empty(), "{} cases:\n\n{}\n", failures.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn hostile_responses_are_seen_as_such_and_poison_no_connection() {
    let script = Script::read("responses-http1");
    let replica = replica_of_http1(&script).await;
    run(&script, "http", replica.address).await;
}

#[tokio::test]
async fn hostile_responses_of_http2_are_seen_as_such_and_poison_no_connection() {
    let script = Script::read("responses-http2");
    let replica = replica_of_http2(&script).await;
    run(&script, "h2c", replica.address).await;
}

#[tokio::test]
async fn a_body_behind_the_answer_to_a_head_is_nobodys_response() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let line = head.lines().next().unwrap();
            let body = if line.starts_with("HEAD ") { EVIL } else { line };
            let length = body.len();
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    for n in 0..20 {
        let mut wire = Wire::to(ingress.address).await;
        wire.write("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        check(&ingress, "a", &format!("/{n}"), &format!("200 GET /{n} HTTP/1.1")).await;
    }
}

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
