//! Who takes part in an upstream, as far as the sources say: DNS and the task list of a Swarm, or
//! addresses and names that were written down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use tracing::debug;

use crate::clock;
use crate::dns::Resolver;
use crate::inventory::FixedReplica;
use crate::membership::{Answer, Membership, Standing};
use crate::provider::Provider;
use crate::snapshot::Source;
use crate::timestamp::Timestamp;
use crate::upstream::Upstream;

/// Somebody who takes part.
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) task: Option<String>,
    pub(super) name: String,
    /// What its sessions know it by.
    pub(super) slot: String,
    pub(super) draining: bool,
    /// Whether it need not be reached before it takes requests.
    pub(super) trusted: bool,
}

/// Who takes part, as far as the sources say.
#[derive(Default)]
pub(super) struct Roster {
    /// Of a Swarm service; none while its network's subnet is unknown, without which an answer cannot
    /// be told from that of a wildcard resolver.
    membership: Option<Membership>,
    /// Of names that were written down: the last answer for each.
    resolved: BTreeMap<String, Vec<IpAddr>>,
}

impl Roster {
    pub(super) fn listed(
        &mut self,
        upstream: &Upstream,
        source: &Source,
        at: Timestamp,
        now: Timestamp,
    ) {
        let Source::Tasks { network, tasks, desired, .. } = source else {
            return;
        };
        if self.membership.is_none() && network.subnet.is_some() {
            let membership = Membership::new(&upstream.service, &network.id, network.subnet);
            self.membership = Some(membership);
        }
        if let Some(membership) = &mut self.membership {
            membership.tasks_listed(tasks, *desired, at, now);
        }
    }

    /// Whether there is anything to ask DNS.
    pub(super) fn asks(&self, source: &Source) -> bool {
        match source {
            Source::Tasks { desired, .. } => *desired > 0 && self.membership.is_some(),
            Source::Fixed(replicas) => {
                replicas.iter().any(|replica| matches!(replica, FixedReplica::Name(..)))
            }
        }
    }

    pub(super) async fn ask(&mut self, resolver: &Resolver, source: &Source) {
        match source {
            Source::Tasks { name, .. } => {
                let answer = resolver.addresses(name).await;
                debug!(name, ?answer, "DNS answered");
                if let Some(membership) = &mut self.membership {
                    membership.dns_answered(&answer, clock::now());
                }
            }
            Source::Fixed(replicas) => {
                let names = replicas.iter().filter_map(|replica| match replica {
                    FixedReplica::Name(name, _) => Some(name),
                    FixedReplica::Address(_) => None,
                });
                for name in names {
                    // What cannot be resolved keeps its last addresses.
                    if let Answer::Addresses(addresses) = resolver.addresses(name).await {
                        self.resolved.insert(name.clone(), addresses);
                    }
                }
            }
        }
    }

    pub(super) fn members(
        &mut self,
        upstream: &Upstream,
        source: &Source,
        provider: &Provider,
        now: Timestamp,
    ) -> Vec<Member> {
        if let Source::Fixed(replicas) = source {
            return self.fixed_members(&upstream.service, replicas);
        }
        let Some(membership) = &mut self.membership else {
            provider.ask();
            return Vec::new();
        };
        membership.tasks_confirmed(provider.listed_at(), now);
        let members = membership.members(now);
        let disagreement = u64::try_from(membership.disagreement(now).as_micros());
        upstream.disagreement.store(disagreement.unwrap_or(u64::MAX), Relaxed);
        if membership.wants_listing() {
            provider.ask();
        }
        // Nothing was listed yet: the tasks are those that an earlier process saved. They have been up
        // for longer than this edge, unlike an address that only DNS knows.
        let is_saved = provider.listed_at() == Timestamp::START;
        let members = members.into_iter().map(|member| Member {
            address: SocketAddr::new(member.address, upstream.key.port),
            trusted: is_saved && member.task.is_some(),
            task: member.task,
            name: member.name,
            slot: member.slot,
            draining: member.standing == Standing::Draining,
        });
        members.collect()
    }

    fn fixed_members(&self, service: &str, replicas: &[FixedReplica]) -> Vec<Member> {
        let addresses = replicas.iter().flat_map(|replica| match replica {
            FixedReplica::Address(address) => vec![*address],
            FixedReplica::Name(name, port) => {
                let resolved = self.resolved.get(name).into_iter().flatten();
                resolved.map(|address| SocketAddr::new(*address, *port)).collect()
            }
        });
        let unique: BTreeSet<_> = addresses.collect();
        let members = unique.into_iter().map(|address| Member {
            address,
            task: None,
            name: format!("{service}.{address}"),
            slot: address.to_string(),
            draining: false,
            trusted: false,
        });
        members.collect()
    }
}
