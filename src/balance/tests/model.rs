//! The endpoints of an upstream beside a model of them: slow, without atomics, and obvious. Whatever
//! happens to them, both have the same states, and what was promised about ejections holds.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;

use crate::balance::{Search, pick};
use crate::health::State;
use crate::health::checks::Checks;
use crate::health::ejection::Failed;
use crate::spec::{Balance, Check, Eject, Protocol};
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, Upstream, UpstreamKey};

const CONSECUTIVE: u32 = 3;
const BASE: u64 = 10_000;
const MAX: u64 = 25_000;
const FALL: u32 = 2;
const RISE: u32 = 2;
const INTERVAL: u64 = 5000;

/// What happens to the endpoint of that number; times are milliseconds.
#[derive(Clone, Copy, Debug)]
enum Event {
    Connected,
    Refused,
    /// A request was answered well that was sent so long ago.
    Well(u64),
    /// A request failed that was sent so long ago.
    Ill(u64),
    CheckPassed,
    CheckFailed,
    Draining(bool),
    /// Nothing, for so long.
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let age = prop_oneof![4 => Just(0), 1 => 0..20_000_u64];
    prop_oneof![
        2 => Just(Event::Connected),
        1 => Just(Event::Refused),
        6 => age.clone().prop_map(Event::Well),
        10 => age.prop_map(Event::Ill),
        2 => Just(Event::CheckPassed),
        1 => Just(Event::CheckFailed),
        1 => any::<bool>().prop_map(Event::Draining),
        3 => (0..30_000_u64).prop_map(Event::Wait),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    NoneYet,
    Made,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    None,
    Awaited,
    Good,
    Bad,
}

#[derive(Clone, Debug)]
struct Modelled {
    contact: Contact,
    word: Word,
    draining: bool,
    checks_passed: u32,
    checks_failed: u32,
    checks_failing_since: u64,
    run: u32,
    /// What the others had answered well and badly when the run began.
    others_before: (u64, u64),
    well: u64,
    ill: u64,
    failed_at: Option<u64>,
    times: u64,
    began: u64,
    ended: u64,
    out_until: Option<u64>,
}

impl Modelled {
    const fn new(awaits_check: bool) -> Self {
        Self {
            contact: Contact::NoneYet,
            word: if awaits_check { Word::Awaited } else { Word::None },
            draining: false,
            checks_passed: 0,
            checks_failed: 0,
            checks_failing_since: 0,
            run: 0,
            others_before: (0, 0),
            well: 0,
            ill: 0,
            failed_at: None,
            times: 0,
            began: 0,
            ended: 0,
            out_until: None,
        }
    }

    fn state(&self, now: u64) -> State {
        if self.contact == Contact::NoneYet {
            State::Pending
        } else if self.contact == Contact::Lost {
            State::Down
        } else if self.word == Word::Awaited {
            State::Pending
        } else if self.draining {
            State::Draining
        } else if self.word == Word::Bad {
            State::Unhealthy
        } else {
            match self.out_until {
                None => State::Healthy,
                Some(until) if now < until => State::Ejected,
                Some(_) => State::Probation,
            }
        }
    }

    fn check_passed(&mut self) {
        self.checks_failed = 0;
        self.checks_passed += 1;
        if self.word != Word::Bad || self.checks_passed >= RISE {
            self.word = Word::Good;
        }
    }

    fn check_failed(&mut self, now: u64) {
        self.checks_passed = 0;
        if self.checks_failed == 0 {
            self.checks_failing_since = now;
        }
        self.checks_failed += 1;
        let is_bad = match self.word {
            Word::Awaited => now - self.checks_failing_since >= INTERVAL * u64::from(FALL),
            Word::None | Word::Good => self.checks_failed >= FALL,
            Word::Bad => true,
        };
        if is_bad {
            self.word = Word::Bad;
        }
    }
}

/// All endpoints, and what has been decided about them.
struct Model {
    endpoints: Vec<Modelled>,
    max_percent: usize,
}

impl Model {
    fn apply(&mut self, at: usize, event: Event, now: u64, jitter: u64) {
        let endpoint = &mut self.endpoints[at];
        match event {
            Event::Connected => endpoint.contact = Contact::Made,
            Event::Refused if endpoint.contact == Contact::Made => {
                endpoint.contact = Contact::Lost;
                if endpoint.word != Word::None {
                    endpoint.word = Word::Awaited;
                }
            }
            Event::Refused | Event::Wait(_) => {}
            Event::Well(age) => {
                endpoint.well += 1;
                endpoint.run = 0;
                if now.saturating_sub(age) >= endpoint.began {
                    endpoint.out_until = None;
                }
            }
            Event::Ill(age) => {
                self.endpoints[at].ill += 1;
                self.fail(at, now.saturating_sub(age), now, jitter);
            }
            Event::CheckPassed => endpoint.check_passed(),
            Event::CheckFailed => endpoint.check_failed(now),
            Event::Draining(draining) => endpoint.draining = draining,
        }
    }

