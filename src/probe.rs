//! Asks a replica whether it is well: one question, on a connection of its own.
//!
//! A connection that is made anew each time also proves that the replica still accepts, and takes
//! none from those of the requests. What an answer is worth is said here; what follows from it for
//! requests is not ([`crate::health::checks`]).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock;
use crate::grpc::{Code, health};
use crate::http1::{request, response};
use crate::proxy::dial::is_own_fault;
use crate::proxy::socket::Socket;
use crate::spec::{Check, Question};
use crate::tls::replica::{Offer, Trust};
use crate::upstream::UpstreamKey;

/// What a check calls itself.
const AGENT: HeaderValue = HeaderValue::from_static("hiveway-health-check");

/// An answer that is longer than this is none of a health service.
const LONGEST_ANSWER: usize = 4 << 10;

/// What is still to come of an HTTP/1 response is read for so long, and so much of it: a server that
/// cannot write its answer to the end would complain in its log.
const REST_WITHIN: Duration = Duration::from_secs(1);
const REST_AT_MOST: u64 = 64 << 10;

/// A check that took so much longer than it may was held up here, not there.
const OWN_DELAY: Duration = Duration::from_millis(250);

/// What came of a check.
#[derive(Debug)]
pub enum Finding {
    /// It is well.
    Well,
    /// It accepts connections, and does not know how to say more. The text says why.
    Mute(String),
    /// It answers otherwise: with a status, or that it does not serve.
    Unwell(String),
    /// It answers nothing that makes sense, or breaks off.
    Broken(String),
    /// It does not answer in time.
    TimedOut,
    /// It refuses the connection.
    Refused(io::Error),
    /// It could not be asked, for a reason that lies here.
    NotAsked,
}

impl Finding {
    /// The word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Well | Self::Mute(_) => "ok",
            Self::Unwell(_) => "status",
            Self::Broken(_) => "broken",
            Self::TimedOut => "timeout",
            Self::Refused(_) => "connect",
            Self::NotAsked => "not_asked",
        }
    }

    /// The same for people.
    pub fn text(&self) -> String {
        match self {
            Self::Well => "ok".to_owned(),
            Self::Mute(why) => format!("ok ({why})"),
            Self::Unwell(what) | Self::Broken(what) => what.clone(),
            Self::TimedOut => "no answer in time".to_owned(),
            Self::Refused(error) => format!("no connection ({error})"),
            Self::NotAsked => "not asked: this edge was too slow, or lacks something".to_owned(),
        }
    }
}

/// Asks the replica of an upstream at an address, as its service wants it.
pub async fn ask(key: &UpstreamKey, address: SocketAddr, check: &Check, trust: &Trust) -> Finding {
    let address = check.port.map_or(address, |port| SocketAddr::new(address.ip(), port));
    let started = clock::now();
    let asked = timeout(check.timeout, ask_in_any_time(key, address, check, trust)).await;
    match asked {
        Ok(Ok(finding)) => finding,
        Ok(Err(Failed::Connect(error))) if is_own_fault(&error) => Finding::NotAsked,
        Ok(Err(Failed::Connect(error))) => Finding::Refused(error),
        Ok(Err(Failed::Exchange(problem))) => Finding::Broken(problem),
        Err(_) if clock::now().since(started) > check.timeout + OWN_DELAY => Finding::NotAsked,
        Err(_) => Finding::TimedOut,
    }
}

/// Why there is no answer.
enum Failed {
    Connect(io::Error),
    Exchange(String),
}

impl From<hyper::Error> for Failed {
    fn from(error: hyper::Error) -> Self {
        Self::Exchange(format!("no HTTP/2 answer ({error})"))
    }
}

async fn ask_in_any_time(
    key: &UpstreamKey,
    address: SocketAddr,
    check: &Check,
    trust: &Trust,
) -> Result<Finding, Failed> {
    let stream = TcpStream::connect(address).await.map_err(Failed::Connect)?;
    let socket = match &key.tls {
        None => Socket::Plain(stream),
        Some(tls) => {
            let offer = if key.protocol.is_http2() { Offer::Http2 } else { Offer::Either };
            let shaken = trust.shake_hands(stream, tls, offer).await;
            Socket::Tls(Box::new(shaken.map_err(|error| Failed::Exchange(error.to_string()))?))
        }
    };
    let speaks_http2 = key.protocol.is_http2() || socket.chose_http2();
    let scheme = if key.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let host = check.host.as_ref().map_or_else(|| address.to_string(), ToString::to_string);
    match &check.question {
        Question::None | Question::Connect => Ok(Finding::Well),
        Question::Path(path) if !speaks_http2 => {
            let status = http1(socket, path, &host).await?;
            Ok(by_status(status, check))
        }
        Question::Path(path) => {
            let request = Request::get(uri(scheme, &host, path)?).header(USER_AGENT, AGENT);
            let response = http2(socket, request, Bytes::new()).await?;
            Ok(by_status(response.status(), check))
        }
        Question::Grpc => {
            let path = PathAndQuery::from_static(health::CHECK);
            let request = Request::post(uri(scheme, &host, &path)?)
                .header(USER_AGENT, AGENT)
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers");
            let service = check.grpc_service.as_deref();
            let question = health::question(service.unwrap_or_default());
            let response = http2(socket, request, question).await?;
            Ok(by_word(read_word(response).await?, service.is_some()))
        }
    }
}

