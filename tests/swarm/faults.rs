//! One replica of three turns bad, in each way in which replicas do: what still reaches it, and what
//! clients notice.
//!
//! What reaches it is what the edge counts: tries that have ended, and those that are under way. Set
//! `FAULTS_REPORT` for a file to write the table to (a part of `docs/health.md`). The long form, by
//! `HIVEWAY_EXTENDED`, takes one fault after the other.

mod case;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use case::{Balance, Case, Fault};
use table::table;

use crate::client::{EDGE, wait_replicas};
use crate::docker::{Deployed, Service};
use crate::lab::{admin, extended, require_edge};
use crate::load::{Load, Plan, Target};
use crate::replica::Replica;
use crate::report::Report;

/// Replicas of each service; one of them turns bad.
const REPLICAS: u32 = 3;

/// What a replica takes for an answer while it is well.
const PACE: &str = "/slow?ms=5";

/// How much is sent for how long, and when it is looked at.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// Requests per second to each service; three times as many where a fault is a matter of luck.
    per_second: u32,
    /// For how long all are well.
    before: Duration,
    /// Seconds after the fault, at which the counts are read; with the last one it ends.
    marks: &'static [u64],
}

const SHORT: Form = Form { per_second: 40, before: Duration::from_secs(2), marks: &[1, 2, 4, 8] };
const LONG: Form =
    Form { per_second: 100, before: Duration::from_secs(10), marks: &[1, 2, 5, 10, 20, 30] };

/// What came of a case.
#[derive(Debug)]
struct Outcome {
    case: Case,
    /// What the bad one got of all tries up to each mark since the mark before, in percent.
    shares: Vec<f64>,
    /// What it got of all tries while it was bad, likewise.
    share: f64,
    /// Tries beyond what clients sent, in percent of that, while one was bad.
    extra: f64,
    before: Report,
    with: Report,
}

/// Tries that have ended or are under way: of one replica, and of all of its service.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    bad: f64,
    all: f64,
}

/// A service, one replica of which is to turn bad.
struct Running {
    case: Case,
    name: String,
    _service: Deployed,
}

impl Running {
    fn create(case: Case, name: &str, labels: &[&str]) -> Self {
        let balance = format!("hiveway.balance={}", case.balance.label());
        let service = Service::new(name).label(&format!("hiveway.host={name}.test"));
        let service = service.label(&balance).replicas(REPLICAS).on_node(1);
        let service = service.args(&["--no-healthcheck"]);
        let service = labels.iter().fold(service, |service, label| service.label(label));
        Self { case, name: name.to_owned(), _service: service.create() }
    }

    fn load(&self, per_second: u32) -> Load {
        let host = format!("{}.test", self.name);
        let target = Target { address: EDGE, host, path: PACE.to_owned() };
        Load::start(Plan::mixed(vec![target], per_second))
    }

    /// Requests per second of a form.
    fn rate(&self, form: Form) -> u32 {
        form.per_second * if self.case.fault == Fault::Failing { 3 } else { 1 }
    }

    fn tries(&self, replica: &Replica, metrics: &str) -> Tries {
        let names = ["hiveway_upstream_requests_total{", "hiveway_upstream_in_flight{"];
        let endpoint = format!("endpoint=\"{}\"", replica.endpoint);
        Tries { bad: self.sum(metrics, &names, &endpoint), all: self.sum(metrics, &names, "") }
    }

    /// What these metrics of the service come to, where a label is what it is to be.
    fn sum(&self, metrics: &str, names: &[&str], label: &str) -> f64 {
        let service = format!("service=\"{}\"", self.name);
        let wanted = |line: &&str| {
            names.iter().any(|name| line.starts_with(name))
                && line.contains(&service)
                && line.contains(label)
        };
        let count = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        metrics.lines().filter(wanted).filter_map(count).sum()
    }
}

fn metrics() -> String {
    admin("/metrics").expect("the edge's metrics")
}

/// Stops all at once: one that waits for late answers holds up no other.
fn stop(loads: Vec<Load>) -> Vec<Report> {
    thread::scope(|scope| {
        let stop = |load: Load| scope.spawn(|| load.stop().expect("a load"));
        let threads: Vec<_> = loads.into_iter().map(stop).collect();
        threads.into_iter().map(|thread| thread.join().expect("a report")).collect()
    })
}

/// Runs these at the same time. The counts of all are read at once: that is not free.
fn run(cases: &[Case], form: Form) -> Vec<Outcome> {
    let create = |&case: &Case| Running::create(case, &case.name(), &[]);
    let services: Vec<Running> = cases.iter().map(create).collect();
    for service in &services {
        wait_replicas(&format!("{}.test", service.name), REPLICAS as usize);
    }
    let bad: Vec<Replica> = services.iter().map(|it| Replica::one_of(&it.name)).collect();
    let start = || services.iter().map(|it| it.load(it.rate(form))).collect::<Vec<_>>();
    let loads = start();
    thread::sleep(form.before);
    let before = stop(loads);
    let loads = start();
    let mut texts = vec![metrics()];
    thread::scope(|scope| {
        for (service, replica) in services.iter().zip(&bad) {
            scope.spawn(|| service.case.fault.begin(replica));
        }
    });
    let began = Instant::now();
    for &mark in form.marks {
        thread::sleep(Duration::from_secs(mark).saturating_sub(began.elapsed()));
        texts.push(metrics());
    }
    let with = stop(loads);
    texts.push(metrics());
    services.iter().zip(&bad).for_each(|(service, replica)| service.case.fault.end(replica));
    let reports = before.into_iter().zip(with);
    let outcome = |((service, replica), reports)| outcome(service, replica, &texts, reports);
    services.iter().zip(&bad).zip(reports).map(outcome).collect()
}

