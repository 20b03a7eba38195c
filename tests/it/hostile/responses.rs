//! A hostile replica: what it answers beyond all rules harms its own client only, and that one sees
//! that something is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::case::{Case, read_all};
use super::trial::PATIENCE;
use crate::support::{Ingress, Origin, Wire, get, service};

/// What the replica answers `/hostile/7` with, by number. Everything else is answered by its line
/// and the number of the connection it came on: `3 GET /`.
async fn replica(cases: &[Case]) -> (Origin, Arc<AtomicUsize>) {
    let answers: Arc<[_]> = cases.iter().map(|case| (case.bytes(), case.finishes())).collect();
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let origin = Origin::scripted_by_number(move |mut wire, connection| {
        let (answers, count) = (Arc::clone(&answers), Arc::clone(&count));
        async move {
            while let Some(head) = wire.next_head().await {
                let line = head.lines().next().unwrap();
                count.fetch_add(1, SeqCst);
                let path = line.split(' ').nth(1).unwrap();
                let Some(number) = path.strip_prefix("/hostile/") else {
                    let body = format!("{connection} {line}");
                    let length = body.len();
                    wire.write(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
                    ))
                    .await;
                    continue;
                };
                let (bytes, finishes) = &answers[number.parse::<usize>().unwrap()];
                wire.write(bytes).await;
                if *finishes {
                    wire.finish().await;
                }
            }
        }
    });
    (origin.await, asked)
}

/// The number of the connection that an innocent client's request came on.
async fn innocent(ingress: &Ingress, path: &str) -> Result<usize, String> {
    let reply = get(ingress, "a", path).await.to_string();
    let answer = reply.strip_prefix("200 ").and_then(|answer| answer.split_once(' '));
    let (connection, line) = answer.ok_or(&reply)?;
    if line != format!("GET {path} HTTP/1.1") {
        return Err(reply);
    }
    connection.parse().map_err(|_| reply)
}

/// What the client sees, and whether the next request came on the same connection.
async fn replay(ingress: &Ingress, number: usize) -> Result<Vec<String>, String> {
    let before = innocent(ingress, &format!("/before/{number}")).await?;
    let mut wire = Wire::to(ingress.address).await;
    wire.write(format!("GET /hostile/{number} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let Some(head) = wire.next_head().await else { return Err("no answer at all".to_owned()) };
    let reply = wire.reply_with(head).await;
    let after = innocent(ingress, &format!("/after/{number}")).await?;
    let own = reply.body.lines().next().and_then(|line| line.rsplit_once(" ("));
    let answer = match own {
        Some((_, word)) => format!("{} {}", reply.status(), word.trim_end_matches(')')),
        None => reply.to_string().escape_debug().to_string(),
    };
    let framings = ["content-length", "transfer-encoding"].map(|name| reply.field(name));
    if framings.iter().flatten().count() > 1 {
        return Err(format!("two framings in {}", reply.head));
    }
    if reply.status() == 204 && framings != [None, None] {
        return Err(format!("a length without a body in {}", reply.head));
    }
    for never in ["x-secret", "keep-alive", "proxy-authenticate", "upgrade", "set-cookie"] {
        if reply.field(never).is_some() {
            return Err(format!("{never} in {}", reply.head));
        }
    }
    let connection = if before == after { "reused" } else { "closed" };
    Ok(vec![answer.trim_end().to_owned(), connection.to_owned()])
}

#[tokio::test]
async fn hostile_responses_are_seen_as_such_and_poison_no_connection() {
    let cases = read_all("responses");
    let (origin, asked) = replica(&cases).await;
    let labels = "hiveway.eject.consecutive=100000 hiveway.retry.attempts=0";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let outcome = tokio::time::timeout(PATIENCE, replay(&ingress, number)).await;
        let came = outcome.unwrap_or_else(|_| Err("hangs".to_owned()));
        if came.as_ref() != Ok(&case.expected) {
            failures.push(case.failure(&format!("    < {came:?}")));
        }
    }
    assert!(failures.is_empty(), "{} cases:\n\n{}\n", failures.len(), failures.join("\n\n"));
    assert_eq!(asked.load(SeqCst), 3 * cases.len(), "each was asked once, between two others");
}
