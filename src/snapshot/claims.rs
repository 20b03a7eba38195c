//! Who takes which requests, when several services ask for the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::diagnostic::{Diagnostic, Severity};
use crate::inventory::SwarmService;
use crate::routing::host::{self, HostPattern};
use crate::routing::{Claim, Conditions, Router};
use crate::snapshot::asking::Asking;
use crate::snapshot::{Edge, Route, Split};
use crate::spec::Matches;

/// What only one service can have, unless several share it by weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    listener: usize,
    host: HostPattern,
    priority: i32,
    path: String,
    conditions: Conditions,
}

/// Everything that the routes ask for.
pub(super) struct Claims<'c> {
    edge: &'c Edge,
    /// In the order in which they came: the oldest first.
    keys: Vec<(Key, Claim)>,
    holders: HashMap<Key, Vec<Holder<'c>>>,
    /// Which services of which stacks name a host.
    hosts: BTreeMap<HostPattern, BTreeSet<(Option<&'c str>, &'c str)>>,
    diagnostics: Vec<Diagnostic>,
}

struct Holder<'c> {
    service: &'c SwarmService,
    route: Arc<Route>,
}

impl<'c> Claims<'c> {
    pub(super) fn new(edge: &'c Edge) -> Self {
        Self {
            edge,
            keys: Vec::new(),
            holders: HashMap::new(),
            hosts: BTreeMap::new(),
            diagnostics: Vec::new(),
        }
    }

    /// A route asks for what its conditions say, on the listeners that it names.
    pub(super) fn add(&mut self, service: &'c SwarmService, route: &Arc<Route>) {
        let matches = &route.spec.matches;
        let conditions = conditions(matches);
        let listeners = self.listeners(service, route);
        for pattern in &matches.hosts {
            if !self.may_claim(service, pattern) {
                continue;
            }
            let stack = service.stack.as_deref();
            self.hosts.entry(pattern.clone()).or_default().insert((stack, &service.name));
            for path in &matches.paths {
                for &listener in &listeners {
                    let key = Key {
                        listener,
                        host: pattern.clone(),
                        priority: matches.priority,
                        path: path.to_string(),
                        conditions: conditions.clone(),
                    };
                    let claim = Claim {
                        host: pattern.clone(),
                        priority: matches.priority,
                        path: path.clone(),
                        conditions: conditions.clone(),
                    };
                    self.hold(key, claim, Holder { service, route: Arc::clone(route) });
                }
            }
        }
    }

    fn hold(&mut self, key: Key, claim: Claim, newer: Holder<'c>) {
        let holders = self.holders.entry(key.clone()).or_default();
        let Some(older) = holders.first() else {
            self.keys.push((key, claim));
            holders.push(newer);
            return;
        };
        if shares(older, &newer) {
            holders.push(newer);
            return;
        }
        let problem = format!(
            "asks for the same requests as `{}`, which is older and keeps them: host `{}`, path `{}`",
            older.route.name, key.host, key.path
        );
        let help = "change host or path, or give both services of one stack a `hiveway.weight` to \
                    share the traffic";
        let name = &newer.service.name;
        self.diagnostics.push(Diagnostic::of_service(Severity::Error, name, problem, help));
    }

    fn listeners(&mut self, service: &SwarmService, route: &Route) -> Vec<usize> {
        let listeners = &self.edge.listeners;
        let Some(wanted) = &route.spec.listeners else {
            let defaults = listeners.iter().enumerate().filter(|(_, listener)| listener.default);
            return defaults.map(|(at, _)| at).collect();
        };
        let mut found = Vec::new();
        for name in wanted {
            if let Some(at) = listeners.iter().position(|listener| listener.name == *name) {
                found.push(at);
                continue;
            }
            let known: Vec<_> = listeners.iter().map(|known| format!("`{}`", known.name)).collect();
            let problem = format!("names the listener `{name}`, which this edge does not have");
            let help = format!("write one of {}", known.join(", "));
            let doubt = Diagnostic::of_service(Severity::Warning, &service.name, problem, help);
            self.diagnostics.push(doubt.at_label("hiveway.listener", &wanted.join(",")));
        }
        found
    }

