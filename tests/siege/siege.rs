//! The frame of every attack: a quiet time, the attack, what it cost, and what it may cost.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::attacker::End;
use crate::edge::Edge;
use crate::origin::Origin;
use crate::others::{EVERY_WAY, Others, Seen, Way};

/// How long the quiet time is that an attack is compared with.
const QUIET: Duration = Duration::from_millis(1500);
/// After an attack, before what is left of it is looked at.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// Between two looks at the edge.
const LOOK: Duration = Duration::from_millis(200);
/// Requests that may be under way besides those of attackers.
const FEW: f64 = 32.0;
/// How much slower others may be served, at p99.
const SLOWER: u32 = 3;
/// What a request may wait anyway where attackers, others, replicas and two edges share two cores.
const SHARED: Duration = Duration::from_millis(15);
/// CPU that the edge may use for attackers who do nothing but hold on, in cores.
const HOLDING: f64 = 0.25;
/// Complaints in its log that no one would call a flood.
const COMPLAINTS: usize = 20;

/// What an attack may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// After which time each connection of an attacker is ended.
    pub(crate) gone: Duration,
    /// How much more memory is used at most, in MiB.
    pub(crate) memory: u64,
    /// Requests to the replica for each connection of an attacker.
    pub(crate) upstream: u64,
}

/// When all attackers are there and none has to go yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    /// After their start.
    pub(crate) after: Duration,
    /// How long.
    pub(crate) lasts: Duration,
}

/// An edge in its quiet time.
#[derive(Debug)]
pub(crate) struct Siege {
    name: &'static str,
    pub(crate) edge: Arc<Edge>,
    attacked: Origin,
    others: Others,
    spared: Spared,
    quiet: Quiet,
}

/// An edge that nobody attacks, and the same others as at the one under attack, at the same time. How
/// long they wait here is what sharing the machine with attackers costs.
#[derive(Debug)]
struct Spared {
    others: Others,
    _edge: Edge,
}

/// How it is without attackers.
#[derive(Debug)]
struct Quiet {
    seen: Seen,
    cpu: f64,
    memory: u64,
    /// What the kernel keeps for connections, in MiB.
    kernel: u64,
}

/// How it is while attackers do nothing but hold on.
#[derive(Debug)]
struct Held {
    seen: Seen,
    /// In cores.
    cpu: f64,
}

/// What an attack cost.
#[derive(Debug)]
pub(crate) struct Toll {
    name: &'static str,
    quiet: Quiet,
    ends: Vec<End>,
    seen: Seen,
    /// At the edge that was spared.
    spared: Seen,
    peak: u64,
    after: u64,
    /// The most that the kernel kept for connections, of every process, in MiB.
    kernel: u64,
    /// In cores, from the first attacker to the last.
    cpu: f64,
    /// While attackers held on.
    held: Option<Held>,
    upstream: u64,
    freed: Duration,
    ejections: f64,
    complaints: Vec<String>,
}

/// How much longer everything lasts than it must.
pub(crate) fn long() -> u32 {
    if std::env::var_os("SIEGE_LONG").is_some() { 6 } else { 1 }
}

impl Siege {
    /// Starts an edge with these lines of `[limits]` and lets it serve the others for a while.
    pub(crate) fn of(name: &'static str, limits: &str) -> Self {
        Self::with(name, limits, None, EVERY_WAY)
    }

    /// The same with so many files, and others who come in these ways.
    pub(crate) fn with(
        name: &'static str,
        limits: &str,
        files: Option<u32>,
        ways: &'static [Way],
    ) -> Self {
        // Two, for what attackers cost a replica is not what they cost the edge.
        let (replica, attacked) = (Origin::start(|| {}), Origin::start(yield_to_others));
        let edge = Arc::new(Edge::start(limits, files, replica.address, attacked.address));
        let others = Others::start(edge.web, ways);
        let spared = Spared::start(replica.address, attacked.address);
        // First connections and first pages of memory are nothing to compare with.
        thread::sleep(QUIET / 4);
        others.take();
        spared.others.take();
        let cpu = cpu_over(&edge, QUIET * long());
        let quiet =
            Quiet { seen: others.take(), cpu, memory: edge.memory().0, kernel: kernel_memory() };
        let Seen { failures, .. } = &quiet.seen;
        assert!(failures.is_empty(), "{name}: before any attack: {failures:?}");
        Self { name, edge, attacked, others, spared, quiet }
    }

