//! Which addresses are a service's endpoints on one network.
//!
//! Three sources speak: DNS says which tasks are ready, the task list says which exist, and time
//! settles a quarrel of the two. Data comes from `dns` and from a provider; whether an endpoint
//! accepts a connection is found out elsewhere, and may rule out what is said here.
//!
//! The rules:
//! 1. A non-empty answer of DNS decides: whom it names serves, whom it names no more drains.
//! 2. Silence and refusals of DNS take nobody away. A task list that is newer than the silence
//!    decides then; an older one only of tasks that end, for that is never taken back.
//! 3. Where the two have disagreed on an address for 30 s, and the list has been confirmed since,
//!    the list is right.
//! 4. Before the first answer, tasks that run serve: the saved inventory of an earlier process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::inventory::SwarmTask;
use crate::timestamp::Timestamp;

/// How long DNS and the task list may disagree on an address before the list is believed.
const QUARREL: Duration = Duration::from_secs(30);

/// How long an address drains that neither DNS nor the list names, while no newer list comes: its
/// task may be stopping. Longer would be unsafe, for Swarm gives addresses out again.
const DRAINING_UNSEEN: Duration = Duration::from_mins(1);

/// What DNS said about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All addresses of the name; at least one.
    Addresses(Vec<IpAddr>),
    /// Nothing that could be relied on.
    Nothing(Silence),
}

/// Why DNS said nothing. It makes no difference to who serves; people want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Silence {
    /// NXDOMAIN: no such name. A Swarm service without ready tasks is such a name.
    UnknownName,
    /// SERVFAIL, REFUSED and the like.
    ServerFailure,
    /// No answer in time: what engines up to 20.10 do with unknown names.
    Timeout,
    /// The name is known and has no address.
    Empty,
    /// Only a part of the addresses could be had.
    Truncated,
    /// The server could not be reached, or what it sent is no DNS.
    Unreachable,
    /// The name can be no DNS name.
    InvalidName,
}

/// An address that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: IpAddr,
    /// Swarm's id of the task; none while no list has named the address.
    pub task: Option<String>,
    /// Name for people and metrics: `shop_web.3`, and `shop_web.3.old` for the older of two tasks
    /// in one slot. Service and address while no list has named it.
    pub name: String,
    /// What tells it from its siblings on every edge and across restarts: the slot of its task; its
    /// address while no list has named it.
    pub slot: String,
    /// Whether it takes new requests.
    pub standing: Standing,
}

/// Whether a member takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Serving,
    /// It finishes what it has; it takes new ones only if nobody else can.
    Draining,
}

/// The members of one service on one network, and what is known about them.
#[derive(Clone, Debug)]
pub struct Membership {
    service: String,
    network: String,
    subnet: Option<Ipv4Net>,
    /// The last non-empty answer, with what lies outside the subnet taken out.
    named: Option<BTreeSet<IpAddr>>,
    /// Since when DNS has said nothing; none while it speaks.
    silent_since: Option<Timestamp>,
    answered_at: Timestamp,
    list: Option<List>,
    entries: BTreeMap<IpAddr, Entry>,
    /// Addresses, members or not, on which DNS and the list disagree, and since when.
    disputes: BTreeMap<IpAddr, Timestamp>,
}

#[derive(Clone, Debug)]
struct List {
    tasks: BTreeMap<IpAddr, SwarmTask>,
    desired: u64,
    at: Timestamp,
}

#[derive(Clone, Debug)]
struct Entry {
    seen_at: Timestamp,
    /// None while it serves.
    draining_since: Option<Timestamp>,
    /// The task last known at this address.
    task: Option<SwarmTask>,
}

/// What a source says about an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Serves,
    Leaves,
    /// Nothing new.
    AsBefore,
}

impl Membership {
    /// Nobody yet. `network` is the id by which tasks tell their addresses; addresses outside the
    /// subnet are never members, and without one (names outside a Swarm) all may be.
    pub fn new(service: &str, network: &str, subnet: Option<Ipv4Net>) -> Self {
        Self {
            service: service.to_owned(),
            network: network.to_owned(),
            subnet,
            named: None,
            silent_since: None,
            answered_at: Timestamp::START,
            list: None,
            entries: BTreeMap::new(),
            disputes: BTreeMap::new(),
        }
    }

