//! A replica that is dead for good, while another service is updated again and again.
//!
//! A proxy that forgets what it has learned whenever its routes change sends requests to the dead
//! one after every update of anybody's service.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::run::{rate, wait_served};
use crate::docker::Service;
use crate::lab::admin;
use crate::load::{Load, Plan, Target};
use crate::replica::Replica;
use crate::report::LATE;

/// The service with the dead replica, and the one that is updated.
pub(crate) const NAMES: [&str; 2] = ["mourning", "busy"];
/// Replicas of the first.
const REPLICAS: u32 = 4;
/// Between two updates.
const EVERY: Duration = Duration::from_secs(2);
/// Time to find out that a replica is dead.
const TO_NOTICE: Duration = Duration::from_secs(5);

/// What came of it, once the proxy had had its time to notice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Churn {
    /// Of the other service.
    pub(crate) updates: u32,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) late: usize,
    pub(crate) longest: Duration,
    /// Connections that were asked of the dead replica.
    pub(crate) dials: u64,
    /// Requests that the dead replica was chosen for, as Hiveway counts them; none for others.
    pub(crate) requests: Option<u64>,
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { updates, sent, lost, late, longest, dials, requests } = self;
        write!(
            f,
            "{updates} updates elsewhere, one of {REPLICAS} replicas dead: {sent} requests, {lost} \
             failed, {late} late, longest {longest:.1?}; the dead one was dialled {dials} times"
        )?;
        requests.map_or(Ok(()), |requests| write!(f, " and given {requests} requests"))
    }
}

/// Requests that Hiveway had a replica for so far, however they ended.
fn requests_of(replica: &Replica) -> u64 {
    let metrics = admin("/metrics").expect("the edge's metrics");
    let endpoint = format!("endpoint=\"{}\"", replica.endpoint);
    let of_it = |line: &&str| {
        line.starts_with("hiveway_upstream_requests_total{") && line.contains(&endpoint)
    };
    let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    metrics.lines().filter(of_it).filter_map(count).sum()
}

/// Updates the other service for so long.
pub(crate) fn run(proxy: Proxy, duration: Duration) -> Churn {
    let [name, other] = NAMES;
    let ours = proxy.label(Service::new(name), name).replicas(REPLICAS);
    let ours = ours.args(&["--no-healthcheck"]).create();
    let busy = proxy.label(Service::new(other), other).args(&["--no-healthcheck"]);
    let busy = busy.args(&["--update-order", "start-first"]).create();
    wait_served(proxy, name, REPLICAS);
    wait_served(proxy, other, 1);
    let target =
        Target { address: proxy.address(), host: format!("{name}.test"), path: "/".to_owned() };
    let start = || Load::start(Plan::mixed(vec![target.clone()], rate()));
    let before = start();
    thread::sleep(Duration::from_secs(1));
    let dead = Replica::one_of(name);
    dead.refuses();
    thread::sleep(TO_NOTICE);
    let measured = start();
    let of_hiveway = || (proxy == Proxy::Hiveway).then(|| requests_of(&dead));
    let (dials, requests) = (dead.dials(), of_hiveway());
    before.stop().expect("a load");

    let began = Instant::now();
    let mut churn = Churn::default();
    while began.elapsed() < duration {
        busy.update(&["--force"]);
        churn.updates += 1;
        thread::sleep((EVERY * churn.updates).saturating_sub(began.elapsed()));
    }
    let report = measured.stop().expect("a load");
    churn.sent = report.sent;
    churn.lost = report.failed();
    churn.late = report.later_than(LATE);
    churn.longest = report.latency(1.0);
    churn.dials = dead.dials() - dials;
    churn.requests = of_hiveway().zip(requests).map(|(after, before)| after - before);
    drop((ours, busy));
    churn
}
