//! The admin port: metrics for Prometheus, probes for Docker, the table as JSON for people.
//!
//! It only reads, and holds no secrets. There is no check of `Host` against DNS rebinding: clients
//! in the Swarm rightly come by any name of the service, so no name is known to be wrong.

pub mod view;

mod agent;
mod answer;
mod edge;

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tower::{BoxError, Service, ServiceBuilder};
use tracing::{debug, warn};

use crate::listener::PAUSE_AFTER_ERROR;
use crate::metrics::{Metrics, Sources};

pub use self::agent::AgentAdmin;

/// A request head that takes longer is not waited for.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A scrape that takes longer is given up.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A connection has one request and is over by then, however slowly its client reads.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Answers that are made at the same time; more requests get 503.
const ANSWERS_AT_ONCE: usize = 16;
/// Bytes of a request head.
const HEAD_SIZE: usize = 16 << 10;

type Answer = Response<Full<Bytes>>;

/// What the admin port is told, apart from what is counted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Networks that may read it, beside loopback; empty for everybody.
    pub networks: Vec<IpNet>,
    /// Name of the machine or container.
    pub hostname: String,
    /// Listeners that offer the routes that name none.
    pub default_listeners: Vec<String>,
}

/// What the admin port tells, and whom.
pub struct Admin {
    sources: Arc<Sources>,
    metrics: Metrics,
    obstacle: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
    options: Options,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Admin {
    /// Tells of these sources. `obstacle` says why the edge is not ready, none if it is.
    ///
    /// # Errors
    /// Like [`Metrics::new`].
    pub fn new(
        sources: Arc<Sources>,
        options: Options,
        obstacle: impl Fn() -> Option<&'static str> + Send + Sync + 'static,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::new(Arc::clone(&sources))?;
        Ok(Self { sources, metrics, obstacle: Box::new(obstacle), options })
    }
}

/// Who has an admin port, and what it says there. `/livez` is the same for all.
pub trait Speaker: Send + Sync + 'static {
    /// Networks that may read it, beside loopback; empty for everybody.
    fn networks(&self) -> &[IpNet];

    /// The text for Prometheus.
    ///
    /// # Errors
    /// Like [`Metrics::render`].
    fn metrics(&self) -> prometheus::Result<String>;

    /// Whether it is ready, in words; as an error if it is not.
    ///
    /// # Errors
    /// Why it is not ready.
    fn readiness(&self) -> Result<String, String>;

    /// One list of the API as JSON; none if there is no such list.
    fn list(&self, name: &str) -> Option<serde_json::Result<String>>;
}

impl Standing {
    fn of(peer: IpAddr, networks: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        if peer.is_loopback() {
            Self::Local
        } else if networks.is_empty() || networks.iter().any(|network| network.contains(&peer)) {
            Self::Allowed
        } else {
            Self::Stranger
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This machine or container.
    Local,
    /// One of the networks that may read.
    Allowed,
    /// Anyone else: is told that it may not.
    Stranger,
}

/// Connections at once, 64 in all. Each kind of client has its own, so that no crowd of strangers
/// keeps Docker's health check out and has the edge killed for it.
#[derive(Debug)]
struct Seats {
    local: Arc<Semaphore>,
    allowed: Arc<Semaphore>,
    stranger: Arc<Semaphore>,
}

impl Seats {
    fn new() -> Self {
        let seats = |count| Arc::new(Semaphore::new(count));
        Self { local: seats(16), allowed: seats(40), stranger: seats(8) }
    }

    fn take(&self, standing: Standing) -> Option<OwnedSemaphorePermit> {
        let seats = match standing {
            Standing::Local => &self.local,
            Standing::Allowed => &self.allowed,
            Standing::Stranger => &self.stranger,
        };
        Arc::clone(seats).try_acquire_owned().ok()
    }
}

/// Answers on a socket until it is dropped.
///
/// # Errors
/// If the socket cannot be used by the runtime.
pub async fn serve(socket: StdListener, admin: impl Speaker) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from_std(socket)?;
    let admin = Arc::new(admin);
    let service = service(Arc::clone(&admin));
    let seats = Seats::new();
    // What fails in a row is told once: without file descriptors it does so a hundred times a second.
    let mut failed = false;
    loop {
        let accepted = socket.accept().await;
        if let Err(error) = &accepted
            && !failed
        {
            warn!(%error, "a connection to the admin port could not be accepted");
        }
        failed = accepted.is_err();
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE_AFTER_ERROR).await;
            continue;
        };
        let standing = Standing::of(peer.ip(), admin.networks());
        let Some(seat) = seats.take(standing) else {
            debug!(%peer, "the admin port has too many connections: closed");
            continue;
        };
        tokio::spawn(converse(stream, service.clone(), standing, seat));
    }
}

/// One request, as far as answers depend on it.
#[derive(Debug)]
struct Asked {
    request: Request<()>,
    standing: Standing,
}

/// What answers the requests of all connections. Errors of the limits become answers, so that none
/// is left.
fn service(
    admin: Arc<impl Speaker>,
) -> impl Service<Asked, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    ServiceBuilder::new()
        .map_result(|answer: Result<Answer, BoxError>| {
            Ok::<_, BoxError>(answer.unwrap_or_else(|error| answer::unavailable(&*error)))
        })
        .load_shed()
        .concurrency_limit(ANSWERS_AT_ONCE)
        .timeout(ANSWER_TIME)
        .service_fn(move |asked: Asked| {
            let admin = Arc::clone(&admin);
            // Away from the thread that follows DNS and the Swarm: thousands of replicas take a
            // while to write down.
            tokio::task::spawn_blocking(move || answer::answer(&*admin, &asked))
        })
}

async fn converse<S>(stream: TcpStream, service: S, standing: Standing, _seat: OwnedSemaphorePermit)
where
    S: Service<Asked, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let service = ServiceBuilder::new()
        .map_request(move |request: Request<Incoming>| Asked {
            request: request.map(drop),
            standing,
        })
        .service(service);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin port broke"),
        Err(_elapsed) => debug!("a client of the admin port was too slow"),
    }
}

#[cfg(test)]
mod tests;