    /// DNS was asked for the service on this network and said this.
    pub fn dns_answered(&mut self, answer: &Answer, now: Timestamp) {
        self.answered_at = now;
        let named: BTreeSet<IpAddr> = match answer {
            Answer::Addresses(addresses) => {
                addresses.iter().copied().filter(|address| self.is_inside(*address)).collect()
            }
            Answer::Nothing(_) => BTreeSet::new(),
        };
        if named.is_empty() {
            self.silent_since.get_or_insert(now);
        } else {
            self.silent_since = None;
            self.named = Some(named);
        }
        self.settle(now);
    }

    /// The service's tasks were listed. `at` is when the list was asked for, and
    /// [`Timestamp::START`] for one that was saved by an earlier process.
    pub fn tasks_listed(
        &mut self,
        tasks: &[SwarmTask],
        desired: u64,
        at: Timestamp,
        now: Timestamp,
    ) {
        let mut by_address: BTreeMap<IpAddr, SwarmTask> = BTreeMap::new();
        for task in tasks {
            let Some(address) = task.addresses.get(&self.network) else { continue };
            let address = IpAddr::V4(*address);
            let better = by_address.get(&address).is_none_or(|other| age(other) < age(task));
            if better && self.is_inside(address) {
                by_address.insert(address, task.clone());
            }
        }
        self.list = Some(List { tasks: by_address, desired, at });
        self.settle(now);
    }

    /// The last list still holds: it was asked for again at that time and nothing had changed.
    pub fn tasks_confirmed(&mut self, at: Timestamp, now: Timestamp) {
        if let Some(list) = &mut self.list {
            list.at = list.at.max(at);
        }
        self.settle(now);
    }

    /// Who takes part now, ordered by address.
    pub fn members(&mut self, now: Timestamp) -> Vec<Member> {
        self.settle(now);
        let names = self.names();
        self.entries
            .iter()
            .map(|(address, entry)| Member {
                address: *address,
                task: entry.task.as_ref().map(|task| task.id.clone()),
                name: names
                    .get(address)
                    .cloned()
                    .unwrap_or_else(|| format!("{}.{address}", self.service)),
                slot: match &entry.task {
                    Some(task) => task.slot.clone(),
                    None => address.to_string(),
                },
                standing: match entry.draining_since {
                    None => Standing::Serving,
                    Some(_) => Standing::Draining,
                },
            })
            .collect()
    }

    /// How long DNS and the task list have disagreed on an address; zero while they agree.
    pub fn disagreement(&self, now: Timestamp) -> Duration {
        self.disputes.values().min().map_or(Duration::ZERO, |since| now.since(*since))
    }

    /// Whether a task list made now would settle something: an address appeared that the last list
    /// could not name, or DNS fell silent about somebody who serves.
    pub fn wants_listing(&self) -> bool {
        let Some(list) = &self.list else { return false };
        let unnamed =
            self.entries.values().any(|entry| entry.task.is_none() && list.at < entry.seen_at);
        let unexplained = self.silent_since.is_some_and(|since| list.at < since)
            && self.entries.values().any(|entry| entry.draining_since.is_none());
        unnamed || unexplained
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        match (self.subnet, address) {
            (None, _) => true,
            (Some(subnet), IpAddr::V4(address)) => subnet.contains(&address),
            (Some(_), IpAddr::V6(_)) => false,
        }
    }

    /// Brings the entries in line with what is known and with the time.
    fn settle(&mut self, now: Timestamp) {
        let named = self.named.iter().flatten().copied();
        let listed = self.list.iter().flat_map(|list| list.tasks.keys().copied());
        let known = self.entries.keys().chain(self.disputes.keys()).copied();
        let addresses: BTreeSet<IpAddr> = named.chain(listed).chain(known).collect();
        for address in addresses {
            self.settle_dispute(address, now);
            self.settle_entry(address, now);
        }
    }

    fn settle_dispute(&mut self, address: IpAddr, now: Timestamp) {
        let asked = self.named.is_some() || self.silent_since.is_some();
        let quarrel = asked && self.list.is_some() && self.is_named(address) != self.runs(address);
        if quarrel {
            self.disputes.entry(address).or_insert(now);
        } else {
            self.disputes.remove(&address);
        }
    }

