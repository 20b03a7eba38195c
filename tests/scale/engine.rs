//! A Docker engine as far as Hiveway asks one: two lists, the Swarm's id, and the event stream.
//! It counts what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
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
use tokio::sync::broadcast;

use crate::swarm::Swarm;

/// An engine that listens until its runtime ends.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    swarm: Arc<Mutex<Swarm>>,
    events: broadcast::Sender<String>,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Engine {
    /// An engine of this Swarm at a path where nothing is. To be called on a runtime.
    pub(crate) fn start(socket: &Path, swarm: Arc<Mutex<Swarm>>) -> Self {
        let listener = UnixListener::bind(socket).expect("a path for a socket");
        let engine = Self { swarm, events: broadcast::Sender::new(64), calls: Arc::default() };
        let accepting = engine.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let engine = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        std::future::ready(Ok::<_, Infallible>(engine.answer(&request)))
                    });
                    // Whoever asks closes when it has its answer.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        engine
    }

    /// Tells every open event stream.
    pub(crate) fn tell(&self, event: String) {
        let _ = self.events.send(event + "\n");
    }

    /// How many times each path was asked for.
    pub(crate) fn calls(&self) -> BTreeMap<String, u32> {
        self.calls.lock().unwrap().clone()
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        *self.calls.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        let text = match path {
            "/services" => self.swarm.lock().unwrap().list_services(),
            "/tasks" => self.swarm.lock().unwrap().list_tasks(),
            "/info" => r#"{"Swarm": {"Cluster": {"ID": "4z7sw6dvl1vx6vs0qo7ogfh5o"}}}"#.to_owned(),
            "/events" => return Response::new(self.event_stream()),
            other => panic!("asked for {other}"),
        };
        Response::new(Full::from(text).boxed_unsync())
    }

    fn event_stream(&self) -> UnsyncBoxBody<Bytes, Infallible> {
        let lines = stream::unfold(self.events.subscribe(), |mut events| async move {
            let line = events.recv().await.ok()?;
            Some((Ok(Frame::data(Bytes::from(line))), events))
        });
        StreamBody::new(lines.boxed()).boxed_unsync()
    }
}
