//! HTTP/1: the bytes of a case, and behind them in the same write an innocent request.

use super::case::{Case, read_all};
use super::trial::{Outcome, PATIENCE, Trial, describe};
use crate::support::{Reply, Wire};

#[tokio::test]
async fn hostile_requests_of_http1_are_answered_as_written_and_harm_nobody() {
    let cases = read_all("http1");
    assert!(cases.len() >= 85, "{} cases", cases.len());
    let trial = Trial::new("").await;
    trial.run(cases, replay).await;
}

async fn replay(trial: &mut Trial, case: &Case) -> Outcome {
    let mut wire = Wire::to(trial.ingress.address).await;
    let (canary, behind) = trial.next_canary();
    let mut bytes = case.bytes();
    let head_only = bytes.starts_with(b"HEAD ");
    if !case.finishes() {
        bytes.extend(behind.as_bytes());
    }
    wire.write(&bytes).await;
    if case.finishes() {
        wire.finish().await;
    }
    let mut outcome = Outcome::default();
    let canary = format!("GET {canary} HTTP/1.1");
    let reading = read(trial, &mut wire, &canary, head_only, &mut outcome);
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        outcome.came.push("hangs".to_owned());
    }
    outcome
}

async fn read(
    trial: &mut Trial,
    wire: &mut Wire,
    canary: &str,
    mut head_only: bool,
    outcome: &mut Outcome,
) {
    while let Some(head) = wire.next_head().await {
        let Reply { head, body, whole } = if std::mem::take(&mut head_only) {
            Reply { head, body: String::new(), whole: true }
        } else {
            wire.reply_with(head).await
        };
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if status != "200" {
            outcome.came.push(describe(&status, &body));
            continue;
        }
        let number = crate::support::field(&head, "x-seen").unwrap_or_default().to_owned();
        let body = if body.is_empty() { trial.line_of(&number) } else { body };
        match trial.note_answer(&body) {
            Ok(line) if line == canary => {
                outcome.came.push("goes on".to_owned());
                return;
            }
            Ok(_) => outcome.came.push(status),
            Err(wrong) => outcome.wrong.push(wrong),
        }
        if !whole || !body.starts_with(&format!("#{number} ")) {
            outcome.wrong.push(format!("a broken answer: {head}{body}"));
        }
    }
    outcome.came.push("closes".to_owned());
}
