//! One connection to one agent, from the dial to its end.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Following;
use super::held::{Heard, Worth};
use crate::clock;
use crate::feed::PROTOCOL;
use crate::feed::lines::Lines;
use crate::feed::message::Message;
use crate::feed::request::{FOLLOW, HAVE, HOSTNAME, LOOK, PROTOCOL_NUMBER};
use crate::identity::EdgeKeys;

/// For a dial.
const DIAL_TIME: Duration = Duration::from_secs(1);
/// For a TLS handshake, and for the head of a response.
const HANDSHAKE_TIME: Duration = Duration::from_secs(2);
/// Without a byte from an agent that is followed; it sends some three times as often.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks that are asked for at least.
const DISTANCE: Duration = Duration::from_millis(100);
/// Between questions for the address of the agent on the own node.
const SEARCH: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are read.
const REFUSAL: usize = 1 << 10;

const WRONG_KEY: &str = "its key is not the agents' key that this edge knows; give agents and edges \
                         the two secrets of one call of `hiveway token`";
const UNKNOWN_KEY: &str = "it does not know this edge's key; give agents and edges the two secrets \
                           of one call of `hiveway token`";

/// How following an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It could not be reached, broke off, or fell silent.
    Failed(String),
    /// It answers, but has nothing fresh, and there may be another that has.
    Unsatisfying(String),
    /// What it said does not fit together.
    Misunderstood,
    /// There is one on the own node.
    Nearer,
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// A connection with its stream of messages.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    body: Incoming,
    /// Drives it, and the looks; all of them end with this.
    tasks: JoinSet<()>,
}

