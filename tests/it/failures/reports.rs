//! The ways in which an exchange with a replica fails, and what is made of them, row by row: whether
//! a request may be sent twice rests on this. What hyper reports of HTTP/2, nobody documents.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hiveway::proxy::failure::Failure;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::frames::{Frame, frame, kind};
use crate::support::{Ingress, Origin, Wire, send, service, soon};

/// What hyper says of a request over HTTP/2, and the word for metrics that is made of it. `given back`
/// says that the request was never written; `failure` is `unsent` then. A response that has begun is never asked for again: `-`. Where
/// a body of ours failed, its `Upload` knows what the client did, and is asked before.
const HTTP2: &str = "
case                                        | flag       | cause                         | given back | failure
--------------------------------------------|------------|-------------------------------|------------|--------
REFUSED_STREAM                              |            | reset REFUSED_STREAM theirs   | no         | refused
another reset                               |            | reset INTERNAL_ERROR theirs   | no         | reset
REFUSED_STREAM behind the head              |            | reset REFUSED_STREAM theirs   |            | -
GOAWAY below our stream                     |            | goaway NO_ERROR theirs        | no         | refused
GOAWAY below our stream, for an error       |            | goaway INTERNAL_ERROR theirs  | no         | refused
GOAWAY that covers our stream, then FIN     |            | BrokenPipe                    | no         | reset
the same, for an error                      |            | BrokenPipe                    | no         | reset
FIN without GOAWAY                          |            | BrokenPipe                    | no         | reset
RST without GOAWAY                          |            | ConnectionReset               | no         | reset
FIN behind the head                         |            | BrokenPipe                    |            | -
our body failed                             |            | reset INTERNAL_ERROR ours     | no         | reset
";

/// What becomes of a POST and of a GET over HTTP/1, and how often the replica reads it: what may have
/// run goes again only if it is idempotent, and what has begun to answer never does.
const HTTP1: &str = "
case                                        | POST           | GET
--------------------------------------------|----------------|----------------
closed while idle                           | answered     1 | answered     1
reset while idle                            | answered     1 | answered     1
408 while idle                              | answered     1 | answered     1
FIN behind the request, fresh               | reset        1 | reset        2
RST behind the request, fresh               | reset        1 | reset        2
FIN behind the request, reused              | reset        1 | reset        2
RST behind the request, reused              | reset        1 | reset        2
FIN within the head                         | reset        1 | reset        2
something else than HTTP                    | bad_response 1 | bad_response 1
FIN within a length                         | broken       1 | broken       1
RST within a length                         | broken       1 | broken       1
FIN within chunks                           | broken       1 | broken       1
RST within chunks                           | broken       1 | broken       1
";

type Body = BoxBody<Bytes, io::Error>;
type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body whose first read fails.
fn broken_body() -> Body {
    let broken = Err(io::Error::other("the client left"));
    BodyExt::boxed(StreamBody::new(stream::iter([broken])))
}

/// One row: the outcome of a request, or of its response's body.
async fn row(case: &str, sent: Sent) -> String {
    let (error, given_back, failure) = match sent {
        Ok(response) => match soon("a body", response.into_body().collect()).await {
            Ok(body) => panic!("{case}: {:?}", body.to_bytes()),
            Err(error) => (error, "", "-"),
        },
        Err(mut error) => {
            let given_back = error.take_message().is_some();
            let failure = Failure::of(error.error()).word();
            let (back, failure) = if given_back { ("yes", "unsent") } else { ("no", failure) };
            (error.into_error(), back, failure)
        }
    };
    let (flag, cause) = (flag(&error), cause(&error));
    format!("{case:<44}| {flag:<11}| {cause:<30}| {given_back:<11}| {failure}\n")
}

fn flag(error: &hyper::Error) -> String {
    let flags = [
        ("canceled", error.is_canceled()),
        ("incomplete", error.is_incomplete_message()),
        ("parse", error.is_parse()),
        ("user", error.is_user()),
    ];
    let set: Vec<_> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    set.join(" ")
}