    /// Whether the `[provider] hosts` let a service have a host. Hosts without a rule are free.
    fn may_claim(&mut self, service: &SwarmService, pattern: &HostPattern) -> bool {
        let rules = self.edge.hosts.iter().filter(|(rule, _)| covers(rule, pattern));
        let allowed =
            |stacks: &[String]| service.stack.as_ref().is_some_and(|stack| stacks.contains(stack));
        let refused: Vec<_> = rules.filter(|(_, stacks)| !allowed(stacks)).collect();
        let Some((rule, stacks)) = refused.first() else {
            return true;
        };
        let problem = format!(
            "may not claim host `{pattern}`: the edge's option `[provider] hosts` keeps `{rule}` \
             for the stack {}",
            stacks.join(", ")
        );
        let help = "deploy the service with that stack, or have its stack added to the option";
        self.diagnostics.push(Diagnostic::of_service(
            Severity::Error,
            &service.name,
            problem,
            help,
        ));
        false
    }

    /// The routing tables, one for each listener; what handshakes on it ask for; and what was wrong with
    /// the claims.
    pub(super) fn settle(mut self) -> (Vec<Router<Split>>, Vec<Asking>, Vec<Diagnostic>) {
        self.complain_of_shared_hosts();
        let mut tables: Vec<Vec<(Claim, Split)>> =
            self.edge.listeners.iter().map(|_| Vec::new()).collect();
        let mut asking: Vec<Asking> = tables.iter().map(|_| Asking::default()).collect();
        for (key, claim) in self.keys {
            let holders = self.holders.remove(&key).unwrap_or_default();
            if let Some(asking) = asking.get_mut(key.listener) {
                let wanted = holders.iter().map(|holder| holder.route.policy().client_auth);
                wanted.for_each(|wanted| asking.add(&key.host, wanted));
            }
            let sides = holders.into_iter().map(|Holder { route, .. }| {
                (route.spec.weight.unwrap_or(Split::DEFAULT_WEIGHT), route)
            });
            if let Some(table) = tables.get_mut(key.listener) {
                table.push((claim, Split(sides.collect())));
            }
        }
        let asking = asking.into_iter().map(Asking::settled).collect();
        (tables.into_iter().map(Router::new).collect(), asking, self.diagnostics)
    }

    /// A host that two stacks name is a doubt on both, though their paths may differ.
    fn complain_of_shared_hosts(&mut self) {
        for (pattern, claimants) in &self.hosts {
            let stacks: BTreeSet<_> = claimants.iter().filter_map(|(stack, _)| *stack).collect();
            let ruled = self.edge.hosts.iter().any(|(rule, _)| covers(rule, pattern));
            if *pattern == HostPattern::Any || stacks.len() < 2 || ruled {
                continue;
            }
            let listed = stacks.iter().map(|stack| format!("`{stack}`")).collect::<Vec<_>>();
            let problem =
                format!("host `{pattern}` is claimed by the stacks {}", listed.join(", "));
            let help = format!(
                "if that is meant, say so in the edge's option `[provider] hosts`: \
                 `\"{pattern}\" = {:?}`",
                stacks.iter().collect::<Vec<_>>()
            );
            for (_, service) in claimants.iter().filter(|(stack, _)| stack.is_some()) {
                self.diagnostics.push(Diagnostic::of_service(
                    Severity::Warning,
                    service,
                    problem.clone(),
                    help.clone(),
                ));
            }
        }
    }
}

impl Split {
    /// Of a side that does not say how much of the traffic it wants.
    const DEFAULT_WEIGHT: u16 = 100;
}

/// Two services of one stack that both have a weight share their traffic.
fn shares(one: &Holder<'_>, other: &Holder<'_>) -> bool {
    let weighted = |holder: &Holder<'_>| holder.route.spec.weight.is_some();
    let same_stack = one.service.stack.is_some() && one.service.stack == other.service.stack;
    one.service.id != other.service.id && same_stack && weighted(one) && weighted(other)
}

fn covers(rule: &HostPattern, pattern: &HostPattern) -> bool {
    match (rule, pattern) {
        (HostPattern::Wildcard(parent), HostPattern::Exact(name)) => {
            host::parent(name.as_str()) == Some(parent.as_str())
        }
        _ => rule == pattern,
    }
}

fn conditions(matches: &Matches) -> Conditions {
    let mut conditions = Conditions {
        methods: matches.methods.iter().map(ToString::to_string).collect(),
        headers: matches.headers.iter().map(|(n, v)| (n.to_string(), v.clone())).collect(),
        queries: matches.queries.clone(),
    };
    conditions.methods.sort_unstable();
    conditions.headers.sort_unstable();
    conditions.queries.sort_unstable();
    conditions
}
