//! The cases, by the names of gRPC's `interop-test-descriptions.md` where it has them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{Wish, both, lengths, unary};

const UNARY: &str = "/test.Interop/Unary";
const BOTH: &str = "/test.Interop/Both";
const SLEEP: &str = "/test.Interop/Sleep";
const SPECIAL: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const SIZES: [usize; 4] = [31415, 9, 2653, 58979];
const MEGABYTE: usize = 1 << 20;

type Outcome = Result<(), String>;

/// Runs all cases, and prints a line for each.
pub(crate) async fn run(channel: Channel) {
    let channel = &channel;
    told("empty_unary", sized(channel, 0, None, false).await);
    told("large_unary", sized(channel, 271_828, Some(314_159), false).await);
    told("client_compressed_unary", sized(channel, 271_828, None, true).await);
    told("server_compressed_unary", server_compressed(channel).await);
    told("concurrent_large_unary", concurrent(channel).await);
    told("message_of_4_mb", sized(channel, 4 * MEGABYTE, None, false).await);
    told("message_of_64_mb", sized(channel, 64 * MEGABYTE, None, false).await);
    told("client_streaming", client_streaming(channel).await);
    told("server_streaming", server_streaming(channel).await);
    told("ping_pong", ping_pong(channel).await);
    told("empty_stream", empty_stream(channel).await);
    told("tiny_messages", tiny_messages(channel).await);
    told("timeout_on_sleeping_server", timeout(channel).await);
    told("cancel_after_begin", cancel_after_begin(channel).await);
    told("cancel_after_first_response", cancel_after_first(channel).await);
    told("status_code_and_message", status(channel, "test status message").await);
    told("special_status_message", status(channel, SPECIAL).await);
    told("custom_metadata", metadata(channel, "test_initial_metadata_value").await);
    told("large_metadata", metadata(channel, &"x".repeat(20_000)).await);
    told("unimplemented_method", unimplemented(channel, "/test.Interop/None").await);
    told("unimplemented_service", unimplemented(channel, "/test.None/Unary").await);
}

fn told(case: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("{case} ok"),
        Err(why) => println!("{case} FAILED: {}", why.replace('\n', " ")),
    }
}

fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn expect(holds: bool, found: impl std::fmt::Debug) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{found:?}")) }
}

/// So many bytes there, and as many, or others, back.
async fn sized(channel: &Channel, sent: usize, back: Option<usize>, gzip: bool) -> Outcome {
    let size = back.map(|size| ("size", size.to_string()));
    let wish = Wish { gzip, ..Wish::of(size) };
    let answer = unary(channel, UNARY, vec![0; sent].into(), &wish).await;
    let length = answer.map_err(|status| said(&status))?.into_inner().len();
    expect(length == back.unwrap_or(sent), length)
}

async fn server_compressed(channel: &Channel) -> Outcome {
    let wish = Wish::of([("size", "314159"), ("gzip", "1")]);
    let answer =
        unary(channel, UNARY, Bytes::new(), &wish).await.map_err(|status| said(&status))?;
    let encoding = answer.metadata().get("grpc-encoding").cloned();
    expect(encoding.as_ref().is_some_and(|it| it == "gzip"), encoding)?;
    expect(answer.get_ref().len() == 314_159, answer.get_ref().len())
}

async fn concurrent(channel: &Channel) -> Outcome {
    let calls = (0..100).map(|_| sized(channel, 271_828, Some(314_159), false));
    join_all(calls).await.into_iter().collect()
}

async fn client_streaming(channel: &Channel) -> Outcome {
    let messages = [27182, 8, 1828, 45904].map(|size| Bytes::from(vec![0; size]));
    let mut answers = both(channel, "/test.Interop/Up", stream::iter(messages), &Wish::default())
        .await
        .map_err(|status| said(&status))?;
    let answer = answers.message().await.map_err(|status| said(&status))?;
    expect(answer.as_deref() == Some(b"74922"), answer)
}

async fn server_streaming(channel: &Channel) -> Outcome {
    let wish = Wish::of([("sizes", SIZES.map(|size| size.to_string()).join(","))]);
    let lengths = lengths(channel, "/test.Interop/Down", vec![Bytes::new()], &wish).await;
    expect(lengths.as_deref().ok() == Some(&SIZES), lengths)
}

