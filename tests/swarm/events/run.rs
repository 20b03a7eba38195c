//! Runs cases: makes the services, loads them, lets things happen, counts what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::case::{Case, Event, MayLose};
use super::proxy::Proxy;
use crate::client::{SOON, get_from};
use crate::crowd::ask;
use crate::docker::{Deployed, Service, docker};
use crate::exchange::Failure;
use crate::lab::{lab_root, stdout, wait_for};
use crate::load::{Load, Plan, Target};
use crate::replica::Replica;
use crate::report::{LATE, Report};

/// How long the slow requests take, and how many of them are under way at any time, in all.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_PER_SECOND: u32 = 50;

/// How long clients wait for an answer: longer than Hiveway lets a request wait for a replica.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests per second in all.
pub(crate) fn rate() -> u32 {
    std::env::var("EVENTS_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(1000)
}

/// What came of a case, once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Requests that failed, by the way they did.
    pub(crate) lost: BTreeMap<Failure, u64>,
    /// Right answers that came later than a client may notice.
    pub(crate) late: usize,
    /// The longest time that a right answer was late by.
    pub(crate) longest: Duration,
    /// POSTs that ran more than once.
    pub(crate) twice: usize,
    /// What is against the case's own word.
    pub(crate) wrong: Vec<String>,
}

impl Outcome {
    /// How many requests failed.
    pub(crate) fn failed(&self) -> u64 {
        self.lost.values().sum()
    }

    /// By what they failed.
    pub(crate) fn lost_how(&self) -> String {
        let lost = self.lost.iter().map(|(failure, count)| format!("{count} x {failure}"));
        lost.collect::<Vec<_>>().join(", ")
    }

    /// Adds another run of the same.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        for (failure, count) in other.lost {
            *self.lost.entry(failure).or_default() += count;
        }
        self.late += other.late;
        self.longest = self.longest.max(other.longest);
        self.twice += other.twice;
        self.wrong.extend(other.wrong);
    }
}

/// The names of the services of the largest group.
pub(crate) fn service_names() -> Vec<String> {
    (0..8).map(|n| format!("event{n}")).collect()
}

/// Runs all cases of a group at once.
pub(crate) fn run(proxy: Proxy, group: &[Case]) -> Vec<(Case, Outcome)> {
    let services: Vec<Running> = service_names()
        .iter()
        .zip(group)
        .map(|(name, &case)| Running::create(proxy, name, case))
        .collect();
    services.iter().for_each(Running::prepare);
    let share = |all: u32| (all / u32::try_from(group.len()).unwrap_or(1)).max(1);
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = services
            .iter()
            .map(|service| scope.spawn(|| service.observe(share(rate()), share(SLOW_PER_SECOND))))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Outcome>| thread.join().expect("a case");
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    let removed: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    drop(services);
    wait_for("the services to be gone", SOON, || {
        pause();
        removed.iter().all(|name| tasks(name).is_empty()).then_some(())
    });
    group.iter().copied().zip(outcomes).collect()
}

/// Waiting must not take the machine from what is measured.
fn pause() {
    thread::sleep(Duration::from_millis(200));
}

fn engine(path: &str) -> Value {
    ask(&lab_root().join("1/docker.sock"), path).unwrap_or_default()
}

/// The tasks of a service that run or are about to; none once it is removed.
fn tasks(service: &str) -> Vec<Value> {
    let filters = format!("%7B%22service%22%3A%5B%22{service}%22%5D%7D");
    let tasks = engine(&format!("/tasks?filters={filters}"));
    let tasks = tasks.as_array().cloned().unwrap_or_default();
    let over = ["complete", "failed", "shutdown", "rejected", "orphaned", "remove"];
    let state = |task: &Value| task["Status"]["State"].as_str().unwrap_or_default().to_owned();
    tasks.into_iter().filter(|task| !over.contains(&state(task).as_str())).collect()
}

/// Waits until exactly so many tasks run, and no other is about to, or ends.
fn wait_tasks(service: &str, count: u32) {
    wait_for(&format!("exactly {count} tasks of {service}"), SOON * 4, || {
        pause();
        let tasks = tasks(service);
        let run = tasks.iter().all(|task| task["Status"]["State"] == "running");
        (run && tasks.len() == count as usize).then_some(())
    });
}