    fn fail(&mut self, at: usize, sent: u64, now: u64, jitter: u64) {
        let others_now =
            self.others(at).fold((0, 0), |sum, other| (sum.0 + other.well, sum.1 + other.ill));
        let endpoint = &mut self.endpoints[at];
        if sent < endpoint.began {
            return;
        }
        endpoint.failed_at = Some(now);
        let on_probation = match endpoint.out_until {
            Some(until) if now < until => return,
            Some(_) => true,
            None => false,
        };
        endpoint.run += 1;
        if !on_probation && endpoint.run == 1 {
            endpoint.others_before = others_now;
        }
        let run = endpoint.run;
        let well = others_now.0 - endpoint.others_before.0;
        let ill = others_now.1 - endpoint.others_before.1;
        let is_long =
            run >= CONSECUTIVE && (run < 4 * CONSECUTIVE || run.is_multiple_of(CONSECUTIVE));
        let is_worse = if on_probation {
            self.would_hardly_happen(at, (1, 0), run, now)
        } else {
            is_long && well > 0 && self.would_hardly_happen(at, (well, ill), run, now)
        };
        if is_worse && self.can_spare(at, now) {
            let endpoint = &mut self.endpoints[at];
            let forgotten = now.saturating_sub(endpoint.ended) / MAX;
            endpoint.times = endpoint.times.saturating_sub(forgotten) + 1;
            let time = (BASE * endpoint.times).min(MAX);
            endpoint.began = now;
            endpoint.ended = now + time + time / 100 * jitter;
            endpoint.out_until = Some(endpoint.ended);
            endpoint.run = 0;
        }
    }

