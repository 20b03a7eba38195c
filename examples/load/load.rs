//! The load itself: a request is sent when it is due, whether or not others were answered.
//!
//! It runs on a thread and a runtime of its own, so that nothing else delays it. Latency counts from
//! the time a request was due, so a server that stalls cannot hide it by slowing the client down.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::exchange::{Answer, Connection, Failure, request};
use super::report::{Lost, Report};

/// Size of the body of a POST, in bytes.
const BODY: usize = 1024;

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// `Host` field.
    pub(crate) host: String,
    /// Path of a GET. If it ends in `/`, a POST goes to `echo` below it, else to the same.
    pub(crate) path: String,
}

impl Target {
    /// Whether a POST is answered by what was sent; else as a GET is.
    fn echoes(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// What is sent, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// In turn; at least one.
    pub(crate) targets: Vec<Target>,
    /// Requests per second over all targets, at least 1.
    pub(crate) per_second: u32,
    /// For how long; none until it is stopped.
    pub(crate) duration: Option<Duration>,
    /// Share of POSTs, 0 to 100. The others are GETs.
    pub(crate) post_percent: u8,
    /// Share of requests on kept connections, 0 to 100. The others open one each.
    pub(crate) keep_alive_percent: u8,
    /// Time from when a request is due to its last byte.
    pub(crate) timeout: Duration,
    /// Whether bodies are compared with what the test replica sends.
    pub(crate) check_body: bool,
}

impl Plan {
    /// Half GET, half POST, half of each on kept connections, ten seconds for each request.
    pub(crate) fn mixed(targets: Vec<Target>, per_second: u32) -> Self {
        Self {
            targets,
            per_second,
            duration: None,
            post_percent: 50,
            keep_alive_percent: 50,
            timeout: Duration::from_secs(10),
            check_body: true,
        }
    }
}

/// A load that is running.
#[derive(Debug)]
pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Report>>,
}

impl Load {
    /// Starts on a new thread.
    pub(crate) fn start(plan: Plan) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(LocalSet::new().block_on(&runtime, run(plan, stopped)))
        });
        Self { stop, thread }
    }

    /// Sends nothing more, waits for the answers that are still due.
    ///
    /// # Errors
    ///
    /// If the machine gave no runtime, or the load itself broke.
    pub(crate) fn stop(self) -> io::Result<Report> {
        // It may have come to its planned end already.
        let _ = self.stop.send(());
        join(self.thread)
    }

    /// Waits for the planned end, then for the answers that are still due.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub(crate) fn wait(self) -> io::Result<Report> {
        let Self { stop, thread } = self;
        let report = join(thread);
        drop(stop);
        report
    }
}

fn join(thread: JoinHandle<io::Result<Report>>) -> io::Result<Report> {
    thread.join().map_err(|_| io::Error::other("the load generator panicked"))?
}

/// What the requests share; they all run on one thread.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    start: Instant,
    /// Tells its requests from those of other loads, on other machines too.
    name: String,
    report: RefCell<Report>,
    /// Idle connections by target. The longest idle is used first, so that all are.
    idle: Vec<RefCell<VecDeque<Connection>>>,
}

async fn run(plan: Plan, mut stopped: oneshot::Receiver<()>) -> Report {
    let gap = Duration::from_secs(1) / plan.per_second.max(1);
    let idle = plan.targets.iter().map(|_| RefCell::default()).collect();
    let name = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    let start = Instant::now();
    let shared = Rc::new(Shared { plan, start, name, report: RefCell::default(), idle });
    let mut draws = fastrand::Rng::with_seed(1);
    let mut under_way = JoinSet::new();
    for number in 0_u32.. {
        let after = gap * number;
        if shared.plan.duration.is_some_and(|duration| after >= duration) {
            break;
        }
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            () = tokio::time::sleep_until(shared.start + after) => {}
        }
        while under_way.try_join_next().is_some() {}
        let post = draws.u8(..100) < shared.plan.post_percent;
        let keep_alive = draws.u8(..100) < shared.plan.keep_alive_percent;
        under_way.spawn_local(one(Rc::clone(&shared), Due { number, after, post, keep_alive }));
    }
    while under_way.join_next().await.is_some() {}
    shared.report.take()
}

/// One request, before it is sent.
#[derive(Clone, Copy, Debug)]
struct Due {
    number: u32,
    after: Duration,
    post: bool,
    keep_alive: bool,
}

