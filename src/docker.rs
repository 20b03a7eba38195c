//! The Docker engine, read only: what the Swarm runs, and when to look again.
//!
//! Every request is a GET, by construction: no function here takes a method. Lists go over a
//! connection of their own with a limit of time and size, because a manager without a leader keeps
//! a call for 20 s, while a new one may be answered. Events come through bollard, without a limit.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use model::{Info, Service, Task};

pub mod model;
pub mod translate;

#[cfg(test)]
pub(crate) mod fake;

/// Where the engine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// A healthy engine answers in milliseconds, one without a leader after 20 s; a new call may reach
/// the new leader meanwhile.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of one answer. A task is about 3 KB, so this is some 20,000 of them, history included.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Seconds that bollard waits for the head of the answer; the stream itself may be silent for ever.
const EVENTS_HEAD_SECONDS: u64 = 5;

/// Longest piece of the engine's own words in an error, in characters.
const MESSAGE_LIMIT: usize = 300;

/// A Docker engine behind a unix socket.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
    limit: Duration,
}

/// One look at the Swarm, in the engine's order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// All services.
    pub services: Vec<Service>,
    /// Tasks that Swarm wants, and those that are stopping and serve meanwhile; no history.
    pub tasks: Vec<Task>,
    /// Services and tasks that could not be read and were left out.
    pub unreadable: usize,
    /// Highest Raft index of all services and tasks, history included.
    pub raft: u64,
    /// The Swarm's id; empty if it was not asked for, or not told.
    pub cluster: String,
}

