//! What each path answers. A path that is not listed answers like `/`.
//!
//! | path | answer |
//! |---|---|
//! | `/` | who answers and what arrived, as JSON, or as text for `Accept: text/plain` |
//! | `/slow?ms=` | the same, so much later |
//! | `/status?code=` | the same with that status |
//! | `/bytes?n=&chunk=&every=` | `n` bytes, `chunk` of them every so many milliseconds |
//! | `/echo` | the request's body, as it comes; to a gRPC call as one, which ends with OK |
//! | `/trailers` | a body and the trailer `x-checksum` |
//! | `/hang` | nothing, ever |
//! | `/reset` | nothing: the connection (HTTP/2: the stream) is reset |
//! | `/ws` | a WebSocket, or `Upgrade: echo`, that sends everything back |
//! | `/resolve?name=` | the addresses of that name, as this replica's DNS has them now |
//! | `/log` | how often each request id was seen |
//! | `/mood?is=` | from now on it answers as one that is `well`, `failing` (503 every other time by chance), `slow` (pauses are 20 times longer) or `breaking` (reset after the head); these two paths stay as they are |
//!
//! Each answer carries `X-Replica`, the name of the task.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;

use crate::body::{AnswerBody, Source};
use crate::mood::{Mood, MoodNow};
use crate::seen::Seen;
use crate::server::UnderWay;
use crate::{Options, Role, database, websocket};

const X_REPLICA: HeaderName = HeaderName::from_static("x-replica");

/// What all connections of this replica share.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) options: Arc<Options>,
    seen: Seen,
    mood: MoodNow,
    hostname: String,
    /// The task's name, or the host's where none was given.
    header: HeaderValue,
}

impl Replica {
    /// Reads the host's name, which Docker makes the container's id.
    pub(crate) fn new(options: Arc<Options>) -> io::Result<Self> {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let hostname = hostname.trim_end().to_owned();
        let known_as = if options.task.is_empty() { &hostname } else { &options.task };
        let header = HeaderValue::from_str(known_as).unwrap_or(HeaderValue::from_static("replica"));
        let seen = Seen::new(options.ran.as_deref())?;
        Ok(Self { options, seen, mood: MoodNow::default(), hostname, header })
    }
}

/// The request is to be answered by a reset.
#[derive(Debug)]
pub(crate) struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reset was asked for")
    }
}

impl std::error::Error for Reset {}

/// Answers one request.
pub(crate) async fn answer(
    mut request: Request<Incoming>,
    replica: Arc<Replica>,
    under_way: UnderWay,
) -> Result<Response<AnswerBody>, Reset> {
    if request.uri().path() == "/log" {
        return Ok(json(replica.seen.to_json()));
    }
    if request.uri().path() == "/mood" {
        return Ok(change_mood(request.uri().query(), &replica));
    }
    replica.seen.record(request.method(), request.headers());
    let mood = replica.mood.get();
    let mut response = if request.uri().path() == "/ws" {
        websocket::answer(&mut request, under_way)
    } else {
        let (parts, body) = request.into_parts();
        let mut response = by_path(&parts, body, &replica, &under_way).await?;
        spoil(&mut response, mood, &under_way);
        response.body_mut().under_way = Some(under_way);
        response
    };
    response.headers_mut().insert(X_REPLICA, replica.header.clone());
    Ok(response)
}