/// Where the connection of a request came from; for the report.
#[derive(Debug, Default)]
struct Attempt {
    reused: bool,
    replica: Option<String>,
}

async fn one(shared: Rc<Shared>, due: Due) {
    let deadline = shared.start + due.after + shared.plan.timeout;
    let mut attempt = Attempt::default();
    let exchange = exchange(&shared, due, &mut attempt);
    let ended = tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(Failure::Timeout));
    let mut report = shared.report.borrow_mut();
    match ended {
        Ok(()) => {
            let latency = shared.start.elapsed().saturating_sub(due.after);
            report.succeed(latency, attempt.replica.as_deref());
        }
        Err(failure) => {
            let method = if due.post { "POST" } else { "GET" };
            let kind = if attempt.reused { "reused" } else { "new" };
            let target = shared.target(due);
            let request = target.map(|t| format!("{method} {kind} {} {}", t.address, t.host));
            let request = request.unwrap_or_default();
            let id = shared.id(due);
            report.fail(Lost { at: due.after, failure, request, id, replica: attempt.replica });
        }
    }
}

async fn exchange(shared: &Shared, due: Due, attempt: &mut Attempt) -> Result<(), Failure> {
    let target = shared.target(due).ok_or(Failure::Unreachable)?;
    let kept = shared.kept(due);
    attempt.reused = kept.is_some();
    let mut connection = if let Some(connection) = kept {
        connection
    } else {
        shared.report.borrow_mut().opened += 1;
        Connection::open(target.address).await?
    };
    let id = shared.id(due);
    let body = if due.post { body(&id) } else { Vec::new() };
    let answer = connection.exchange(&message(target, due, &id, &body)).await?;
    attempt.replica = answer.field("x-replica").map(str::to_owned);
    let keep = answer.keep;
    let echoed = due.post && target.echoes();
    verify(&answer, echoed.then_some(&body), &id, shared.plan.check_body)?;
    if due.keep_alive && keep {
        shared.keep(due, connection);
    } else if due.keep_alive {
        shared.report.borrow_mut().announced += 1;
    }
    Ok(())
}

impl Shared {
    fn place(&self, due: Due) -> usize {
        due.number as usize % self.plan.targets.len().max(1)
    }

    fn target(&self, due: Due) -> Option<&Target> {
        self.plan.targets.get(self.place(due))
    }

    fn id(&self, due: Due) -> String {
        format!("{}-{}", self.name, due.number)
    }

    /// An idle connection that is still open, if this request may use one.
    fn kept(&self, due: Due) -> Option<Connection> {
        if !due.keep_alive {
            return None;
        }
        let mut idle = self.idle.get(self.place(due))?.borrow_mut();
        while let Some(connection) = idle.pop_front() {
            if !connection.is_closed() {
                return Some(connection);
            }
            self.report.borrow_mut().idle_closed += 1;
        }
        None
    }

    fn keep(&self, due: Due, connection: Connection) {
        if let Some(idle) = self.idle.get(self.place(due)) {
            idle.borrow_mut().push_back(connection);
        }
    }
}

/// A body that no other request has.
fn body(id: &str) -> Vec<u8> {
    id.bytes().chain([b'\n']).cycle().take(BODY).collect()
}

fn message(target: &Target, due: Due, id: &str, body: &[u8]) -> Vec<u8> {
    let host = format!("Host: {}", target.host);
    let id = format!("X-Client-Id: {id}");
    let mut fields = vec![host.as_str(), id.as_str(), "User-Agent: hiveway-load"];
    if !due.keep_alive {
        fields.push("Connection: close");
    }
    if due.post {
        let below = if target.echoes() { "echo" } else { "" };
        request("POST", &format!("{}{below}", target.path), &fields, body)
    } else {
        request("GET", &target.path, &fields, &[])
    }
}

/// An echo is what was sent, every other answer names the id.
fn verify(
    answer: &Answer,
    echo: Option<&Vec<u8>>,
    id: &str,
    check_body: bool,
) -> Result<(), Failure> {
    if !(200..300).contains(&answer.status) {
        return Err(Failure::Status(answer.status));
    }
    let right = match (check_body, echo) {
        (false, _) => true,
        (true, Some(sent)) => answer.body == *sent,
        (true, None) => String::from_utf8_lossy(&answer.body).contains(&format!("\"{id}\"")),
    };
    right.then_some(()).ok_or(Failure::WrongBody)
}
