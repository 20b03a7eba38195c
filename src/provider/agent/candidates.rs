//! Which agent to follow. Pure: addresses and times in, a choice out.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::is_one_of;
use crate::provider::AgentStanding;
use crate::timestamp::Timestamp;

/// After the first failure in a row; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// After a failure at most, and after an agent was left that answers but knows nothing fresh.
const PAUSE: Duration = Duration::from_secs(5);
/// After the agent on the own node failed, before another that is good is left for it.
const HOMESICK: Duration = Duration::from_secs(30);

/// What is known of agents as such.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    notes: BTreeMap<SocketAddr, Note>,
    /// Addresses of the agent on the own node.
    near: Vec<Ipv4Addr>,
    /// When that one last failed.
    near_failed_at: Option<Timestamp>,
    /// The one that is followed, or was last.
    last: Option<SocketAddr>,
    /// Gives each edge an order of its own, so that they spread over the agents.
    seed: u64,
}

/// Why an agent is not followed.
#[derive(Clone, Debug)]
struct Note {
    why: String,
    failures: u32,
    retry_at: Timestamp,
    /// Whether it answers, if not with what is wanted.
    answers: bool,
}

impl Candidates {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Forgets what is at none of these addresses any more.
    pub(super) fn keep(&mut self, addresses: &[SocketAddr]) {
        self.notes.retain(|address, _| addresses.contains(address));
    }

    /// Whom to follow now: one that may be good, the near one first, then the last one; else one
    /// that answers at least; none if all must be left alone for a while.
    pub(super) fn best(&self, addresses: &[SocketAddr], now: Timestamp) -> Option<SocketAddr> {
        let answers = |at: &SocketAddr| self.notes.get(at).is_some_and(|note| note.answers);
        let may = |at: &&SocketAddr| self.is_ready(**at, now) || answers(at);
        let rank = |at: &&SocketAddr| {
            let mut hash = DefaultHasher::new();
            (self.seed, at).hash(&mut hash);
            let is_far = !is_one_of(**at, &self.near);
            (!self.is_ready(**at, now), is_far, self.last != Some(**at), hash.finish())
        };
        addresses.iter().filter(may).min_by_key(rank).copied()
    }

    fn is_ready(&self, agent: SocketAddr, now: Timestamp) -> bool {
        self.notes.get(&agent).is_none_or(|note| note.retry_at <= now)
    }

    /// Whether there is another one that may be good.
    pub(super) fn alternative(
        &self,
        current: SocketAddr,
        addresses: &[SocketAddr],
        now: Timestamp,
    ) -> bool {
        addresses.iter().any(|at| *at != current && self.is_ready(*at, now))
    }

    /// The agent on the own node has these addresses.
    pub(super) fn set_near(&mut self, near: &[Ipv4Addr]) {
        near.clone_into(&mut self.near);
    }

    /// Whether the agent on the own node is another one, and its address is not known yet.
    pub(super) fn looks_for_near(&self, current: SocketAddr, addresses: &[SocketAddr]) -> bool {
        let known = addresses.iter().any(|at| is_one_of(*at, &self.near));
        !self.near.is_empty() && !is_one_of(current, &self.near) && !known
    }

    /// Whether another one is to be left for the one on the own node.
    pub(super) fn nearer(
        &self,
        current: SocketAddr,
        addresses: &[SocketAddr],
        now: Timestamp,
    ) -> bool {
        let mut near = addresses.iter().filter(|at| is_one_of(**at, &self.near));
        !is_one_of(current, &self.near)
            && self.near_failed_at.is_none_or(|at| now.since(at) >= HOMESICK)
            && near.any(|at| self.is_ready(*at, now))
    }

    /// It tells what is wanted.
    pub(super) fn satisfying(&mut self, agent: SocketAddr) {
        self.notes.remove(&agent);
        self.last = Some(agent);
    }

    /// It could not be followed, or broke off.
    pub(super) fn failed(&mut self, agent: SocketAddr, why: &str, now: Timestamp) {
        let failures = self.notes.get(&agent).map_or(0, |note| note.failures);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(PAUSE);
        self.note(agent, why, now, pause, false);
    }