/// Waits until so many tasks run, and the proxy asks all of them.
pub(crate) fn wait_served(proxy: Proxy, service: &str, count: u32) {
    wait_tasks(service, count);
    let what = format!("{count} replicas of {service} behind {}", proxy.name());
    let host = format!("{service}.test");
    wait_for(&what, SOON * 2, || {
        let asked = (0..4 * count).filter_map(|_| {
            let answer = get_from(proxy.address(), &host, "/").ok()?;
            answer.field("x-replica").map(str::to_owned)
        });
        let seen: BTreeSet<_> = asked.collect();
        pause();
        (seen.len() == count as usize).then_some(())
    });
}

/// A case with its service.
#[derive(Debug)]
struct Running {
    proxy: Proxy,
    case: Case,
    name: String,
    service: Deployed,
    /// Where the replicas write which POSTs ran.
    ran: PathBuf,
}

/// When things happened, after the load began.
#[derive(Debug, Default)]
struct Times {
    /// The crash, or the scaling to none.
    from: Duration,
    /// The end of what that may cost.
    to: Duration,
}

impl Running {
    fn create(proxy: Proxy, name: &str, case: Case) -> Self {
        let ran = lab_root().join("1/ran").join(name);
        // What an earlier run left is of no use.
        let _ = fs::remove_dir_all(&ran);
        fs::create_dir_all(&ran).expect("a directory in the lab's own");
        stdout(Command::new("chmod").arg("777").arg(&ran));
        let mount = format!("type=bind,src={},dst=/ran", ran.display());
        let order = case.order.word();
        let mut service = proxy.label(Service::new(name), name).replicas(case.replicas).args(&[
            "--mount",
            &mount,
            "--env",
            "REPLICA_RAN=/ran/{{.Task.Name}}",
            "--restart-delay",
            case.restart_delay,
            "--update-order",
            order,
            "--update-monitor",
            "2s",
            "--update-failure-action",
            "rollback",
            "--rollback-order",
            order,
            "--rollback-monitor",
            "1s",
        ]);
        for variable in case.kind.environment() {
            service = service.env(variable);
        }
        if !case.healthcheck {
            service = service.args(&["--no-healthcheck"]);
        }
        Self { proxy, case, name: name.to_owned(), service: service.create(), ran }
    }

    /// Waits until every replica serves, and does what must have happened before.
    fn prepare(&self) {
        wait_served(self.proxy, &self.name, self.case.replicas);
        if self.case.event == Event::Rollback {
            self.service.update(&["--image", "replica:next"]);
            self.wait_update("completed");
            wait_served(self.proxy, &self.name, self.case.replicas);
        }
    }

    fn wait_update(&self, state: &str) {
        let path = format!("/services/{}", self.name);
        wait_for(&format!("the update of {} to be {state}", self.name), SOON * 6, || {
            pause();
            (engine(&path)["UpdateStatus"]["State"] == state).then_some(())
        });
    }

    /// Loads the service, lets the event happen, and waits until all of it is over.
    fn observe(&self, per_second: u32, slow_per_second: u32) -> Outcome {
        let target = |path: &str| Target {
            address: self.proxy.address(),
            host: format!("{}.test", self.name),
            path: path.to_owned(),
        };
        let began = Instant::now();
        let load = |path: &str, per_second| {
            let plan = Plan::mixed(vec![target(path)], per_second);
            Load::start(Plan { timeout: PATIENCE, ..plan })
        };
        let slow = format!("/slow?ms={}", SLOW.as_millis());
        let (load, slow) = (load("/", per_second), load(&slow, slow_per_second));
        thread::sleep(Duration::from_secs(2));
        let times = self.happen(began);
        thread::sleep(Duration::from_secs(1) + self.case.kind.start_delay());
        let reports = [load.stop(), slow.stop()].map(|report| report.expect("a load"));
        self.outcome(&reports, &times)
    }