/// Each message is sent when the last one has been answered.
async fn ping_pong(channel: &Channel) -> Outcome {
    let (sender, messages) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let messages = stream::unfold(messages, |mut messages| async {
        messages.recv().await.map(|message| (message, messages))
    });
    let _ = sender.send("1".into());
    let mut answers =
        both(channel, BOTH, messages, &Wish::default()).await.map_err(|status| said(&status))?;
    expect(next(&mut answers).await? == Some(1), "no first answer")?;
    for size in SIZES {
        let _ = sender.send(size.to_string().into());
        let length = next(&mut answers).await?;
        expect(length == Some(size), length)?;
    }
    drop(sender);
    let rest = next(&mut answers).await?;
    expect(rest.is_none(), rest)
}

async fn next(answers: &mut tonic::Streaming<Bytes>) -> Result<Option<usize>, String> {
    let answer = answers.next().await.transpose().map_err(|status| said(&status))?;
    Ok(answer.map(|answer| answer.len()))
}

async fn empty_stream(channel: &Channel) -> Outcome {
    let lengths = lengths(channel, BOTH, Vec::new(), &Wish::default()).await;
    expect(lengths.as_ref().is_ok_and(Vec::is_empty), lengths)
}

async fn tiny_messages(channel: &Channel) -> Outcome {
    let lengths = lengths(channel, BOTH, vec!["1".into(); 10_000], &Wish::default()).await;
    let lengths = lengths.map_err(|status| said(&status))?;
    expect(lengths.len() == 10_000 && lengths.iter().all(|length| *length == 1), lengths.len())
}

async fn timeout(channel: &Channel) -> Outcome {
    let wish = Wish { timeout: Some(Duration::from_millis(100)), ..Wish::default() };
    let code = lengths(channel, SLEEP, vec![Bytes::new()], &wish).await.map_err(|it| it.code());
    // tonic's own timer says CANCELLED.
    expect(matches!(code, Err(Code::DeadlineExceeded | Code::Cancelled)), code)?;
    nobody_asleep(channel).await
}

async fn cancel_after_begin(channel: &Channel) -> Outcome {
    let wish = Wish::default();
    let begun = both(channel, SLEEP, stream::pending(), &wish);
    // Some servers send no head before the first message.
    let begun = tokio::time::timeout(Duration::from_millis(200), begun).await;
    drop(begun);
    nobody_asleep(channel).await
}

async fn cancel_after_first(channel: &Channel) -> Outcome {
    let messages = stream::iter([Bytes::from("9")]).chain(stream::pending());
    let mut answers =
        both(channel, BOTH, messages, &Wish::default()).await.map_err(|status| said(&status))?;
    let length = next(&mut answers).await?;
    drop(answers);
    expect(length == Some(9), length)
}

/// The server learns within a second that a call is over.
async fn nobody_asleep(channel: &Channel) -> Outcome {
    let mut asleep = Bytes::new();
    for _ in 0..20 {
        let answer = unary(channel, UNARY, Bytes::new(), &Wish::of([("asleep", "1")])).await;
        asleep = answer.map_err(|status| said(&status))?.into_inner();
        if asleep == "0" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{asleep:?} calls are still open at the server"))
}

async fn status(channel: &Channel, message: &str) -> Outcome {
    let wish = Wish::of([("status", b"2".as_slice()), ("said-bin", message.as_bytes())]);
    let of_unary = unary(channel, UNARY, Bytes::new(), &wish).await.map(|_| ());
    let of_stream = lengths(channel, BOTH, Vec::new(), &wish).await.map(|_| ());
    let details: Vec<u8> = (0..=u8::MAX).collect();
    for outcome in [of_unary, of_stream] {
        let Err(status) = outcome else { return Err("it went well".to_owned()) };
        expect(status.code() == Code::Unknown && status.message() == message, &status)?;
        let told = status.metadata().get_bin("details-bin").and_then(|it| it.to_bytes().ok());
        expect(told.as_deref() == Some(&details), told)?;
    }
    Ok(())
}

async fn metadata(channel: &Channel, text: &str) -> Outcome {
    let wish = Wish::of([("echo", text.as_bytes()), ("echo-bin", &[0xab, 0, 0xff])]);
    let answer =
        unary(channel, UNARY, Bytes::new(), &wish).await.map_err(|status| said(&status))?;
    let echo = answer.metadata().get("echo").and_then(|echo| echo.to_str().ok());
    expect(echo == Some(text), echo)?;
    let echo = answer.metadata().get_bin("echo-bin").and_then(|echo| echo.to_bytes().ok());
    expect(echo.as_deref() == Some(&[0xab, 0, 0xff]), echo)
}

async fn unimplemented(channel: &Channel, path: &'static str) -> Outcome {
    let code = unary(channel, path, Bytes::new(), &Wish::default()).await.map_err(|it| it.code());
    expect(matches!(code, Err(Code::Unimplemented)), code)
}
