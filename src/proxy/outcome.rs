//! What an exchange says about the replica: it is counted, and its health is told.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::clock;
use crate::grpc::Code;
use crate::health::Transition;
use crate::health::ejection::{Failed, MOST_JITTER};
use crate::proxy::Core;
use crate::proxy::dial;
use crate::proxy::failure::Failure;
use crate::snapshot::Route;
use crate::spec::Balance;
use crate::timestamp::Timestamp;
use crate::upstream::load::{LONG, Rpc};
use crate::upstream::{Endpoint, Probation};

/// How one request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The word for metrics.
    word: &'static str,
    says: Says,
}

/// What it means for the replica's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Well,
    /// In its own words.
    Ill,
    /// By breaking off, or by silence: which says nothing if this core stood still meanwhile.
    Broken,
    /// Its machine does not even acknowledge, as when a dial is not answered.
    Silent,
    Nothing,
}

impl Verdict {
    /// The client's own time ran out. What the replica would have said nobody knows.
    pub const DEADLINE: Self = Self { word: "deadline", says: Says::Nothing };
    /// The client has left, or did something wrong.
    pub const CLIENT: Self = Self { word: "client", says: Says::Nothing };

    /// By the status of a response.
    pub fn of_http(status: StatusCode) -> Self {
        let word = if status.is_server_error() { "5xx" } else { "ok" };
        let says = if matches!(status.as_u16(), 502..=504) { Says::Ill } else { Says::Well };
        Self { word, says }
    }

    /// By the status of a call. All but UNAVAILABLE is the application's own word, `RESOURCE_EXHAUSTED`
    /// above all: a quota of one caller must cost the others no replica.
    pub fn of_grpc(code: Code) -> Self {
        if code == Code::Unavailable {
            Self { word: "unavailable", says: Says::Ill }
        } else {
            Self { word: "ok", says: Says::Well }
        }
    }

    /// By the reason why there is no response, or no end of one.
    pub const fn of_failure(failure: Failure) -> Self {
        let says = match failure {
            Failure::Silent => Says::Silent,
            Failure::Reset | Failure::Malformed | Failure::Timeout => Says::Broken,
            Failure::NotProcessed | Failure::Stale | Failure::Client(_) => Says::Nothing,
        };
        Self { word: failure.word(), says }
    }
}

/// The outcome of a call that is known at its end only. Dropped before, it is one that the client
/// has left.
#[derive(Debug)]
pub struct Outcome {
    core: Arc<Core>,
    route: Arc<Route>,
    endpoint: Arc<Endpoint>,
    sent: Timestamp,
    verdict: Verdict,
    _probation: Option<Probation>,
}

impl Outcome {
    /// It will be told to this core. `sent` is when the call was.
    pub fn pending(
        core: &Arc<Core>,
        route: &Arc<Route>,
        endpoint: &Arc<Endpoint>,
        sent: Timestamp,
        probation: Option<Probation>,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            route: Arc::clone(route),
            endpoint: Arc::clone(endpoint),
            sent,
            verdict: Verdict::CLIENT,
            _probation: probation,
        }
    }

    /// It is known.
    pub fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.core.note(&self.route, &self.endpoint, self.verdict, self.sent);
    }
}

/// A try that is under way. Dropped before it is over, it is one that the client has left, or whose
/// own time ran out: the replica had it all the same.
#[derive(Debug)]
pub struct Trial<'t> {
    core: &'t Core,
    route: &'t Route,
    endpoint: &'t Endpoint,
    rpc: Option<Rpc>,
    sent: Timestamp,
    over: bool,
}

impl<'t> Trial<'t> {
    /// A try on this endpoint.
    pub fn begin(
        core: &'t Core,
        route: &'t Route,
        endpoint: &'t Endpoint,
        rpc: Option<Rpc>,
        sent: Timestamp,
    ) -> Self {
        endpoint.silence.asked(sent);
        Self { core, route, endpoint, rpc, sent, over: false }
    }

    /// It has an outcome now, which is told elsewhere: an answer, or none. What time it is.
    pub fn over(mut self, is_answered: bool) -> Timestamp {
        let now = clock::now();
        self.over = true;
        if is_answered {
            self.endpoint.silence.answered(now);
        } else {
            self.endpoint.silence.given_up();
        }
        now
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.endpoint.silence.given_up();
            learn(self.route, self.rpc, clock::now().since(self.sent));
            self.core.note(self.route, self.endpoint, Verdict::CLIENT, self.sent);
        }
    }
}

