//! Active checks: each endpoint of a service that asks for them has a task of its own, on the control
//! side, so that no check waits for another one and no request for a check.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::clock;
use crate::health::checks::{Checks, SPREAD};
use crate::probe::{self, Finding};
use crate::proxy::{IDLE_AFTER, dial};
use crate::spec::Check;
use crate::timestamp::Timestamp;
use crate::tls::replica::Trust;
use crate::upstream::{Endpoint, Upstream};

/// An endpoint that accepts no connections is not asked; it is looked at again after this at the
/// latest.
const UNTIL_REACHED: Duration = Duration::from_secs(1);

/// An endpoint is checked for as long as this lives.
pub(super) struct Checking {
    pub(super) check: Check,
    task: JoinHandle<()>,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checking {
    /// Checks an endpoint from now on.
    pub(super) fn begin(
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        check: &Check,
        trust: &Arc<Trust>,
    ) -> Self {
        let checker = Checker {
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
            check: check.clone(),
            trust: Arc::clone(trust),
            checks: Checks::default(),
            is_mute: false,
        };
        Self { check: check.clone(), task: tokio::spawn(checker.run()) }
    }
}

struct Checker {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    check: Check,
    trust: Arc<Trust>,
    checks: Checks,
    /// Whether it was said that the endpoint says nothing about its health.
    is_mute: bool,
}

impl Checker {
    async fn run(mut self) {
        loop {
            self.reached().await;
            let began = Instant::now();
            let (key, address) = (&self.upstream.key, self.endpoint.address);
            let finding = probe::ask(key, address, &self.check, &self.trust).await;
            self.note(&finding);
            self.rest(began).await;
        }
    }

    /// Waits until it accepts connections: before, it is knocked at anyway.
    async fn reached(&self) {
        loop {
            let mut arrival = std::pin::pin!(self.upstream.arrivals.notified());
            arrival.as_mut().enable();
            if self.endpoint.health.is_reached() {
                return;
            }
            let _ = timeout(UNTIL_REACHED, arrival).await;
        }
    }

    fn note(&mut self, finding: &Finding) {
        let Self { upstream, endpoint, check, .. } = self;
        endpoint.counters.of(0).checks.count(finding.word());
        endpoint.last_check.store(Some(Arc::new(finding.text())));
        let health = &endpoint.health;
        let transition = match finding {
            Finding::Well | Finding::Mute(_) => self.checks.passed(health, check),
            Finding::Unwell(_) | Finding::Broken(_) | Finding::TimedOut | Finding::Refused(_) => {
                self.checks.failed(health, check, clock::now())
            }
            Finding::NotAsked => None,
        };
        dial::report(upstream, endpoint, transition);
        if check.port.is_none() && matches!(finding, Finding::Refused(_)) {
            // Requests would be refused as well; this is found out before one is.
            dial::report(upstream, endpoint, health.refused());
        }
        if let Finding::Mute(why) = finding
            && !self.is_mute
        {
            self.is_mute = true;
            let (service, name) = (&upstream.service, endpoint.name.load());
            info!(service, endpoint = %name, why, "endpoint counts as healthy while it accepts");
        }
    }

    /// Waits until the next check is due. That may change meanwhile: requests come again, or the
    /// endpoint was lost and is back.
    async fn rest(&self, began: Instant) {
        let luck = fastrand::u32(..=2 * SPREAD);
        loop {
            let mut change = std::pin::pin!(self.upstream.arrivals.notified());
            change.as_mut().enable();
            let last = self.upstream.last_request();
            let idle = last == Timestamp::START || clock::now().since(last) >= IDLE_AFTER;
            let pause = Checks::pause(&self.endpoint.health, &self.check, idle, luck);
            let left = pause.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(self.check.interval)) => {}
                () = change => {}
            }
        }
    }
}