impl Following {
    /// Follows an agent until there is a reason not to.
    pub(super) async fn speak_with(&mut self, agent: SocketAddr) -> End {
        match self.session(agent).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn session(&mut self, agent: SocketAddr) -> Result<std::convert::Infallible, End> {
        let held = if self.mistrusted { None } else { self.held.edition() };
        let have = held.as_ref().map(|edition| edition.version().as_str().to_owned());
        let mut connection = self.connect(agent, have.as_deref()).await?;
        let (mut lines, mut heard) = (Lines::default(), Heard::after(held));
        let (mut silent_at, mut may_look_at) = (Instant::now() + SILENCE, Instant::now());
        let mut search_at = Instant::now();
        loop {
            let asked = async {
                sleep_until(may_look_at).await;
                self.provider.asked.notified().await;
            };
            tokio::select! {
                frame = connection.body.frame() => {
                    silent_at = Instant::now() + SILENCE;
                    if let Ok(bytes) = received(frame)?.into_data() {
                        lines.push(&bytes);
                    }
                }
                () = asked => {
                    connection.look(agent);
                    may_look_at = Instant::now() + DISTANCE;
                }
                () = sleep_until(silent_at) => {
                    return Err(End::Failed(format!("silent for {SILENCE:?}")));
                }
            }
            while let Some(line) = lines.next_line().map_err(|error| error.to_string())? {
                self.hear(agent, &line, &mut heard)?;
            }
            if search_at <= Instant::now() && self.candidates.looks_for_near(agent, &self.addresses)
            {
                self.resolve().await;
                search_at = Instant::now() + SEARCH;
            }
        }
    }

    /// One message.
    fn hear(&mut self, agent: SocketAddr, line: &[u8], heard: &mut Heard) -> Result<(), End> {
        match Message::read(line).map_err(|error| error.to_string())? {
            None | Some(Message::Hello(_)) => Ok(()),
            Some(Message::You(you)) => {
                self.candidates.set_near(&you.near);
                heard.networks(you.networks);
                Ok(())
            }
            Some(Message::Whole(whole)) => {
                heard.whole(whole.services);
                Ok(())
            }
            Some(Message::Change(change)) => {
                if heard.change(&change) {
                    Ok(())
                } else {
                    Err(End::Misunderstood)
                }
            }
            Some(Message::Beat(beat)) => {
                let now = clock::now();
                let worth = self.held.beat(agent, heard, &beat.standing, now);
                self.weigh(agent, worth)
            }
        }
    }

    /// Whether to go on with this agent.
    fn weigh(&mut self, agent: SocketAddr, worth: Worth) -> Result<(), End> {
        let now = clock::now();
        match worth {
            Worth::Misunderstood => Err(End::Misunderstood),
            Worth::Fresh => {
                self.satisfied(agent);
                let nearer = self.candidates.nearer(agent, &self.addresses, now);
                if nearer { Err(End::Nearer) } else { Ok(()) }
            }
            Worth::Stale(why) => {
                if self.candidates.alternative(agent, &self.addresses, now) {
                    return Err(End::Unsatisfying(why));
                }
                self.candidates.unsatisfying(agent, &why, now);
                self.show(None);
                self.complain();
                Ok(())
            }
        }
    }

    async fn connect(&self, agent: SocketAddr, have: Option<&str>) -> Result<Connection, End> {
        let (mut sender, tasks) = open(agent, &self.options.keys).await?;
        let mut request = request(agent, Method::GET, FOLLOW)
            .header(PROTOCOL_NUMBER, PROTOCOL)
            .header(HOSTNAME, &self.options.hostname);
        if let Some(have) = have {
            request = request.header(HAVE, have);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = timeout(HANDSHAKE_TIME, sender.send_request(request)).await;
        let response = response.map_err(|_elapsed| "no response in time".to_owned())?;
        let response = response.map_err(|error| explain(&error))?;
        if response.status() != StatusCode::OK {
            return Err(End::Failed(refusal(response).await));
        }
        Ok(Connection { sender, body: response.into_body(), tasks })
    }
}

impl Connection {
    /// Asks for a list at once; nobody waits for the answer.
    fn look(&mut self, agent: SocketAddr) {
        while self.tasks.try_join_next().is_some() {}
        if let Ok(request) = request(agent, Method::POST, LOOK).body(Empty::new()) {
            let response = self.sender.send_request(request);
            self.tasks.spawn(async move {
                let _ = timeout(SILENCE, response).await;
            });
        }
    }
}

fn request(agent: SocketAddr, method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{agent}{path}"))
}

/// A connection on which requests can be sent, and what drives it.
async fn open(
    agent: SocketAddr,
    keys: &EdgeKeys,
) -> Result<(SendRequest<Empty<Bytes>>, JoinSet<()>), String> {
    let stream = match timeout(DIAL_TIME, TcpStream::connect(agent)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err("nobody listens there; see that the agent runs".to_owned());
        }
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_elapsed) => return Err(format!("no connection within {DIAL_TIME:?}")),
    };
    let _ = stream.set_nodelay(true);
    let shaken = timeout(HANDSHAKE_TIME, keys.connect(stream)).await;
    let shaken = shaken.map_err(|_elapsed| "no TLS handshake in time".to_owned())?;
    let stream = TokioIo::new(shaken.map_err(|error| explain(&error))?);
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), stream).await.map_err(|error| explain(&error))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Whoever waits for a response sees the end too, and tells it better.
        let _ = connection.await;
    });
    Ok((sender, tasks))
}

type Frame = hyper::body::Frame<Bytes>;

fn received(frame: Option<Result<Frame, hyper::Error>>) -> Result<Frame, End> {
    match frame {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(error)) => Err(End::Failed(explain(&error))),
        None => Err(End::Failed("it has ended".to_owned())),
    }
}

/// Why an agent does not serve us, in its own words.
async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    let body = Limited::new(response.into_body(), REFUSAL).collect();
    match timeout(HANDSHAKE_TIME, body).await {
        Ok(Ok(body)) => format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes()).trim()),
        _ => status.to_string(),
    }
}

/// The words that help, of all that an error is wrapped in.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = error.downcast_ref().or(inner.and_then(|inner| inner.downcast_ref()));
        match tls {
            Some(rustls::Error::AlertReceived(_)) => return UNKNOWN_KEY.to_owned(),
            Some(rustls::Error::InvalidCertificate(_)) => return WRONG_KEY.to_owned(),
            _ => {}
        }
        last = error.to_string();
        cause = error.source();
    }
    last
}
