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
use crate::lab::{admin, require_edge};
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

const SHORT: Form = Form { per_second: 150, before: Duration::from_secs(3), marks: &[1, 2, 5, 8] };
const LONG: Form =
    Form { per_second: 300, before: Duration::from_secs(10), marks: &[1, 2, 5, 10, 20, 30] };

/// What came of a case.
#[derive(Debug)]
struct Outcome {
    case: Case,
    /// What the bad one got of all tries up to each mark since the mark before, in percent.
    shares: Vec<f64>,
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
        let service = service.label(&balance).replicas(REPLICAS).args(&["--no-healthcheck"]);
        let service = labels.iter().fold(service, |service, label| service.label(label));
        Self { case, name: name.to_owned(), _service: service.create() }
    }

    fn load(&self, per_second: u32) -> Load {
        let host = format!("{}.test", self.name);
        let target = Target { address: EDGE, host, path: PACE.to_owned() };
        Load::start(Plan::mixed(vec![target], per_second))
    }

    /// How often one of its replicas was left out for failing.
    fn ejections(&self) -> f64 {
        self.sum(&metrics(), &["hiveway_upstream_ejections_total{"], "")
    }

    fn observe(&self, form: Form) -> Outcome {
        wait_replicas(&format!("{}.test", self.name), REPLICAS as usize);
        let replica = Replica::one_of(&self.name);
        let per_second = form.per_second * if self.case.fault == Fault::Failing { 3 } else { 1 };
        let load = self.load(per_second);
        thread::sleep(form.before);
        let before = load.stop().expect("a load");
        let load = self.load(per_second);
        let first = self.tries(&replica);
        self.case.fault.begin(&replica);
        let began = Instant::now();
        let read = |&mark: &u64| {
            thread::sleep(Duration::from_secs(mark).saturating_sub(began.elapsed()));
            self.tries(&replica)
        };
        let tries: Vec<Tries> = std::iter::once(first).chain(form.marks.iter().map(read)).collect();
        let with = load.stop().expect("a load");
        let last = self.tries(&replica);
        self.case.fault.end(&replica);
        let share = |pair: &[Tries]| match pair {
            [from, to] => 100.0 * (to.bad - from.bad) / (to.all - from.all).max(1.0),
            _ => 0.0,
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
        let extra = 100.0 * ((last.all - first.all) / with.sent as f64 - 1.0);
        let shares = tries.windows(2).map(share).collect();
        Outcome { case: self.case, shares, extra, before, with }
    }

    fn tries(&self, replica: &Replica) -> Tries {
        let names = ["hiveway_upstream_requests_total{", "hiveway_upstream_in_flight{"];
        let endpoint = format!("endpoint=\"{}\"", replica.endpoint);
        let metrics = metrics();
        Tries { bad: self.sum(&metrics, &names, &endpoint), all: self.sum(&metrics, &names, "") }
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

/// Runs these at the same time.
fn run(cases: &[Case], form: Form) -> Vec<Outcome> {
    let services: Vec<Running> =
        cases.iter().map(|&case| Running::create(case, &case.name(), &[])).collect();
    thread::scope(|scope| {
        let begin = |service| scope.spawn(move || Running::observe(service, form));
        let threads: Vec<_> = services.iter().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().expect("a case")).collect()
    })
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
        let shares = [least, ewma].map(|outcome| outcome.shares.last().copied().unwrap_or(fair));
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
    let (form, outcomes) = if std::env::var_os("HIVEWAY_EXTENDED").is_some() {
        (LONG, Case::ALL.iter().flat_map(|&case| run(&[case], LONG)).collect())
    } else {
        (SHORT, run(&Case::ALL, SHORT))
    };
    assert_left_out(form, &outcomes);
}

#[test]
fn when_all_are_bad_none_is_left_out_nor_asked_much_more_and_all_serve_when_they_are_well() {
    const PER_SECOND: u32 = 100;
    require_edge();
    let case = Case { fault: Fault::Failing, balance: Balance::LeastRequest };
    let service = Running::create(case, "all-bad", &["hiveway.retry.on=reset,503"]);
    wait_replicas("all-bad.test", REPLICAS as usize);
    let replicas = Replica::all_of("all-bad");
    replicas.iter().for_each(|replica| case.fault.begin(replica));
    let any = replicas.first().expect("a replica");
    let (before, began) = (service.tries(any).all, Instant::now());
    let load = service.load(PER_SECOND);
    thread::sleep(Duration::from_secs(8));
    let report = load.stop().expect("a load");
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
    let (tries, sent) = (service.tries(any).all - before, report.sent as f64);
    // Ten a second are always allowed, and ten at once.
    let most = 1.2 * sent + 10.0 + 10.0 * began.elapsed().as_secs_f64();
    eprintln!("all bad: {tries} tries for {}, {} ejections", report, service.ejections());
    assert!(tries <= most, "{tries} tries, where {most} are allowed");
    assert!(service.ejections() < 1.0, "somebody was left out");

    replicas.iter().for_each(|replica| replica.becomes("well"));
    let load = service.load(PER_SECOND);
    thread::sleep(Duration::from_secs(2));
    let report = load.stop().expect("a load");
    assert_eq!(report.failed(), 0, "all are well again: {report}");
    assert_eq!(report.replicas.len(), REPLICAS as usize, "{report}");
}