/// What came of one, by the counts before the fault, at each mark and at the end.
fn outcome(
    service: &Running,
    replica: &Replica,
    texts: &[String],
    (before, with): (Report, Report),
) -> Outcome {
    let tries: Vec<Tries> = texts.iter().map(|text| service.tries(replica, text)).collect();
    let shares = tries.windows(2).take(texts.len() - 2).filter_map(|pair| {
        let [from, to] = pair else { return None };
        Some(100.0 * (to.bad - from.bad) / (to.all - from.all).max(1.0))
    });
    let (first, last) = tries.first().copied().zip(tries.last().copied()).unwrap_or_default();
    let (bad, all) = (last.bad - first.bad, last.all - first.all);
    #[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
    let extra = 100.0 * (all / with.sent as f64 - 1.0);
    let share = 100.0 * bad / all.max(1.0);
    Outcome { case: service.case, shares: shares.collect(), share, extra, before, with }
}

/// What must hold whatever the machine does beside it.
fn wrong(outcomes: &[Outcome]) -> Vec<String> {
    let mut wrong = Vec::new();
    let fair = 100.0 / f64::from(REPLICAS);
    for Outcome { case, shares, extra, with, .. } in outcomes {
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("{case}: {what}: {shares:.1?} %, {with}"));
            }
        };
        let last = shares.last().copied().unwrap_or(fair);
        let most = shares.iter().copied().fold(0.0, f64::max);
        must(last <= case.most_at_last(), "it still gets too much".to_owned());
        must(*extra <= 20.0, format!("{extra:.1} % of tries beyond what clients sent"));
        if case.fault == Fault::Hung {
            must(most <= fair, "it gets more than its fair share".to_owned());
        }
    }
    let slow = |balance| outcomes.iter().find(|outcome| outcome.case.is(Fault::Slow, balance));
    if let (Some(least), Some(ewma)) = (slow(Balance::LeastRequest), slow(Balance::Ewma)) {
        let shares = [least.share, ewma.share];
        if shares[1] >= shares[0] {
            wrong.push(format!("by time the slow one gets no less than by load: {shares:.1?} %"));
        }
    }
    wrong
}

fn assert_left_out(form: Form, outcomes: &[Outcome]) {
    let text = table(form, outcomes);
    eprintln!("{text}");
    if let Some(path) = std::env::var_os("FAULTS_REPORT") {
        std::fs::write(path, text).expect("the report is written");
    }
    let wrong = wrong(outcomes);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_replica_of_three_gets_little_whatever_is_wrong_with_it() {
    require_edge();
    let (form, outcomes) = if extended() {
        (LONG, Case::ALL.iter().flat_map(|&case| run(&[case], LONG)).collect())
    } else {
        // What is slow shows only where the machine does nothing else.
        let hard: Vec<Case> =
            Case::ALL.into_iter().filter(|case| case.fault != Fault::Slow).collect();
        (SHORT, run(&hard, SHORT))
    };
    assert_left_out(form, &outcomes);
}

#[test]
fn when_all_are_bad_none_is_left_out_nor_asked_much_more_and_all_serve_when_they_are_well() {
    const PER_SECOND: u32 = 100;
    require_edge();
    let case = Case { fault: Fault::Failing, balance: Balance::LeastRequest };
    let began = Instant::now();
    let service = Running::create(case, "all-bad", &["hiveway.retry.on=reset,503"]);
    wait_replicas("all-bad.test", REPLICAS as usize);
    let replicas = Replica::all_of("all-bad");
    for replica in &replicas {
        case.fault.begin(replica);
    }
    let load = service.load(PER_SECOND);
    thread::sleep(Duration::from_secs(8));
    let report = load.stop().expect("a load");
    let (text, took) = (metrics(), began.elapsed().as_secs_f64());
    let sum = |name| service.sum(&text, &[name], "");
    let requests = sum("hiveway_http_requests_total{");
    let tries = sum("hiveway_upstream_requests_total{");
    let ejections = sum("hiveway_upstream_ejections_total{");
    // Ten a second are always allowed, and ten at once.
    let most = 1.2 * requests + 10.0 + 10.0 * took;
    eprintln!("all bad: {tries} tries for {requests} requests, {ejections} ejections; {report}");
    assert!(tries <= most, "{tries} tries for {requests} requests in {took:.1} s");
    assert!(ejections < 1.0, "somebody was left out");

    for replica in &replicas {
        replica.becomes("well");
    }
    let load = service.load(PER_SECOND);
    thread::sleep(Duration::from_secs(2));
    let report = load.stop().expect("a load");
    assert_eq!(report.failed(), 0, "all are well again: {report}");
    assert_eq!(report.replicas.len(), REPLICAS as usize, "{report}");
}
