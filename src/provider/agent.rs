//! Follows agents.
//!
//! One agent is followed at a time; what it says is believed unless another one knew better. One
//! that falls silent, or whose engine does, is left within two seconds for another, and the agent on
//! the own node is preferred. What one agent told is a good start with the next: they name equal
//! states alike. `candidates` chooses, `session` speaks, `held` keeps what is believed.

mod candidates;
mod held;
mod session;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use self::candidates::Candidates;
use self::held::Held;
use self::session::End;
use super::{Provider, channel};
use crate::clock;
use crate::config::AgentAddress;
use crate::dns::Resolver;
use crate::feed::order::RaftTime;
use crate::identity::EdgeKeys;
use crate::membership::{Answer, Silence};
use crate::timestamp::Timestamp;

/// How often an edge that no agent tells anything says why.
const REMINDER: Duration = Duration::from_mins(1);
/// How long that lasts before it is said first: agents that start, or are replaced, are no trouble.
const GRACE: Duration = Duration::from_secs(3);
/// Before agents are looked for again, when there is none to try.
const PAUSE: Duration = Duration::from_millis(250);

/// What an edge must know to follow agents.
#[derive(Debug)]
pub struct Options {
    /// Where agents are.
    pub agents: Vec<AgentAddress>,
    /// The edges' key, and by what agents are known.
    pub keys: EdgeKeys,
    /// Resolves the names among `agents`.
    pub resolver: Resolver,
    /// The own container's host name, by which agents find the own task.
    pub hostname: String,
    /// The time of what an earlier edge knew here: agents that are behind are not believed.
    pub time: Option<RaftTime>,
}

/// The provider, and what drives it: to be spawned once, it never ends.
pub fn follow(mut options: Options) -> (Provider, impl Future<Output = ()> + Send) {
    let (provider, publisher) = channel();
    let now = clock::now();
    let following = Following {
        provider: provider.clone(),
        held: Held::new(publisher, options.time.take()),
        candidates: Candidates::new(fastrand::u64(..)),
        addresses: Vec::new(),
        unresolved: BTreeMap::new(),
        followed: None,
        satisfied_at: now,
        complained_at: None,
        mistrusted: false,
        options,
    };
    (provider, following.run())
}

struct Following {
    options: Options,
    provider: Provider,
    held: Held,
    candidates: Candidates,
    /// Where agents are, as far as is known.
    addresses: Vec<SocketAddr>,
    /// Names without addresses, and why.
    unresolved: BTreeMap<String, String>,
    /// The one that tells what is fresh; none while it does not.
    followed: Option<SocketAddr>,
    /// When an agent last told what is fresh.
    satisfied_at: Timestamp,
    /// When it was last said that none does; none if one does.
    complained_at: Option<Timestamp>,
    /// Whether an agent's changes led elsewhere than it said: the next one tells all.
    mistrusted: bool,
}

impl Following {
    async fn run(mut self) {
        loop {
            self.resolve().await;
            self.show(None);
            match self.candidates.best(&self.addresses, clock::now()) {
                Some(agent) => {
                    let end = self.speak_with(agent).await;
                    self.ended(agent, end);
                }
                None => sleep(PAUSE).await,
            }
            self.complain();
        }
    }

    /// Finds out where the agents are. A name that gives no answer keeps the addresses it had only
    /// if all do: an agent that is gone is found out soon enough.
    async fn resolve(&mut self) {
        let mut found = Vec::new();
        self.unresolved.clear();
        for agent in &self.options.agents {
            match agent {
                AgentAddress::Address(address) => found.push(*address),
                AgentAddress::Name(name, port) => {
                    match self.options.resolver.addresses(name).await {
                        Answer::Addresses(addresses) => {
                            found.extend(addresses.iter().map(|ip| SocketAddr::new(*ip, *port)));
                        }
                        Answer::Nothing(silence) => {
                            let why = why_unresolved(silence).to_owned();
                            self.unresolved.insert(name.clone(), why);
                        }
                    }
                }
            }
        }
        if !found.is_empty() {
            self.addresses = found;
        }
        self.candidates.keep(&self.addresses);
    }

    fn ended(&mut self, agent: SocketAddr, end: End) {
        let now = clock::now();
        self.mistrusted = matches!(end, End::Misunderstood) && !self.mistrusted;
        match end {
            End::Misunderstood if self.mistrusted => {}
            End::Misunderstood => {
                self.candidates.failed(agent, "its changes lead elsewhere than it says", now);
            }
            End::Failed(why) => {
                self.held.failed();
                self.candidates.failed(agent, &why, now);
            }
            End::Unsatisfying(why) => self.candidates.unsatisfying(agent, &why, now),
            End::Nearer => info!(provider = "agent", "going over to the agent on the own node"),
        }
    }

    /// An agent told what is fresh.
    fn satisfied(&mut self, agent: SocketAddr) {
        self.satisfied_at = clock::now();
        self.candidates.satisfying(agent);
        if self.followed != Some(agent) {
            info!(provider = "agent", %agent, "following an agent");
            self.show(Some(agent));
        }
        self.complained_at = None;
    }

    /// Makes known whom it follows, and what is wrong with the others.
    fn show(&mut self, followed: Option<SocketAddr>) {
        self.followed = followed;
        self.held.show(self.candidates.standings(&self.addresses, followed));
    }

    /// Says why nobody is followed, if that lasts; once a minute.
    fn complain(&mut self) {
        let now = clock::now();
        let is_due = self.complained_at.is_none_or(|at| now.since(at) >= REMINDER);
        if now.since(self.satisfied_at) < GRACE || !is_due {
            return;
        }
        self.complained_at = Some(now);
        let names = self.unresolved.iter().map(|(name, why)| format!("{name}: {why}"));
        let reasons: Vec<_> = names.chain(self.candidates.reasons()).collect();
        let reasons = reasons.join("; ");
        let stands = if self.held.is_empty() { "" } else { "; the last inventory stands" };
        warn!(provider = "agent", "no agent tells what the Swarm runs{stands}: {reasons}");
    }
}

fn why_unresolved(silence: Silence) -> &'static str {
    match silence {
        Silence::UnknownName | Silence::Empty => {
            "DNS knows no agent of this name; see that the agents run, and share a network with \
             the edges"
        }
        Silence::Timeout => {
            "no answer from DNS, as for unknown names; see that the agents run, and share a network \
             with the edges"
        }
        Silence::InvalidName => "this is no name that DNS could know; correct `agents`",
        Silence::ServerFailure | Silence::Truncated | Silence::Unreachable => {
            "DNS fails; see `[dns]`"
        }
    }
}

/// Whether an address is one of these.
fn is_one_of(address: SocketAddr, addresses: &[std::net::Ipv4Addr]) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => addresses.contains(&ip),
        IpAddr::V6(_) => false,
    }
}
