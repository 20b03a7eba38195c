//! One connection of an edge: the handshake, what it may ask for, and how it ends.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::follower::{Follower, Pulse};
use super::{Agent, Refusal};
use crate::clock;
use crate::feed::PROTOCOL;
use crate::feed::request::{FOLLOW, HAVE, HOSTNAME, LOOK, PROTOCOL_NUMBER};
use crate::identity::AgentKeys;

/// For a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// An edge that has taken nothing for so long is let go; so is one that does not follow.
const STALLED: Duration = Duration::from_secs(15);
/// Between looks for such.
const LOOK_FOR_STALLED: Duration = Duration::from_secs(3);
/// Between signs of life of the connection itself, and for the answer to one.
const PING: Duration = Duration::from_secs(10);
/// Bytes that are kept for a follower that reads slowly.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes of a request's head.
const HEAD_SIZE: u32 = 8 << 10;
/// Requests at once: one to follow, and looks.
const STREAMS: u32 = 8;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves a connection until it ends.
pub(super) async fn converse(stream: TcpStream, peer: IpAddr, keys: &AgentKeys, agent: Arc<Agent>) {
    // A message is written as a whole; nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    match timeout(HANDSHAKE_TIME, keys.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, peer, agent).await,
        Ok(Err(error)) => refuse(&agent, peer, &error),
        Err(_elapsed) => {
            agent.counts.refuse(Refusal::Handshake);
            debug!(%peer, "no TLS handshake in time: closed");
        }
    }
}

fn refuse(agent: &Agent, peer: IpAddr, error: &io::Error) {
    agent.counts.refuse(Refusal::Handshake);
    let left = error.kind() == io::ErrorKind::UnexpectedEof;
    if !left && agent.counts.may_warn(clock::now()) {
        warn!(
            %peer,
            "refused a connection: {error}; if an edge has this address, its secret does not belong \
             to this agent's: give both from one call of `hiveway token`"
        );
    } else {
        debug!(%peer, %error, "refused a connection");
    }
}

async fn speak<S>(stream: S, peer: IpAddr, agent: Arc<Agent>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pulse = Arc::new(Pulse::new(clock::now()));
    let follows = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (agent, pulse) = (Arc::clone(&agent), Arc::clone(&pulse));
        move |request| ready(Ok::<_, Infallible>(answer(&agent, &pulse, &follows, peer, &request)))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => match ended {
            Ok(()) => debug!(%peer, "a connection ended"),
            Err(error) => debug!(%peer, %error, "a connection broke"),
        },
        () = stalled(&pulse) => {
            agent.counts.refuse(Refusal::Stalled);
            info!(%peer, "an edge takes nothing any more: closed");
        }
    }
}

async fn stalled(pulse: &Pulse) {
    while clock::now().since(pulse.last()) < STALLED {
        sleep(LOOK_FOR_STALLED).await;
    }
}

fn answer(
    agent: &Arc<Agent>,
    pulse: &Arc<Pulse>,
    follows: &AtomicBool,
    peer: IpAddr,
    request: &Request<Incoming>,
) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, FOLLOW) => {
            if let Some(refusal) = refusal(request.headers()) {
                info!(%peer, refusal, "refused an edge");
                return text(StatusCode::BAD_REQUEST, refusal);
            }
            if follows.swap(true, Relaxed) {
                return text(StatusCode::CONFLICT, "this connection follows already".to_owned());
            }
            let hostname = field(request.headers(), HOSTNAME).unwrap_or_default();
            debug!(%peer, hostname, "an edge follows");
            let have = field(request.headers(), HAVE);
            let follower = Follower::new(Arc::clone(agent), Arc::clone(pulse), hostname, have);
            Response::new(messages(follower))
        }
        (&Method::POST, LOOK) => {
            agent.asked.notify_one();
            text(StatusCode::ACCEPTED, String::new())
        }
        _ => text(StatusCode::NOT_FOUND, format!("there is GET {FOLLOW} and POST {LOOK}")),
    }
}

/// Why an edge cannot be served; none if it can.
fn refusal(fields: &HeaderMap) -> Option<String> {
    let spoken = field(fields, PROTOCOL_NUMBER).unwrap_or("none");
    (spoken != PROTOCOL.to_string()).then(|| {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "this agent (Hiveway {version}) speaks protocol {PROTOCOL}, and the edge {spoken}: run \
             agents and edges of the same version"
        )
    })
}

fn field<'f>(fields: &'f HeaderMap, name: &str) -> Option<&'f str> {
    fields.get(name)?.to_str().ok()
}

fn messages(follower: Follower) -> UnsyncBoxBody<Bytes, Infallible> {
    let pieces = stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await;
        Some((Ok(Frame::data(piece)), follower))
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text).boxed_unsync());
    *answer.status_mut() = status;
    answer
}