/// Sets the mood that the query names.
fn change_mood(query: Option<&str>, replica: &Replica) -> Response<AnswerBody> {
    let wanted = query.and_then(|query| query.strip_prefix("is=")).and_then(Mood::named);
    let Some(mood) = wanted else {
        let mut response = Response::new("write is=well, failing, slow or breaking\n".into());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    replica.mood.set(mood);
    Response::new("so be it\n".into())
}

/// What becomes of an answer in that mood.
fn spoil(response: &mut Response<AnswerBody>, mood: Mood, under_way: &UnderWay) {
    match mood {
        Mood::Failing if fastrand::bool() => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        Mood::Breaking => {
            // As for `/reset`.
            let _ = under_way.0.reset_at_close();
            response.body_mut().source = Source::broken();
        }
        Mood::Well | Mood::Failing | Mood::Slow => {}
    }
}

async fn by_path(
    parts: &Parts,
    body: Incoming,
    replica: &Replica,
    under_way: &UnderWay,
) -> Result<Response<AnswerBody>, Reset> {
    let path = parts.uri.path();
    let number = |name| query(parts, name).and_then(|value| value.parse::<u64>().ok());
    Ok(match (replica.options.role, path) {
        (Role::Frontend, "/") => page(),
        (Role::Backend, _) if path == "/api" || path.starts_with("/api/") => api(replica).await,
        (_, "/slow") => {
            let pause = Duration::from_millis(number("ms").unwrap_or(1000));
            tokio::time::sleep(pause * replica.mood.get().slowness()).await;
            what_arrived(parts, body, replica).await
        }
        (_, "/status") => {
            let mut response = what_arrived(parts, body, replica).await;
            let code = number("code").and_then(|code| u16::try_from(code).ok());
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            *response.status_mut() = status.unwrap_or(StatusCode::BAD_REQUEST);
            response
        }
        (_, "/bytes") => {
            let chunk = usize::try_from(number("chunk").unwrap_or(16 * 1024)).unwrap_or(usize::MAX);
            let every = Duration::from_millis(number("every").unwrap_or(0));
            let length = number("n").unwrap_or(1024);
            Response::new(Source::pieces(length, chunk, every).into())
        }
        (_, "/echo") => echo(parts, body),
        (_, "/trailers") => trailers(),
        (_, "/resolve") => resolve(query(parts, "name").unwrap_or_default()).await,
        (_, "/hang") => std::future::pending().await,
        (_, "/reset") => {
            if parts.version != Version::HTTP_2 {
                // A socket that cannot be told is closed by FIN: unkind enough.
                let _ = under_way.0.reset_at_close();
            }
            return Err(Reset);
        }
        _ => what_arrived(parts, body, replica).await,
    })
}

fn query<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// What `/` answers.
#[derive(Debug, Serialize)]
struct Arrived<'a> {
    name: &'a str,
    task: &'a str,
    hostname: &'a str,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    version: String,
    headers: BTreeMap<&'a str, Vec<String>>,
    body_bytes: usize,
}

async fn what_arrived(parts: &Parts, body: Incoming, replica: &Replica) -> Response<AnswerBody> {
    // A body that breaks off takes its connection along; nobody reads this answer.
    let body_bytes = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let mut headers = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    let arrived = Arrived {
        name: &replica.options.name,
        task: &replica.options.task,
        hostname: &replica.hostname,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        version: format!("{:?}", parts.version),
        headers,
        body_bytes,
    };
    if parts.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
    {
        return Response::new(text(&arrived).into());
    }
    json(serde_json::to_string(&arrived).unwrap_or_default())
}

fn text(arrived: &Arrived<'_>) -> String {
    let Arrived { name, task, hostname, method, path, version, .. } = arrived;
    let mut text = format!("{name} {task} {hostname}\n{method} {path} {version}\n");
    for (name, values) in &arrived.headers {
        text.extend(values.iter().map(|value| format!("{name}: {value}\n")));
    }
    text
}

fn json(text: String) -> Response<AnswerBody> {
    with_type("application/json", text)
}

fn page() -> Response<AnswerBody> {
    with_type("text/html; charset=utf-8", include_str!("page.html").to_owned())
}

fn with_type(content_type: &'static str, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn echo(parts: &Parts, body: Incoming) -> Response<AnswerBody> {
    let content_type = parts.headers.get(CONTENT_TYPE);
    let call = content_type.filter(|it| it.as_bytes().starts_with(b"application/grpc"));
    let mut response = Response::new(Source::echo(body, call.is_some()).into());
    if let Some(content_type) = call {
        response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    response
}

fn trailers() -> Response<AnswerBody> {
    let mut response = Response::new(Source::with_trailers("a body with a trailer\n").into());
    response.headers_mut().insert(http::header::TRAILER, HeaderValue::from_static("x-checksum"));
    response
}

/// A list of addresses; empty for a name that nobody knows.
async fn resolve(name: &str) -> Response<AnswerBody> {
    let found = tokio::net::lookup_host((name, 0)).await;
    let mut addresses: Vec<_> =
        found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default();
    addresses.sort_unstable();
    json(serde_json::json!(addresses).to_string())
}

/// Counts a visit in the database and says who counted; 502 when the database does not answer.
async fn api(replica: &Replica) -> Response<AnswerBody> {
    match database::ask(&replica.options.database, "INCR visits").await {
        Ok(visits) => {
            let by = &replica.options.task;
            json(serde_json::json!({ "visits": visits, "counted_by": by }).to_string())
        }
        Err(error) => {
            let mut response = json(serde_json::json!({ "error": error.to_string() }).to_string());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}
