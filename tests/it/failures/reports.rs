//! What hyper reports when an exchange with a replica fails, and what is made of it: nobody
//! documents these rows, and whether a request may be sent twice rests on them.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hiveway::proxy::failure::Failure;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::frames::{Frame, frame, kind};
use crate::support::{Origin, Wire, eventually, soon};

/// `given back` says that the request was never written; `failure` is the word for metrics, or
/// `unsent` for what hyper gives back. A response that has begun is never asked for again: `-`. Where
/// a body of ours failed, its `Upload` knows what the client did, and is asked before.
const TABLE: &str = "
case                                              | flag       | cause                         | given back | failure
--------------------------------------------------|------------|-------------------------------|------------|--------
h1: closed before the send                        | canceled   |                               | yes        | unsent
h1: closed while idle                             | canceled   |                               | yes        | unsent
h1: reset while idle                              | canceled   |                               | yes        | unsent
h1: 408 while idle                                | canceled   |                               | yes        | unsent
h1: FIN behind the request, fresh                 | incomplete |                               | no         | reset
h1: RST behind the request, fresh                 |            | ConnectionReset               | no         | reset
h1: FIN behind the request, reused                | incomplete |                               | no         | stale
h1: RST behind the request, reused                |            | ConnectionReset               | no         | stale
h1: our body failed                               | user       | Other                         | no         | reset
h1: FIN within the head                           | incomplete |                               | no         | reset
h1: something else than HTTP                      | parse      |                               | no         | malformed
h1: two lengths                                   | parse      |                               | no         | malformed
h1: FIN within a length                           |            | UnexpectedEof                 |            | -
h1: FIN within chunks                             |            | UnexpectedEof                 |            | -
h1: RST within chunks                             |            | ConnectionReset               |            | -
h2: REFUSED_STREAM                                |            | reset REFUSED_STREAM theirs   | no         | refused
h2: another reset                                 |            | reset INTERNAL_ERROR theirs   | no         | reset
h2: REFUSED_STREAM behind the head                |            | reset REFUSED_STREAM theirs   |            | -
h2: GOAWAY below our stream                       |            | goaway NO_ERROR theirs        | no         | refused
h2: GOAWAY below our stream, for an error         |            | goaway INTERNAL_ERROR theirs  | no         | refused
h2: GOAWAY that covers our stream, then FIN       |            | BrokenPipe                    | no         | reset
h2: the same, for an error                        |            | BrokenPipe                    | no         | reset
h2: FIN without GOAWAY                            |            | BrokenPipe                    | no         | reset
h2: RST without GOAWAY                            |            | ConnectionReset               | no         | reset
h2: FIN behind the head                           |            | BrokenPipe                    |            | -
h2: our body failed                               |            | reset INTERNAL_ERROR ours     | no         | reset
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
async fn row(case: &str, sent: Sent, reused: bool) -> String {
    let (error, given_back, failure) = match sent {
        Ok(response) => match soon("a body", response.into_body().collect()).await {
            Ok(body) => panic!("{case}: {:?}", body.to_bytes()),
            Err(error) => (error, "", "-"),
        },
        Err(mut error) => {
            let given_back = error.take_message().is_some();
            let failure = Failure::of(error.error(), reused).word();
            let (back, failure) = if given_back { ("yes", "unsent") } else { ("no", failure) };
            (error.into_error(), back, failure)
        }
    };
    let (flag, cause) = (flag(&error), cause(&error));
    format!("{case:<50}| {flag:<11}| {cause:<30}| {given_back:<11}| {failure}\n")
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

/// A request over HTTP/1, as the first one or behind another; `idle` waits until hyper has noticed
/// that the connection is over.
async fn over_http1<S>(
    case: &str,
    (reused, idle): (bool, bool),
    body: Body,
    script: impl Fn(Wire) -> S + Send + 'static,
) -> String
where
    S: Future<Output = ()> + Send + 'static,
{
    let replica = Origin::scripted(script).await;
    let stream = TokioIo::new(TcpStream::connect(replica.address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    if reused {
        let first = sender.send_request(Request::new(no_body())).await.unwrap();
        first.into_body().collect().await.unwrap();
    }
    if idle {
        eventually("the end was noticed", || sender.is_closed()).await;
    }
    // hyper would not even look at the body of a GET.
    let request = Request::post("/").body(body).unwrap();
    let sent = soon("an outcome", sender.try_send_request(request)).await;
    row(case, sent, reused).await
}

/// Answers a request, and says that there may be another one.
async fn answer(wire: &mut Wire) {
    wire.head().await;
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
}

/// Lets what was written arrive before what cuts it off.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn rows_of_idle_connections() -> String {
    [
        over_http1("h1: closed before the send", (false, true), no_body(), async |_| {}).await,
        over_http1("h1: closed while idle", (true, true), no_body(), async |mut wire| {
            answer(&mut wire).await;
        })
        .await,
        over_http1("h1: reset while idle", (true, true), no_body(), async |mut wire| {
            answer(&mut wire).await;
            settle().await;
            wire.reset();
        })
        .await,
        over_http1("h1: 408 while idle", (true, true), no_body(), async |mut wire| {
            answer(&mut wire).await;
            settle().await;
            wire.write("HTTP/1.1 408 Too Slow\r\nConnection: close\r\n\r\n").await;
        })
        .await,
    ]
    .concat()
}

async fn rows_of_http1() -> String {
    let mut rows = String::new();
    for (reused, which) in [(false, "fresh"), (true, "reused")] {
        let first = async move |wire: &mut Wire| {
            if reused {
                answer(wire).await;
            }
            wire.head().await;
        };
        let case = format!("h1: FIN behind the request, {which}");
        rows += &over_http1(&case, (reused, false), no_body(), move |mut wire| async move {
            first(&mut wire).await;
        })
        .await;
        let case = format!("h1: RST behind the request, {which}");
        rows += &over_http1(&case, (reused, false), no_body(), move |mut wire| async move {
            first(&mut wire).await;
            wire.reset();
        })
        .await;
    }
    rows += &over_http1("h1: our body failed", (false, false), broken_body(), async |mut wire| {
        wire.closed().await;
    })
    .await;
    rows
}

/// What a replica writes behind a request over HTTP/1, and then closes or resets.
async fn rows_of_responses() -> String {
    let mut rows = String::new();
    for (case, response, resets) in [
        ("h1: FIN within the head", "HTTP/1.1 200 OK\r\nConte", false),
        ("h1: something else than HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", false),
        ("h1: two lengths", TWO_LENGTHS, false),
        ("h1: FIN within a length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none", false),
        ("h1: FIN within chunks", CHUNK, false),
        ("h1: RST within chunks", CHUNK, true),
    ] {
        rows += &over_http1(case, (false, false), no_body(), move |mut wire| async move {
            wire.head().await;
            wire.write(response).await;
            settle().await;
            if resets {
                wire.reset();
            }
        })
        .await;
    }
    rows
}

const TWO_LENGTHS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\none";
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
    row(case, sent, false).await
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
        ("h2: REFUSED_STREAM", vec![reset(R::REFUSED_STREAM)], End::Never),
        ("h2: another reset", vec![reset(R::INTERNAL_ERROR)], End::Never),
        ("h2: REFUSED_STREAM behind the head", vec![head(), reset(R::REFUSED_STREAM)], End::Never),
        ("h2: GOAWAY below our stream", vec![goaway(0, R::NO_ERROR)], End::Never),
        ("h2: GOAWAY below our stream, for an error", vec![goaway(0, R::INTERNAL_ERROR)], End::Fin),
        ("h2: GOAWAY that covers our stream, then FIN", vec![goaway(1, R::NO_ERROR)], End::Fin),
        ("h2: the same, for an error", vec![goaway(1, R::INTERNAL_ERROR)], End::Fin),
        ("h2: FIN without GOAWAY", vec![], End::Fin),
        ("h2: RST without GOAWAY", vec![], End::Reset),
        ("h2: FIN behind the head", vec![head()], End::Fin),
    ] {
        rows += &over_http2(case, no_body(), &frames, end).await;
    }
    rows + &over_http2("h2: our body failed", broken_body(), &[], End::Never).await
}

#[tokio::test]
async fn what_hyper_reports_tells_what_may_have_run() {
    let rows = [
        rows_of_idle_connections().await,
        rows_of_http1().await,
        rows_of_responses().await,
        rows_of_http2().await,
    ];
    let table: Vec<_> = TABLE.trim_start().lines().take(2).collect();
    let table = format!("\n{}\n{}", table.join("\n"), rows.concat());
    assert!(table == TABLE, "{table}");
}