impl Core {
    /// Counts how a request went that was sent at that time, and tells the endpoint's health.
    pub fn note(&self, route: &Route, endpoint: &Endpoint, verdict: Verdict, sent: Timestamp) {
        let is_excused =
            verdict.says == Says::Broken && self.deadlines.stood_still_since(sent, clock::now());
        let says = if is_excused { Says::Nothing } else { verdict.says };
        let is_well = match says {
            Says::Well => Some(true),
            Says::Ill | Says::Broken | Says::Silent => Some(false),
            Says::Nothing => None,
        };
        endpoint.counters.of(self.index).count(verdict.word, is_well);
        let transition = match is_well {
            Some(false) if says == Says::Silent => endpoint.health.dial_timed_out(),
            Some(true) => endpoint.health.succeeded(sent),
            Some(false) => {
                let sent = Sent { at: sent, cut: false };
                eject(self.index, route, endpoint, verdict.word, sent)
            }
            None => None,
        };
        dial::report(&route.upstream, endpoint, transition);
    }

    /// The same of a request that failed. If it was for want of an answer, an answer takes at least as
    /// long as it was waited for.
    pub fn note_failure(
        &self,
        route: &Route,
        endpoint: &Endpoint,
        failure: Failure,
        sent: Timestamp,
    ) {
        if failure == Failure::Timeout {
            measure(route, endpoint, sent, clock::now().since(sent));
        }
        self.note(route, endpoint, Verdict::of_failure(failure), sent);
    }

    /// Counts how long the replica took for a response head that has come now, and says so.
    pub fn note_head(
        &self,
        route: &Route,
        endpoint: &Endpoint,
        rpc: Option<Rpc>,
        started: Timestamp,
        now: Timestamp,
    ) -> Duration {
        let took = now.since(started);
        learn(route, rpc, took);
        measure(route, endpoint, started, took);
        endpoint.counters.of(self.index).response.observe(took);
        took
    }

    /// Counts a request that goes to another endpoint after this one failed.
    pub fn note_retry(&self, endpoint: &Endpoint, reason: &'static str) {
        endpoint.counters.of(self.index).retries.count(reason);
    }
}

/// The body of a response broke off by the replica's doing. The request is counted already, by its
/// head; what that said about the replica's health is taken back.
pub fn note_cut(core: usize, route: &Route, endpoint: &Endpoint, sent: Timestamp) {
    endpoint.counters.of(core).cut();
    let transition = eject(core, route, endpoint, "cut", Sent { at: sent, cut: true });
    dial::report(&route.upstream, endpoint, transition);
}

/// The body of a response came to its end.
pub fn note_whole(route: &Route, endpoint: &Endpoint, sent: Timestamp) {
    dial::report(&route.upstream, endpoint, endpoint.health.answered_whole(sent));
}

/// A request that failed: when it was sent, and whether it was answered, but not to the end.
#[derive(Clone, Copy)]
struct Sent {
    at: Timestamp,
    cut: bool,
}

/// Counts a failure, and leaves the endpoint out if that was one too many.
fn eject(
    core: usize,
    route: &Route,
    endpoint: &Endpoint,
    reason: &'static str,
    sent: Sent,
) -> Option<Transition> {
    let jitter = fastrand::u32(..=MOST_JITTER);
    let failed = Failed { sent: sent.at, at: clock::now(), jitter, cut: sent.cut };
    let eject = &route.policy().eject;
    let transition = route.upstream.endpoint_failed(endpoint, &failed, eject);
    if transition.is_some() {
        endpoint.counters.of(core).ejections.count(reason);
    }
    transition
}

/// Learns which methods are long polls.
fn learn(route: &Route, rpc: Option<Rpc>, took: Duration) {
    if let Some(rpc) = rpc {
        route.upstream.methods.took(rpc, took);
    }
}

/// Measures an endpoint where that is asked for: all others are spared a line of memory that cores
/// would contend for.
fn measure(route: &Route, endpoint: &Endpoint, started: Timestamp, took: Duration) {
    let may_be_poll = route.upstream.key.protocol.is_grpc() && took >= LONG;
    if route.policy().balance == Balance::Ewma && !may_be_poll {
        endpoint.latency.observe(took, started + took);
    }
}