    /// Runs the attackers to their end. While they do nothing but hold on, if there is such a time
    /// after their start, it is looked at what the edge does.
    pub(crate) fn attack(
        self,
        holding: Option<Holding>,
        attackers: impl Future<Output = Vec<End>>,
    ) -> Toll {
        let Self { name, edge, attacked, others, spared, quiet } = self;
        spared.others.take();
        let watch = Watch::start(&edge);
        let (start, before) = (Instant::now(), edge.cpu());
        let (ends, arriving, held) = thread::scope(|scope| {
            let holding = holding.map(|Holding { after, lasts }| {
                let (edge, others) = (&edge, &others);
                scope.spawn(move || {
                    thread::sleep(after);
                    let arriving = others.take();
                    let cpu = cpu_over(edge, lasts);
                    (arriving, Held { seen: others.take(), cpu })
                })
            });
            let ends = run_to_the_end(attackers);
            let (arriving, held) = holding.map(|thread| thread.join().unwrap()).unzip();
            (ends, arriving.unwrap_or_default(), held)
        });
        let cpu = (edge.cpu() - before) / start.elapsed().as_secs_f64();
        let meanwhile = held.as_ref().map(|held| held.seen.clone()).unwrap_or_default();
        let (seen, spared) = (others.take().and(arriving).and(meanwhile), spared.others.take());
        thread::sleep(AFTERWARDS);
        let (after, peak) = edge.memory();
        let watched = watch.end();
        Toll {
            name,
            quiet,
            ends,
            seen,
            spared,
            peak,
            after,
            cpu,
            held,
            upstream: attacked.requests(),
            kernel: watched.kernel,
            freed: watched.crowded,
            ejections: edge.metrics().sum("hiveway_upstream_ejections_total"),
            complaints: edge.complaints(),
        }
    }
}

impl Spared {
    fn start(replica: SocketAddr, attacked: SocketAddr) -> Self {
        let edge = Edge::start("", None, replica, attacked);
        Self { others: Others::start(edge.web, EVERY_WAY), _edge: edge }
    }
}

/// On this thread, which yields to others from now on.
fn run_to_the_end(attackers: impl Future<Output = Vec<End>>) -> Vec<End> {
    yield_to_others();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.unwrap(), attackers)
}

/// Real attackers have machines of their own: this thread gets what the edge and the others leave.
fn yield_to_others() {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    let thread = link.file_name().unwrap();
    let status =
        Command::new("renice").args(["-n", "10", "-p"]).arg(thread).stdout(Stdio::null()).status();
    assert!(status.expect("`renice` of util-linux").success());
}

/// Cores that the edge uses over some time.
fn cpu_over(edge: &Edge, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), edge.cpu());
    thread::sleep(time);
    (edge.cpu() - before) / start.elapsed().as_secs_f64()
}

/// What the kernel keeps for connections of all processes, in MiB.
fn kernel_memory() -> u64 {
    let told = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = told.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages: u64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    pages * 4 / 1024
}

/// Looks at the edge again and again.
#[derive(Debug)]
struct Watch {
    over: Arc<AtomicBool>,
    looking: JoinHandle<Watched>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// When there were more than a few requests under way for the last time.
    crowded: Duration,
    /// The most that the kernel kept for connections, in MiB.
    kernel: u64,
}

impl Watch {
    fn start(edge: &Arc<Edge>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let (edge, start, ends) = (Arc::clone(edge), Instant::now(), Arc::clone(&over));
        let looking = thread::spawn(move || {
            let mut watched = Watched::default();
            while !ends.load(Relaxed) {
                if edge.metrics().sum("hiveway_http_requests_in_flight") > FEW {
                    watched.crowded = start.elapsed();
                }
                watched.kernel = watched.kernel.max(kernel_memory());
                thread::sleep(LOOK);
            }
            watched
        });
        Self { over, looking }
    }