    fn settle_entry(&mut self, address: IpAddr, now: Timestamp) {
        let old = self.entries.get(&address);
        let draining_since = match (self.word(address), old) {
            (Word::Serves, _) => None,
            (Word::AsBefore, Some(old)) => old.draining_since,
            (Word::Leaves, Some(old)) => Some(old.draining_since.unwrap_or(now)),
            (Word::AsBefore | Word::Leaves, None) => return,
        };
        if draining_since.is_some_and(|since| self.is_gone(address, since, now)) {
            self.entries.remove(&address);
            return;
        }
        let listed = self.list.as_ref().and_then(|list| list.tasks.get(&address));
        let task = listed.or(old.and_then(|old| old.task.as_ref())).cloned();
        let seen_at = old.map_or(now, |old| old.seen_at);
        self.entries.insert(address, Entry { seen_at, draining_since, task });
    }

    /// What the sources together say about an address; the module's rules, last one first.
    fn word(&self, address: IpAddr) -> Word {
        let list_says = if self.runs(address) { Word::Serves } else { Word::Leaves };
        let listed_at = self.list.as_ref().map(|list| list.at);
        match (&self.named, self.silence()) {
            (None, _) if self.list.is_none() => Word::AsBefore,
            (None, _) => list_says,
            _ if self.is_list_right(address) => list_says,
            (Some(named), None) if named.contains(&address) => Word::Serves,
            (Some(_), None) => Word::Leaves,
            (Some(_), Some(since)) if listed_at.is_some_and(|at| at >= since) => list_says,
            (Some(_), Some(_)) if self.has_ended(address) => Word::Leaves,
            (Some(_), Some(_)) => Word::AsBefore,
        }
    }

    /// Whether Swarm has decided that the task here ends, or has ended it. That is never taken back, so
    /// it need not be heard again.
    fn has_ended(&self, address: IpAddr) -> bool {
        let is_known = self.entries.get(&address).is_some_and(|entry| entry.task.is_some());
        let listed = self.list.as_ref().map(|list| list.tasks.get(&address));
        is_known && listed.is_some_and(|task| task.is_none_or(|task| task.ending))
    }

    /// Whether the quarrel over an address is old enough, and the list was confirmed since.
    fn is_list_right(&self, address: IpAddr) -> bool {
        match (self.disputes.get(&address), &self.list) {
            (Some(since), Some(list)) => list.at.since(*since) >= QUARREL,
            _ => false,
        }
    }

    /// Whether nothing is left of an address that drains: a newer list has no such task, or nobody
    /// has said anything for long.
    fn is_gone(&self, address: IpAddr, since: Timestamp, now: Timestamp) -> bool {
        if self.is_named(address) {
            return false;
        }
        match &self.list {
            Some(list) if list.at >= since && !list.tasks.contains_key(&address) => true,
            Some(list) => now.since(list.at.max(since)) > DRAINING_UNSEEN,
            None => now.since(since) > DRAINING_UNSEEN,
        }
    }

    /// Since when DNS says nothing. It is not asked about a service that wants no tasks: then its
    /// last answer ends with the list that says so.
    fn silence(&self) -> Option<Timestamp> {
        let unasked =
            self.list.as_ref().filter(|list| list.desired == 0 && list.at >= self.answered_at);
        self.silent_since.or(unasked.map(|list| list.at))
    }

    fn is_named(&self, address: IpAddr) -> bool {
        self.silence().is_none()
            && self.named.as_ref().is_some_and(|named| named.contains(&address))
    }

    fn runs(&self, address: IpAddr) -> bool {
        let task = self.list.as_ref().and_then(|list| list.tasks.get(&address));
        task.is_some_and(|task| task.running)
    }

    /// The names of members whose task is known.
    fn names(&self) -> BTreeMap<IpAddr, String> {
        let mut slots: BTreeMap<&str, Vec<(&SwarmTask, IpAddr)>> = BTreeMap::new();
        for (address, entry) in &self.entries {
            if let Some(task) = &entry.task {
                slots.entry(&task.slot).or_default().push((task, *address));
            }
        }
        let mut names = BTreeMap::new();
        for (slot, mut tasks) in slots {
            tasks.sort_by(|(a, _), (b, _)| age(b).cmp(&age(a)));
            for (rank, (_, address)) in tasks.into_iter().enumerate() {
                let suffix = match rank {
                    0 => String::new(),
                    1 => ".old".to_owned(),
                    rank => format!(".old{rank}"),
                };
                names.insert(address, format!("{}.{slot}{suffix}", self.service));
            }
        }
        names
    }
}

/// Orders tasks from the oldest to the newest.
fn age(task: &SwarmTask) -> (&str, &str) {
    (&task.created_at, &task.id)
}

#[cfg(test)]
mod tests;