/// Why the engine told nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing is at the socket's path.
    #[error(
        "there is no Docker socket at {0}; mount it with `volumes: \
         [\"/var/run/docker.sock:/var/run/docker.sock:ro\"]`, or name the right path"
    )]
    Missing(PathBuf),
    /// The file may not be opened.
    #[error(
        "the Docker socket {0} may not be opened; run as root or with the socket's group \
         (`user: \"65534:<gid>\"`, where `stat -c %g {0}` on the node prints the gid)"
    )]
    Denied(PathBuf),
    /// The file is there and nobody listens.
    #[error(
        "nobody listens on the Docker socket {0}; the engine is stopped or starting (if it has been \
         restarted, mount the directory of the socket instead of the file)"
    )]
    NotListening(PathBuf),
    /// The engine answered 503: a worker, a demoted manager, or no Swarm at all.
    #[error(
        "this node is no Swarm manager; place this service on managers with \
         `constraints: [\"node.role == manager\"]`, or make a Swarm with `docker swarm init` \
         (the engine says: {0})"
    )]
    NotManager(String),
    /// The managers have no leader.
    #[error(
        "the Swarm has no leader; more than half of its managers must run and reach each other, \
         see `docker node ls` (the engine says: {0})"
    )]
    NoLeader(String),
    /// No complete answer in time.
    #[error(
        "the engine gave no answer to GET {path} within {limit:?}; it is overloaded, or the \
         managers are choosing a leader"
    )]
    Silent {
        /// What was asked.
        path: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// Another status than 200.
    #[error(
        "GET {path} was answered with {status}; if a socket proxy stands before the engine, it must \
         allow GET of /services, /tasks and /events, for an agent also of /info (the answer says: \
         {message})"
    )]
    Refused {
        /// What was asked.
        path: &'static str,
        /// What the engine answered.
        status: StatusCode,
        /// What it says about it.
        message: String,
    },
    /// More bytes than are taken.
    #[error(
        "the answer to GET {0} is larger than 64 MiB; shorten the Swarm's task history with `docker swarm update --task-history-limit 2`"
    )]
    TooLarge(&'static str),
    /// The answer is not the JSON that was asked for.
    #[error("the answer to GET {path} cannot be read; is this socket a Docker engine's?")]
    Unreadable {
        /// What was asked.
        path: &'static str,
        /// Where the JSON goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The socket could not be connected to, for another reason.
    #[error("the Docker socket {socket} cannot be connected to; see that the engine runs")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to the engine broke; it was stopped, or it restarts")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The event stream could not be opened, or broke.
    #[error("the engine's event stream ended; it was stopped, or it restarts")]
    Events(#[source] Box<bollard::errors::Error>),
}

impl Listing {
    /// What is in the answers to `GET /services` and `GET /tasks`.
    ///
    /// # Errors
    /// If either is no list.
    pub fn read(services: &[u8], tasks: &[u8]) -> Result<Self, EngineError> {
        let raft = Cell::new(0);
        let see = |version: model::Version| raft.set(version.index.max(raft.get()));
        let (services, odd_services) = model::decode_list(services, |service: &Service| {
            see(service.version);
            true
        })
        .map_err(|source| EngineError::Unreadable { path: "/services", source })?;
        let (tasks, odd_tasks) = model::decode_list(tasks, |task: &Task| {
            see(task.version);
            translate::is_live(task)
        })
        .map_err(|source| EngineError::Unreadable { path: "/tasks", source })?;
        let unreadable = odd_services + odd_tasks;
        Ok(Self { services, tasks, unreadable, raft: raft.get(), cluster: String::new() })
    }
}

impl Engine {
    /// The engine behind this socket. Nothing is opened until something is asked.
    pub fn new(socket: &Path) -> Self {
        Self::with_limit(socket, CALL_LIMIT)
    }

    /// The same with another limit of time for each call.
    pub fn with_limit(socket: &Path, limit: Duration) -> Self {
        Self { socket: socket.to_owned(), limit }
    }

    /// What the Swarm runs now: `GET /services` and `GET /tasks`, both at once.
    ///
    /// Tasks are not filtered by the engine: one that is being stopped serves for three more
    /// seconds, and the engine's filter would hide it.
    ///
    /// # Errors
    /// If either call fails. Objects that cannot be read are no error but counted.
    pub async fn list(&self) -> Result<Listing, EngineError> {
        let (services, tasks) = tokio::try_join!(self.get("/services"), self.get("/tasks"))?;
        Listing::read(&services, &tasks)
    }

    /// The id of the Swarm that the engine is a manager of, by `GET /info`; empty if it tells none.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn cluster(&self) -> Result<String, EngineError> {
        let info = self.get("/info").await?;
        let info: Info = serde_json::from_slice(&info)
            .map_err(|source| EngineError::Unreadable { path: "/info", source })?;
        Ok(info.swarm.cluster.id)
    }

    /// An item whenever a service was created, updated or removed, or a node has changed, as one does
    /// that is drained: "look again", never more, since a promoted manager replays old events.
    ///
    /// It ends, or ends with an error, when the engine stops. On a manager that was demoted or has
    /// lost its leader it stays open and silent.
    pub fn events(&self) -> impl Stream<Item = Result<(), EngineError>> + Send + Unpin + use<> {
        let socket = self.socket.to_string_lossy();
        let docker = bollard::Docker::connect_with_unix(
            &socket,
            EVENTS_HEAD_SECONDS,
            bollard::API_DEFAULT_VERSION,
        );
        let docker = match docker {
            Ok(docker) => docker,
            Err(error) => {
                let error = EngineError::Events(Box::new(error));
                return stream::once(std::future::ready(Err(error))).boxed();
            }
        };
        let filters = [("type", vec!["service", "node"])].into();
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        docker
            .events(Some(options))
            .map(|event| match event {
                // What an event says is not used, so one that cannot be read is as good as any.
                Ok(_) | Err(bollard::errors::Error::JsonDataError { .. }) => Ok(()),
                Err(error) => Err(EngineError::Events(Box::new(error))),
            })
            .boxed()
    }

    async fn get(&self, path: &'static str) -> Result<Bytes, EngineError> {
        match tokio::time::timeout(self.limit, self.exchange(path)).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::Silent { path, limit: self.limit }),
        }
    }

    async fn exchange(&self, path: &'static str) -> Result<Bytes, EngineError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let exchange = async move {
            let request = Request::get(path)
                .header(header::HOST, "docker")
                .body(Empty::<Bytes>::new())
                .map_err(broken)?;
            let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let body = read(body, path).await?;
            if head.status == StatusCode::OK {
                Ok(body)
            } else {
                Err(refused(path, head.status, &body))
            }
        };
        first_of(exchange, connection).await
    }

    fn unreachable(&self, source: io::Error) -> EngineError {
        let socket = self.socket.clone();
        let kind = source.kind();
        if kind == io::ErrorKind::NotFound {
            EngineError::Missing(socket)
        } else if kind == io::ErrorKind::PermissionDenied {
            EngineError::Denied(socket)
        } else if kind == io::ErrorKind::ConnectionRefused {
            EngineError::NotListening(socket)
        } else {
            EngineError::Connect { socket, source }
        }
    }
}

/// The exchange's outcome; the connection is driven beside it and ends with it.
async fn first_of<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    let connection = async {
        connection.await;
        // The exchange sees the end of the connection and tells it better.
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = connection => never,
    }
}

async fn read(body: hyper::body::Incoming, path: &'static str) -> Result<Bytes, EngineError> {
    match Limited::new(body, ANSWER_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(EngineError::TooLarge(path)),
        Err(error) => Err(EngineError::Broken(error)),
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Broken(Box::new(error))
}

/// The engine's answers other than 200, told apart by status and, for want of better, by its words.
fn refused(path: &'static str, status: StatusCode, body: &[u8]) -> EngineError {
    let message = message(body);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        EngineError::NotManager(message)
    } else if message.contains("does not have a leader") {
        EngineError::NoLeader(message)
    } else {
        EngineError::Refused { path, status, message }
    }
}

/// The engine wraps what it says as `{"message": "..."}`; a proxy in between need not.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Wrapped {
        message: String,
    }
    let text = match serde_json::from_slice::<Wrapped>(body) {
        Ok(wrapped) => wrapped.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.trim().chars().take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests;