    /// It answers, but with nothing fresh.
    pub(super) fn unsatisfying(&mut self, agent: SocketAddr, why: &str, now: Timestamp) {
        self.note(agent, why, now, PAUSE, true);
    }

    fn note(
        &mut self,
        agent: SocketAddr,
        why: &str,
        now: Timestamp,
        pause: Duration,
        answers: bool,
    ) {
        if is_one_of(agent, &self.near) {
            self.near_failed_at = Some(now);
        }
        let failures = self.notes.get(&agent).map_or(0, |note| note.failures);
        let note = Note {
            why: why.to_owned(),
            failures: failures.saturating_add(1),
            retry_at: now + pause,
            answers,
        };
        self.notes.insert(agent, note);
    }

    /// All of them, as they are told of.
    pub(super) fn standings(
        &self,
        addresses: &[SocketAddr],
        followed: Option<SocketAddr>,
    ) -> Vec<AgentStanding> {
        let standing = |address: &SocketAddr| AgentStanding {
            address: address.to_string(),
            followed: followed == Some(*address),
            trouble: self.notes.get(address).map(|note| note.why.clone()),
        };
        addresses.iter().map(standing).collect()
    }

    /// Why agents are not followed, each in words.
    pub(super) fn reasons(&self) -> impl Iterator<Item = String> {
        self.notes.iter().map(|(address, note)| format!("{address}: {}", note.why))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START + Duration::from_secs(seconds)
    }

    #[test]
    fn edges_spread_over_the_agents() {
        let agents: Vec<_> = (1..=3).map(|at| address(&format!("10.0.9.{at}:9401"))).collect();
        for agent in &agents {
            let chosen = |seed| Candidates::new(seed).best(&agents, at(0)) == Some(*agent);
            assert!((0..100).filter(|seed| chosen(*seed)).count() > 10, "{agent}");
        }
    }

    #[test]
    fn one_that_failed_is_left_alone_for_longer_and_longer() {
        let agent = address("10.0.9.1:9401");
        let mut candidates = Candidates::default();
        let mut now = at(0);
        for pause in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            candidates.failed(agent, "refused", now);
            let almost = now + Duration::from_millis(pause - 1);
            assert_eq!(candidates.best(&[agent], almost), None, "{pause}");
            now = now + Duration::from_millis(pause);
            assert_eq!(candidates.best(&[agent], now), Some(agent), "{pause}");
        }
        candidates.satisfying(agent);
        candidates.failed(agent, "refused", now);
        assert_eq!(candidates.best(&[agent], now + FIRST_PAUSE), Some(agent));
    }

    #[test]
    fn one_that_answers_is_better_than_none_and_left_for_any_that_may_be_good() {
        let agents = [address("10.0.9.1:9401"), address("10.0.9.2:9401")];
        let mut candidates = Candidates::default();
        candidates.unsatisfying(agents[0], "behind", at(0));
        assert!(candidates.alternative(agents[0], &agents, at(1)));
        assert_eq!(candidates.best(&agents, at(1)), Some(agents[1]));
        candidates.failed(agents[1], "refused", at(1));
        assert_eq!(candidates.best(&agents, at(1)), Some(agents[0]));
        assert!(!candidates.alternative(agents[0], &agents, at(1)));
        assert_eq!(candidates.best(&agents, at(2)), Some(agents[1]));
    }

    #[test]
    fn the_near_one_is_preferred_unless_it_has_just_failed() {
        let agents = [address("10.0.9.1:9401"), address("10.0.9.2:9401")];
        for (near, far) in [(agents[0], agents[1]), (agents[1], agents[0])] {
            let mut candidates = Candidates::default();
            let IpAddr::V4(ip) = near.ip() else { panic!() };
            candidates.satisfying(far);
            candidates.set_near(&[ip]);
            assert!(candidates.nearer(far, &agents, at(1)));
            assert!(!candidates.nearer(near, &agents, at(1)));
            assert_eq!(candidates.best(&agents, at(1)), Some(near));
            candidates.failed(near, "refused", at(1));
            assert!(!candidates.nearer(far, &agents, at(20)));
            assert!(candidates.nearer(far, &agents, at(40)));
            assert!(candidates.looks_for_near(far, &[far]));
            assert!(!candidates.looks_for_near(far, &agents));
        }
    }
}