    /// The event, from its first command until Swarm is as it is to be.
    fn happen(&self, began: Instant) -> Times {
        let mut times = Times { from: began.elapsed(), to: began.elapsed() };
        match self.case.event {
            Event::Force => self.update(&["--force"], "completed"),
            Event::Image => self.update(&["--image", "replica:next"], "completed"),
            Event::FailedUpdate => {
                self.update(&["--env-add", "REPLICA_ROLE=none"], "rollback_completed");
            }
            Event::Rollback => {
                docker(&["service", "rollback", "--quiet", "--detach", &self.name]);
                self.wait_update("rollback_completed");
                wait_tasks(&self.name, self.case.replicas);
            }
            Event::Scale(to) => {
                for &count in to {
                    if count == 0 {
                        times.from = began.elapsed();
                    }
                    self.service.scale(count);
                    wait_tasks(&self.name, count);
                    thread::sleep(Duration::from_secs(1));
                }
                times.to = began.elapsed();
            }
            Event::Kill | Event::Remove => {
                self.crash();
                times.to = began.elapsed();
                // The engine sees the end of a process within that time.
                thread::sleep(Duration::from_secs(2));
                wait_tasks(&self.name, self.case.replicas);
            }
        }
        times
    }

    fn update(&self, args: &[&str], end: &str) {
        self.service.update(args);
        self.wait_update(end);
        wait_tasks(&self.name, self.case.replicas);
    }

    /// Ends one replica without a word of warning.
    fn crash(&self) {
        let replica = Replica::one_of(&self.name);
        if self.case.event == Event::Remove {
            docker(&["rm", "--force", &replica.id]);
        } else {
            replica.signal("KILL");
        }
    }

    fn outcome(&self, reports: &[Report; 2], times: &Times) -> Outcome {
        let [quick, slow] = reports;
        let mut lost = BTreeMap::new();
        for (&failure, &count) in reports.iter().flat_map(|report| &report.failures) {
            *lost.entry(failure).or_default() += count;
        }
        let mut outcome = Outcome {
            sent: quick.sent + slow.sent,
            lost,
            late: quick.later_than(LATE) + slow.later_than(SLOW + LATE),
            longest: quick.latency(1.0).max(slow.latency(1.0).saturating_sub(SLOW)),
            twice: self.twice(),
            wrong: Vec::new(),
        };
        if self.proxy == Proxy::Hiveway {
            outcome.wrong = self.wrong(&outcome, reports, times);
        }
        outcome
    }

    /// How many ids the replicas, dead ones included, have written more than once.
    fn twice(&self) -> usize {
        let mut times = BTreeMap::<String, u32>::new();
        for file in fs::read_dir(&self.ran).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            for id in text.lines() {
                *times.entry(id.to_owned()).or_default() += 1;
            }
        }
        assert!(!times.is_empty(), "{}: the replicas wrote no id", self.name);
        times.values().filter(|&&times| times > 1).count()
    }

    /// What is against the case's word, each with the requests that are.
    fn wrong(&self, outcome: &Outcome, reports: &[Report; 2], times: &Times) -> Vec<String> {
        let mut wrong = Vec::new();
        if outcome.twice > 0 {
            wrong.push(format!("{} POSTs ran twice", outcome.twice));
        }
        let all = reports.iter().flat_map(|report| &report.lost);
        let unexpected = all.filter(|lost| match self.case.may_lose {
            MayLose::Nothing => true,
            MayLose::Stated(_) => false,
            // Slow ones were sent a second before; the commands themselves take their time.
            MayLose::UnderWay => {
                let before = times.from.saturating_sub(SLOW + LATE);
                let under_way = lost.at >= before && lost.at <= times.to + LATE;
                !(lost.request.starts_with("POST") && under_way)
            }
            MayLose::WhileNoneIsWanted => {
                let none_wanted = lost.at >= times.from && lost.at <= times.to;
                !(lost.failure == Failure::Status(503) && none_wanted)
            }
        });
        wrong.extend(unexpected.take(10).map(|lost| {
            format!(
                "at {:.3} s: {} {}: {}",
                lost.at.as_secs_f64(),
                lost.request,
                lost.id,
                lost.failure
            )
        }));
        wrong
    }
}
