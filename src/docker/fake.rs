//! A Docker engine for tests: a unix socket, lists, an event stream, and faults on demand.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

/// What the engine does with the lists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// Answers.
    Well,
    /// Never answers.
    Hung,
    /// Answers with this status and message.
    Refusing(u16, &'static str),
}

/// An engine that listens until it is dropped.
pub(crate) struct FakeEngine {
    socket: PathBuf,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

struct State {
    services: Mutex<String>,
    tasks: Mutex<String>,
    cluster: Mutex<&'static str>,
    /// Raft index of the service that was made last.
    raft: AtomicU64,
    mood: Mutex<Mood>,
    /// How many times the services were asked for.
    lists: AtomicU64,
    /// How many event streams are open or were.
    streams: watch::Sender<usize>,
    events: broadcast::Sender<()>,
}

/// A path that no other test uses; nothing is there.
pub(crate) fn unused_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("hiveway-test-{}-{next}", std::process::id()))
}

impl FakeEngine {
    /// An engine with this service, on a socket of its own.
    pub(crate) fn start(label: &str) -> Self {
        Self::start_at(&unused_path(), label)
    }

    /// The same at a path, where an earlier one may have left its socket.
    pub(crate) fn start_at(socket: &Path, label: &str) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let state = Arc::new(State {
            services: Mutex::new(services(label, FIRST_INDEX)),
            tasks: Mutex::new("[]".to_owned()),
            cluster: Mutex::new("swarm"),
            raft: AtomicU64::new(FIRST_INDEX),
            mood: Mutex::new(Mood::Well),
            lists: AtomicU64::new(0),
            streams: watch::Sender::new(0),
            events: broadcast::Sender::new(1024),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self { socket: socket.to_owned(), state, _accepting: accepting }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn relabel(&self, label: &str) {
        let index = self.state.raft.fetch_add(1, Ordering::Relaxed) + 1;
        self.relabel_at(label, index);
    }

    /// The same, written at that index of the Raft log.
    pub(crate) fn relabel_at(&self, label: &str, index: u64) {
        self.state.raft.store(index, Ordering::Relaxed);
        *self.state.services.lock().unwrap() = services(label, index);
    }

    /// The answer to `GET /services`.
    pub(crate) fn set_services(&self, json: String) {
        *self.state.services.lock().unwrap() = json;
    }

    /// The answer to `GET /tasks`.
    pub(crate) fn set_tasks(&self, json: String) {
        *self.state.tasks.lock().unwrap() = json;
    }

    /// Makes it a manager of another Swarm.
    pub(crate) fn join(&self, cluster: &'static str) {
        *self.state.cluster.lock().unwrap() = cluster;
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Sends an event to every open stream.
    pub(crate) fn event(&self) {
        let _ = self.state.events.send(());
    }

    pub(crate) fn lists(&self) -> u64 {
        self.state.lists.load(Ordering::Relaxed)
    }

    pub(crate) async fn watched(&self, times: usize) {
        self.state.streams.subscribe().wait_for(|streams| *streams >= times).await.unwrap();
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Of the first service.
const FIRST_INDEX: u64 = 100;

fn services(label: &str, index: u64) -> String {
    let (name, value) = label.split_once('=').unwrap();
    format!(
        r#"[{{"ID": "s1", "Version": {{"Index": {index}}},
             "Spec": {{"Name": "shop_web", "Labels": {{"{name}": "{value}"}}}}}}]"#
    )
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    if request.uri().path() == "/events" {
        let events = state.events.subscribe();
        state.streams.send_modify(|streams| *streams += 1);
        return Ok(Response::new(event_stream(events)));
    }
    let path = request.uri().path();
    if path == "/services" {
        state.lists.fetch_add(1, Ordering::Relaxed);
    }
    let mood = *state.mood.lock().unwrap();
    let (status, text) = match mood {
        Mood::Well => (200, list(path, &state)),
        Mood::Hung => std::future::pending().await,
        Mood::Refusing(status, message) => (status, format!(r#"{{"message": "{message}"}}"#)),
    };
    let mut answer = Response::new(Full::from(text).boxed_unsync());
    *answer.status_mut() = status.try_into().unwrap();
    Ok(answer)
}

fn list(path: &str, state: &State) -> String {
    match path {
        "/services" => state.services.lock().unwrap().clone(),
        "/tasks" => state.tasks.lock().unwrap().clone(),
        "/info" => {
            let cluster = state.cluster.lock().unwrap();
            format!(r#"{{"Swarm": {{"Cluster": {{"ID": "{cluster}"}}}}}}"#)
        }
        _ => "[]".to_owned(),
    }
}

fn event_stream(events: broadcast::Receiver<()>) -> UnsyncBoxBody<Bytes, Infallible> {
    let lines = stream::unfold(events, |mut events| async move {
        events.recv().await.ok()?;
        let line = "{\"Type\":\"service\",\"Action\":\"update\"}\n";
        Some((Ok(Frame::data(Bytes::from(line))), events))
    });
    StreamBody::new(lines.boxed()).boxed_unsync()
}