fn cause(error: &hyper::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let what = if h2.is_go_away() { "goaway" } else { "reset" };
            let whose = if h2.is_remote() { "theirs" } else { "ours" };
            let reason = h2.reason().map(|reason| format!("{what} {reason:?} {whose}"));
            let io = || h2.get_io().map(|io| format!("{:?}", io.kind()));
            return reason.or_else(io).unwrap_or_default();
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return format!("{:?}", io.kind());
        }
        source = cause.source();
    }
    String::new()
}

/// Lets what was written arrive before what cuts it off.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What a replica does with a request over HTTP/1, or with a connection that waits for one.
#[derive(Clone, Copy)]
enum Deed {
    /// Says so much, and closes.
    Close(&'static str),
    /// Says so much, and resets.
    Reset(&'static str),
    /// Answers, and does the same to the connection as soon as it waits.
    Idle(&'static str, bool),
}

/// One request over HTTP/1, through the edge: what its client gets, and how often it was read.
async fn over_http1(case: &str, reused: bool, deed: Deed) -> String {
    let read = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&read);
    let replica = Origin::scripted(move |wire| replica_of_http1(wire, deed, Arc::clone(&count)));
    let replica = replica.await;
    let labels = "hiveway.retry.attempts=1 hiveway.eject.consecutive=1000";
    let mut row = format!("{case:<44}");
    for method in ["POST", "GET"] {
        let ingress = Ingress::start([service("shop", labels, &[replica.address])]).await;
        if reused {
            assert_eq!(
                send(&ingress, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await.status(),
                200
            );
            settle().await;
        }
        read.store(0, SeqCst);
        let mut client = Wire::to(ingress.address).await;
        client.write(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let reply = match client.next_head().await {
            Some(head) => client.reply_with(head).await.to_string(),
            None => "(broken)".to_owned(),
        };
        let reply = reply.lines().next().unwrap_or_default().rsplit_once('(');
        let reply = reply.map_or("answered", |(_, word)| word.trim_end_matches(')'));
        let times = read.load(SeqCst);
        row = format!("{row}| {reply:<12} {times} ");
    }
    format!("{}\n", row.trim_end())
}

async fn replica_of_http1(mut wire: Wire, deed: Deed, read: Arc<AtomicUsize>) {
    while let Some(head) = wire.next_head().await {
        let first = head.contains("/first");
        read.fetch_add(1, SeqCst);
        let (says, resets) = match deed {
            Deed::Close(says) if !first => (says, false),
            Deed::Reset(says) if !first => (says, true),
            Deed::Close(_) | Deed::Reset(_) | Deed::Idle(..) => {
                wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                match deed {
                    Deed::Idle(says, resets) if first => (says, resets),
                    Deed::Close(_) | Deed::Reset(_) | Deed::Idle(..) => continue,
                }
            }
        };
        wire.write(says).await;
        if !says.is_empty() || first {
            // What was written must be on its way before the end cuts it off.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        return if resets {
            wire.reset();
        };
    }
}

#[tokio::test]
async fn how_a_replica_of_http1_ends_tells_what_may_have_run() {
    let mut rows = String::new();
    for (case, reused, deed) in [
        ("closed while idle", true, Deed::Idle("", false)),
        ("reset while idle", true, Deed::Idle("", true)),
        ("408 while idle", true, Deed::Idle(TOO_SLOW, false)),
        ("FIN behind the request, fresh", false, Deed::Close("")),
        ("RST behind the request, fresh", false, Deed::Reset("")),
        ("FIN behind the request, reused", true, Deed::Close("")),
        ("RST behind the request, reused", true, Deed::Reset("")),
        ("FIN within the head", false, Deed::Close("HTTP/1.1 200 OK\r\nConte")),
        ("something else than HTTP", false, Deed::Close("SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        ("FIN within a length", false, Deed::Close(PART)),
        ("RST within a length", false, Deed::Reset(PART)),
        ("FIN within chunks", false, Deed::Close(CHUNK)),
        ("RST within chunks", false, Deed::Reset(CHUNK)),
    ] {
        rows += &over_http1(case, reused, deed).await;
    }
    let heading: Vec<_> = HTTP1.trim_start().lines().take(2).collect();
    let table = format!("\n{}\n{rows}", heading.join("\n"));
    assert!(table == HTTP1, "{table}");
}

const TOO_SLOW: &str = "HTTP/1.1 408 Too Slow\r\nConnection: close\r\n\r\n";
const PART: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none";
const CHUNK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";

/// How a replica ends a connection of HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    Fin,
    Reset,
}

/// A request over HTTP/2 to a replica that writes these frames when it has the head.
async fn over_http2(case: &str, body: Body, frames: &[Vec<u8>], end: End) -> String {
    let frames = frames.concat();
    let replica = Origin::connected(move |stream| replica_of_http2(stream, frames.clone(), end));
    let replica = replica.await;
    let stream = TokioIo::new(TcpStream::connect(replica.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a/").body(body).unwrap();
    let sent = soon("an outcome", sender.try_send_request(request)).await;
    row(case, sent).await
}

async fn replica_of_http2(mut stream: TcpStream, frames: Vec<u8>, end: End) {
    stream.write_all(&frame(kind("SETTINGS"), 0, 0, b"")).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let mut unread = Vec::new();
    let mut asked = false;
    while !asked {
        stream.read_buf(&mut unread).await.unwrap();
        while let Some(frame) = Frame::take(&mut unread) {
            asked |= frame.kind == kind("HEADERS");
        }
    }
    stream.write_all(&frames).await.unwrap();
    settle().await;
    match end {
        End::Reset => return Wire::over(stream).reset(),
        End::Fin => stream.shutdown().await.unwrap(),
        End::Never => {}
    }
    while stream.read_buf(&mut unread).await.unwrap_or(0) > 0 {}
}

fn reset(reason: h2::Reason) -> Vec<u8> {
    frame(kind("RST_STREAM"), 0, 1, &u32::from(reason).to_be_bytes())
}

fn goaway(last: u32, reason: h2::Reason) -> Vec<u8> {
    let payload = [last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat();
    frame(kind("GOAWAY"), 0, 0, &payload)
}

/// The head of a response, `:status: 200` by its place in the table.
fn head() -> Vec<u8> {
    frame(kind("HEADERS"), 4, 1, b"\x88")
}

async fn rows_of_http2() -> String {
    use h2::Reason as R;
    let mut rows = String::new();
    for (case, frames, end) in [
        ("REFUSED_STREAM", vec![reset(R::REFUSED_STREAM)], End::Never),
        ("another reset", vec![reset(R::INTERNAL_ERROR)], End::Never),
        ("REFUSED_STREAM behind the head", vec![head(), reset(R::REFUSED_STREAM)], End::Never),
        ("GOAWAY below our stream", vec![goaway(0, R::NO_ERROR)], End::Never),
        ("GOAWAY below our stream, for an error", vec![goaway(0, R::INTERNAL_ERROR)], End::Fin),
        ("GOAWAY that covers our stream, then FIN", vec![goaway(1, R::NO_ERROR)], End::Fin),
        ("the same, for an error", vec![goaway(1, R::INTERNAL_ERROR)], End::Fin),
        ("FIN without GOAWAY", vec![], End::Fin),
        ("RST without GOAWAY", vec![], End::Reset),
        ("FIN behind the head", vec![head()], End::Fin),
    ] {
        rows += &over_http2(case, no_body(), &frames, end).await;
    }
    rows + &over_http2("our body failed", broken_body(), &[], End::Never).await
}

#[tokio::test]
async fn what_hyper_reports_of_http2_tells_what_may_have_run() {
    let heading: Vec<_> = HTTP2.trim_start().lines().take(2).collect();
    let table = format!("\n{}\n{}", heading.join("\n"), rows_of_http2().await);
    assert!(table == HTTP2, "{table}");
}