fn uri(scheme: Scheme, host: &str, path: &PathAndQuery) -> Result<Uri, Failed> {
    let authority: Authority =
        host.parse().map_err(|_| Failed::Exchange(format!("`{host}` is no host")))?;
    let built = Uri::builder().scheme(scheme).authority(authority);
    built.path_and_query(path.clone()).build().map_err(|error| Failed::Exchange(error.to_string()))
}

fn by_status(status: StatusCode, check: &Check) -> Finding {
    if check.statuses.iter().any(|range| range.contains(&status.as_u16())) {
        Finding::Well
    } else {
        Finding::Unwell(format!("status {}", status.as_u16()))
    }
}

/// The status of a response of HTTP/1.
async fn http1(mut stream: Socket, path: &PathAndQuery, host: &str) -> Result<StatusCode, Failed> {
    let broken = |error: io::Error| Failed::Exchange(format!("the connection broke ({error})"));
    let (mut head, ()) = Request::new(()).into_parts();
    head.uri = path.clone().into();
    let host = HeaderValue::try_from(host)
        .map_err(|_| Failed::Exchange(format!("`{host}` is no host")))?;
    head.headers.insert(HOST, host);
    head.headers.insert(USER_AGENT, AGENT);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut outbound = Vec::new();
    request::write_head(&mut outbound, &head, b"");
    stream.write_all(&outbound).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut inbound = BytesMut::new();
    loop {
        let read = response::read_head(&mut inbound, &Method::GET);
        if let Some(head) = read.map_err(|problem| Failed::Exchange(problem.to_string()))? {
            tokio::spawn(timeout(REST_WITHIN, async move {
                let mut rest = stream.take(REST_AT_MOST);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
            }));
            return Ok(head.status);
        }
        if stream.read_buf(&mut inbound).await.map_err(broken)? == 0 {
            return Err(Failed::Exchange("closed without an answer".to_owned()));
        }
    }
}

/// The response of HTTP/2; its connection ends with it.
async fn http2(
    stream: Socket,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, Failed> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = request.body(Full::new(body));
    let request = request.map_err(|error| Failed::Exchange(error.to_string()))?;
    Ok(sender.send_request(request).await?)
}

/// What a gRPC server said: how the call ended, and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    code: Code,
    serving: Option<health::Serving>,
}

async fn read_word(response: Response<Incoming>) -> Result<Said, Failed> {
    let (head, mut body) = response.into_parts();
    let (mut message, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await.transpose()? {
        match frame.into_data() {
            Ok(data) if message.len() + data.remaining() <= LONGEST_ANSWER => {
                message.extend_from_slice(&data);
            }
            Ok(_) => return Err(Failed::Exchange("an answer that is too long".to_owned())),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let code = Code::of(&trailers).or_else(|| Code::of(&head.headers));
    let code = code.unwrap_or_else(|| Code::of_http(head.status));
    Ok(Said { code, serving: health::answer(&message) })
}

/// What an answer of gRPC means. A server that has no health service, wants to know who asks, or says
/// nothing about itself as a whole, is not unwell: unless that is what it was asked for by name.
fn by_word(said: Said, is_named: bool) -> Finding {
    let Said { code, serving } = said;
    let without_word = match (code, serving) {
        (Code::Ok, Some(health::Serving::Serving)) => return Finding::Well,
        (Code::Ok, Some(health::Serving::NotServing)) => {
            return Finding::Unwell("not serving".to_owned());
        }
        (Code::Unavailable, _) => return Finding::Unwell("gRPC status Unavailable".to_owned()),
        (Code::Ok, Some(_)) => "its health service does not know".to_owned(),
        (Code::Ok, None) => "its health service says nothing".to_owned(),
        (code, _) => format!("gRPC status {}", code.name()),
    };
    if is_named {
        Finding::Unwell(without_word)
    } else {
        Finding::Mute(format!("no word about its health: {without_word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::health::Serving;
    use super::*;

    #[test]
    fn only_a_named_service_must_speak_for_itself() {
        let word = |code, serving, named| by_word(Said { code, serving }, named).text();
        assert_eq!(word(Code::Ok, Some(Serving::Serving), true), "ok");
        for named in [false, true] {
            assert_eq!(word(Code::Ok, Some(Serving::NotServing), named), "not serving");
            assert_eq!(word(Code::Unavailable, None, named), "gRPC status Unavailable");
        }
        let unknown = word(Code::Unimplemented, None, false);
        assert_eq!(unknown, "ok (no word about its health: gRPC status Unimplemented)");
        assert_eq!(word(Code::Unimplemented, None, true), "gRPC status Unimplemented");
        assert_eq!(word(Code::NotFound, None, true), "gRPC status NotFound");
        let unknown = word(Code::Ok, Some(Serving::ServiceUnknown), true);
        assert_eq!(unknown, "its health service does not know");
    }

    #[test]
    fn statuses_are_good_in_their_ranges() {
        let check = Check { statuses: vec![200..=204, 418..=418], ..Check::default() };
        let word = |status| by_status(StatusCode::from_u16(status).unwrap(), &check).word();
        assert_eq!([200, 204, 418].map(word), ["ok"; 3]);
        assert_eq!([205, 302, 417, 503].map(word), ["status"; 4]);
    }
}