    /// # Panics
    ///
    /// If the admin port did not answer.
    fn end(self) -> Watched {
        self.over.store(true, Relaxed);
        self.looking.join().expect("the admin port answers all the time")
    }
}

impl Toll {
    /// Tells the figures, and fails if one is not within its bounds.
    pub(crate) fn is_within(&self, bounds: Bounds) {
        eprintln!("{self}");
        let Bounds { gone, memory, upstream } = bounds;
        let too_late = |end: &&End| end.lasted.is_none_or(|lasted| lasted > gone);
        let stayed = self.ends.iter().filter(too_late).count();
        assert!(stayed == 0, "{stayed} attackers were still there after {gone:?}");
        self.is_bearable(memory, upstream);
    }

    /// The same where attackers cannot see that they have been cut off: the edge tells when their
    /// requests were over.
    pub(crate) fn is_within_as_the_edge_tells(&self, bounds: Bounds) {
        eprintln!("{self}");
        let Bounds { gone, memory, upstream } = bounds;
        assert!(self.freed < gone, "requests were still under way after {:?}", self.freed);
        self.is_bearable(memory, upstream);
    }

    fn is_bearable(&self, memory: u64, upstream: u64) {
        let Seen { failures, .. } = &self.seen;
        let some = &failures[..failures.len().min(10)];
        assert!(failures.is_empty(), "{} requests of others failed: {some:?}", failures.len());
        let usual = self.quiet.seen.p99().max(self.spared.p99()).max(SHARED);
        let (p99, most) = (self.seen.p99(), usual * SLOWER);
        assert!(p99 < most, "others waited {p99:?} at p99, more than {most:?}");
        let more = self.peak.saturating_sub(self.quiet.memory);
        assert!(more <= memory, "{more} MiB more were used, {memory} are allowed");
        if let Some(held) = &self.held {
            let more = held.cpu - self.quiet.cpu;
            assert!(more < HOLDING, "{more:.2} cores were used for attackers who only held on");
        }
        let most = upstream * self.ends.len() as u64;
        assert!(self.upstream <= most, "{} requests, {most} are allowed", self.upstream);
        assert!(self.ejections < 0.5, "the replica paid for what attackers did");
        let complaints = &self.complaints[..self.complaints.len().min(3)];
        let many = self.complaints.len();
        assert!(many <= COMPLAINTS, "{many} complaints in the log: {complaints:?}");
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, quiet, ends, seen, .. } = self;
        write!(f, "{name}: others p99 {:.1?} quiet, {:.1?} then, ", quiet.seen.p99(), seen.p99())?;
        write!(f, "{:.1?} at an edge that was spared, ", self.spared.p99())?;
        write!(f, "{} of {} failed; ", seen.failures.len(), seen.sent())?;
        let (before, peak, after) = (quiet.memory, self.peak, self.after);
        write!(f, "memory {before} MiB before, {peak} at most, {after} after, ")?;
        write!(f, "the kernel's for connections {} and {}; ", quiet.kernel, self.kernel)?;
        write!(f, "CPU {:.0} % quiet, {:.0} % then", quiet.cpu * 100.0, self.cpu * 100.0)?;
        if let Some(Held { seen, cpu }) = &self.held {
            let cpu = cpu * 100.0;
            write!(f, "; {cpu:.0} % and p99 {:.1?} while they hold on", seen.p99())?;
        }
        write!(f, "; {} connections of attackers, ", ends.len())?;
        write!(f, "{} requests to the replica, ", self.upstream)?;
        let longest = ends.iter().filter_map(|end| end.lasted).max();
        match longest {
            Some(longest) => write!(f, "the last one ended after {longest:.1?}")?,
            None => write!(f, "their requests were over after {:.1?}", self.freed)?,
        }
        let mut said = BTreeMap::<&str, usize>::new();
        for end in ends {
            *said.entry(&end.said).or_default() += 1;
        }
        let words = said.iter().filter(|(word, _)| !word.is_empty());
        let words: Vec<_> = words.map(|(word, count)| format!("{count} x {word}")).collect();
        if !words.is_empty() {
            write!(f, " ({})", words.join(", "))?;
        }
        Ok(())
    }
}