    fn others(&self, at: usize) -> impl Iterator<Item = &Modelled> {
        let others = self.endpoints.iter().enumerate().filter(move |(number, _)| *number != at);
        others.map(|(_, other)| other)
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn would_hardly_happen(&self, at: usize, (well, ill): (u64, u64), run: u32, now: u64) -> bool {
        let mut share = ill as f64 / (well + ill) as f64;
        // To the microsecond as it stands: later than two seconds ago.
        let lately = |other: &Modelled| {
            other.state(now) == State::Healthy
                && other.failed_at.is_some_and(|failed| failed > now.saturating_sub(2000))
        };
        if self.others(at).any(lately) {
            share = share.max(0.5);
        }
        let mut chance = 1.0;
        for _ in 0..run {
            chance *= share;
        }
        chance <= 1e-6
    }

    fn can_spare(&self, at: usize, now: u64) -> bool {
        let count = |wanted: &[State]| {
            self.others(at).filter(|other| wanted.contains(&other.state(now))).count()
        };
        let healthy = count(&[State::Healthy]);
        let out = count(&[State::Ejected, State::Probation]);
        healthy > 0 && out < ((healthy + out + 1) * self.max_percent / 100).max(1)
    }
}

/// The real ones.
struct Real {
    upstream: Upstream,
    endpoints: Vec<Arc<Endpoint>>,
    checks: Vec<Checks>,
    eject: Eject,
}

fn time(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

impl Real {
    fn new(awaiting: &[bool], max_percent: u8) -> Self {
        let key = UpstreamKey {
            service_id: "shop".into(),
            port: 80,
            protocol: Protocol::Http,
            tls: None,
            network: String::new(),
        };
        let upstream = Upstream::new(key, "shop", 1);
        let endpoint = |awaits: &bool| {
            let endpoint = Endpoint::new("127.0.0.1:1".parse().unwrap(), "", 2);
            if *awaits {
                endpoint.health.await_check();
            }
            Arc::new(endpoint)
        };
        let endpoints: Vec<_> = awaiting.iter().map(endpoint).collect();
        upstream.set_endpoints(endpoints.clone());
        let checks = vec![Checks::default(); endpoints.len()];
        let eject = Eject {
            consecutive: CONSECUTIVE,
            base: Duration::from_millis(BASE),
            max: Duration::from_millis(MAX),
            max_percent,
        };
        Self { upstream, endpoints, checks, eject }
    }

    fn apply(&mut self, at: usize, event: Event, now: u64, jitter: u32) {
        let endpoint = &self.endpoints[at];
        let health = &endpoint.health;
        let check = Check {
            interval: Duration::from_millis(INTERVAL),
            fall: FALL,
            rise: RISE,
            ..Check::default()
        };
        match event {
            Event::Connected => drop(health.connected()),
            Event::Refused => drop(health.refused()),
            Event::Well(age) => {
                endpoint.counters.of(at % 2).count("ok", Some(true));
                health.succeeded(time(now.saturating_sub(age)));
            }
            Event::Ill(age) => {
                endpoint.counters.of(at % 2).count("5xx", Some(false));
                let sent = time(now.saturating_sub(age));
                let failed = Failed { sent, at: time(now), jitter, cut: false };
                self.upstream.endpoint_failed(endpoint, &failed, &self.eject);
            }
            Event::CheckPassed => drop(self.checks[at].passed(health, &check)),
            Event::CheckFailed => drop(self.checks[at].failed(health, &check, time(now))),
            Event::Draining(draining) => health.set_draining(draining, time(now)),
            Event::Wait(_) => {}
        }
    }

    fn states(&self, now: u64) -> Vec<State> {
        self.endpoints.iter().map(|endpoint| endpoint.health.state(time(now))).collect()
    }

    fn picked(&self, now: u64, rng: &mut Rng) -> Option<State> {
        let balance = Balance::LeastRequest;
        let picked = pick(&self.endpoints, &Search::by(&balance, time(now)), || 0, rng)?;
        Some(picked.health.state(time(now)))
    }
}

/// What may be relied on about an ejection: who was there before it, and who is after it.
fn holds_for_ejection(before: &[State], after: &[State], max_percent: u8) -> Result<(), String> {
    let count = |states: &[State], wanted: &[State]| {
        states.iter().filter(|state| wanted.contains(state)).count()
    };
    let out = [State::Ejected, State::Probation];
    let fresh = count(after, &[State::Ejected]) > count(before, &[State::Ejected]);
    if !fresh {
        return Ok(());
    }
    let (now_out, healthy) = (count(after, &out), count(after, &[State::Healthy]));
    let most = ((now_out + healthy) * usize::from(max_percent) / 100).max(1);
    if healthy == 0 {
        return Err("the last one was ejected".to_owned());
    }
    if now_out > most {
        return Err(format!("{now_out} are out, of at most {most}"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_states_are_those_of_the_model_and_promises_hold(
        awaiting in prop::collection::vec(any::<bool>(), 1..6),
        max_percent in prop::sample::select(vec![0_u8, 34, 50, 100]),
        events in prop::collection::vec((0..6_usize, event(), 0..=20_u32), 0..120),
        connected_first: bool,
        seed: u64,
    ) {
        let mut real = Real::new(&awaiting, max_percent);
        let endpoints = awaiting.iter().map(|awaits| Modelled::new(*awaits)).collect();
        let mut model = Model { endpoints, max_percent: max_percent.into() };
        let mut rng = Rng::with_seed(seed);
        let mut now = 60_000;
        for at in (0..awaiting.len()).filter(|_| connected_first) {
            for event in [Event::Connected, Event::CheckPassed] {
                real.apply(at, event, now, 0);
                model.apply(at, event, now, 0);
            }
        }
        for (at, event, jitter) in events {
            let at = at % awaiting.len();
            if let Event::Wait(time) = event {
                now += time;
            }
            let before = real.states(now);
            real.apply(at, event, now, jitter);
            model.apply(at, event, now, jitter.into());
            let states = real.states(now);
            let expected: Vec<_> = model.endpoints.iter().map(|it| it.state(now)).collect();
            prop_assert_eq!(&states, &expected, "after {:?} of {} at {}", event, at, now);

            // Who becomes `ejected` by anything else was so before it was lost, or drained.
            if matches!(event, Event::Ill(_)) {
                let held = holds_for_ejection(&before, &states, max_percent);
                prop_assert!(held.is_ok(), "{:?}: {:?} -> {:?}", held, before, states);
            }
            let accepts = states.iter().any(|state| state.accepts());
            let picked = real.picked(now, &mut rng);
            prop_assert_eq!(picked.is_some(), accepts, "{:?}", states);
            if states.contains(&State::Healthy) {
                prop_assert!(matches!(picked, Some(State::Healthy | State::Probation)));
            }
        }
        // Nobody is out for ever: after the longest ejection each may be tried, and is forgiven.
        now += MAX + MAX / 5;
        prop_assert!(!real.states(now).contains(&State::Ejected));
        for at in 0..awaiting.len() {
            real.apply(at, Event::Well(0), now, 0);
        }
        prop_assert!(!real.states(now).contains(&State::Probation));
    }
}
