//! HTTP/2: the frames of a case, and behind them in the same write an innocent stream.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::case::{Case, read_all};
use super::frames::{Encoder, Frame, PREFACE, frame, get, kind};
use super::trial::{Outcome, PATIENCE, Trial};

/// The innocent stream; those of the cases have lower numbers.
const CANARY: u32 = 100_001;

#[tokio::test]
async fn hostile_frames_of_http2_are_answered_as_written_and_harm_nobody() {
    let cases = read_all("http2");
    assert!(cases.len() >= 35, "{} cases", cases.len());
    let trial = Trial::new("").await;
    trial.run(cases, replay).await;
}

/// What came on one stream.
#[derive(Default)]
struct Answer {
    status: String,
    body: Vec<u8>,
    over: bool,
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    answers: BTreeMap<u32, Answer>,
    goaway: Option<&'static str>,
}

async fn replay(trial: &mut Trial, case: &Case) -> Outcome {
    let stream = TcpStream::connect(trial.ingress.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (unread, answers, goaway) = (Vec::new(), BTreeMap::new(), None);
    let mut connection = Connection { stream, unread, answers, goaway };
    let (canary, _) = trial.next_canary();
    // No table for indexed fields, so that responses can be read without one.
    let mut bytes = [PREFACE, &frame(kind("SETTINGS"), 0, 0, b"\0\x01\0\0\0\0")].concat();
    bytes.extend(Encoder::encode(&case.sent, 0));
    if !case.finishes() {
        bytes.extend(get(CANARY, &canary));
    }
    let answers = case.expected.len() - 1;
    let exchange = connection.exchange(&bytes, answers, case.finishes());
    let ending = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or("hangs");
    connection.outcome(trial, ending, &format!("GET {canary} HTTP/1.1"))
}

impl Connection {
    /// Writes all while it reads: a peer that closes early has said why before.
    async fn exchange(&mut self, bytes: &[u8], answers: usize, finishes: bool) -> &'static str {
        let (mut reading, mut writing) = self.stream.split();
        let write = async {
            let _ = writing.write_all(bytes).await;
            if finishes {
                let _ = writing.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let unread = &mut self.unread;
        let (seen, goaway) = (&mut self.answers, &mut self.goaway);
        let read = async {
            while reading.read_buf(unread).await.unwrap_or(0) > 0 {
                while let Some(frame) = Frame::take(unread) {
                    note(&frame, seen, goaway);
                }
                let over = |(_, answer): &(&u32, &Answer)| answer.over;
                let others = seen.iter().filter(over).filter(|(id, _)| **id != CANARY).count();
                if seen.get(&CANARY).is_some_and(|canary| canary.over) && others >= answers {
                    return "goes on";
                }
            }
            "closes"
        };
        tokio::select! {
            ending = read => ending,
            () = write => unreachable!("writing goes on for ever"),
        }
    }

    fn outcome(self, trial: &mut Trial, ending: &str, canary: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for (id, answer) in self.answers {
            let body = String::from_utf8(answer.body).unwrap();
            if answer.status == "200" && answer.over {
                match trial.note_answer(&body) {
                    Ok(line) if (id == CANARY) != (line == canary) => {
                        outcome.wrong.push(format!("    stream {id} got that of {line}"));
                    }
                    Ok(_) => {}
                    Err(wrong) => outcome.wrong.push(wrong),
                }
            }
            if id == CANARY {
                continue;
            }
            let reason = body.lines().next().and_then(|line| line.rsplit_once(" ("));
            let reason = reason.map(|(_, word)| format!(" {}", word.trim_end_matches(')')));
            let unfinished = if answer.over { "" } else { " unfinished" };
            outcome.came.push(format!(
                "{}{}{unfinished}",
                answer.status,
                reason.unwrap_or_default()
            ));
        }
        // A peer that takes its leave in good order may do so at any time.
        let goaway = self.goaway.filter(|reason| *reason != "NO_ERROR");
        outcome.came.extend(goaway.map(|reason| format!("goaway {reason}")));
        outcome.came.push(ending.to_owned());
        outcome
    }
}

fn note(frame: &Frame, answers: &mut BTreeMap<u32, Answer>, goaway: &mut Option<&'static str>) {
    if frame.kind == kind("GOAWAY") {
        *goaway = Some(frame.reason());
    }
    if frame.stream == 0 || frame.kind == kind("WINDOW_UPDATE") {
        return;
    }
    let answer = answers.entry(frame.stream).or_default();
    if frame.kind == kind("HEADERS") && answer.status.is_empty() {
        answer.status = frame.status();
    } else if frame.kind == kind("DATA") {
        answer.body.extend(&frame.payload);
    } else if frame.kind == kind("RST_STREAM") && !answer.over {
        // Behind a whole answer it only says that the rest of the request is not wanted.
        answer.status = format!("reset {}", frame.reason());
        answer.over = true;
    }
    answer.over |= frame.ends_stream();
}
