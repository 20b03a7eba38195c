//! One consistent version of everything a request is routed by.
//!
//! [`Snapshot::compile`] turns an inventory into it. What survives keeps its `Arc`: upstreams with
//! their endpoints, in-flight counts and health live on, whatever happens to labels around them.

mod asking;
mod claims;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::HashMap;

pub use self::asking::Demand;

use self::asking::Asking;
use crate::counters::{PerCore, RouteCell};
use crate::diagnostic::{Diagnostic, Severity};
use crate::inventory::{FixedReplica, Inventory, Network, SwarmService, SwarmTask};
use crate::labels;
use crate::routing::host::HostPattern;
use crate::routing::{Found, Head, Router};
use crate::spec::{Check, ClientAuth, Policy, Question, RouteSpec};
use crate::timestamp::Timestamp;
use crate::upstream::{Endpoint, Upstream, UpstreamKey};

/// What an edge is, as far as routes care. Does not change while it runs, but for its networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// Its listeners, in the order in which requests name them.
    pub listeners: Vec<EdgeListener>,
    /// Its `[provider] instance`.
    pub instance: Option<String>,
    /// Overlay networks that it is attached to.
    pub networks: Vec<Network>,
    /// Of these only the ones of this name count; all of them if it is empty.
    pub only_networks: Vec<String>,
    /// Which stacks may claim which hosts; hosts without a rule are free.
    pub hosts: Vec<(HostPattern, Vec<String>)>,
    /// Whether it can verify certificates of clients: it has `client-ca` in `[tls]`.
    pub verifies_clients: bool,
    /// How many cores count.
    pub cores: usize,
}

/// A listener, as far as routes care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeListener {
    /// Its name.
    pub name: String,
    /// Whether routes that name no listener are offered on it.
    pub default: bool,
    /// Where it listens.
    pub address: SocketAddr,
}

/// One way from a request to replicas.
#[derive(Debug)]
pub struct Route {
    /// `<service>/<route>`, as in metrics and logs.
    pub name: String,
    /// What its labels asked for.
    pub spec: RouteSpec,
    /// Where requests go.
    pub upstream: Arc<Upstream>,
    /// What was counted; lives on while the service has a route of this name.
    pub counters: Arc<PerCore<RouteCell>>,
}

impl Route {
    /// How its requests are treated.
    pub fn policy(&self) -> &Policy {
        &self.spec.policy
    }
}

/// The routes that share the same conditions: one, or several by weight.
#[derive(Debug)]
pub struct Split(Vec<(u16, Arc<Route>)>);

impl Split {
    /// The route for one request: that on which its session `is_held`, else one by weight. `draw`
    /// chooses a number below the one it is given. A side where nobody accepts requests yields its
    /// share, as long as somebody does on another.
    pub fn choose(
        &self,
        is_held: impl Fn(&Route) -> bool,
        draw: impl FnOnce(u64) -> u64,
    ) -> Option<&Arc<Route>> {
        if let [(_, only)] = self.0.as_slice() {
            return Some(only);
        }
        if let Some((_, held)) = self.0.iter().find(|(_, route)| is_held(route)) {
            return Some(held);
        }
        // Whoever is ejected accepts, too: the time makes no difference.
        let accepts = |endpoint: &Arc<Endpoint>| endpoint.health.state(Timestamp::START).accepts();
        let served = |route: &Route| route.upstream.endpoints().iter().any(accepts);
        let any_served = self.0.iter().any(|(weight, route)| *weight > 0 && served(route));
        let share = |(weight, route): &(u16, Arc<Route>)| {
            if any_served && !served(route) { 0 } else { u64::from(*weight) }
        };
        let total: u64 = self.0.iter().map(share).sum();
        if total == 0 {
            return self.0.first().map(|(_, route)| route);
        }
        let mut drawn = draw(total);
        for side in &self.0 {
            match drawn.checked_sub(share(side)) {
                Some(rest) => drawn = rest,
                None => return Some(&side.1),
            }
        }
        None
    }
}

/// Where an upstream's endpoints are found.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In DNS and in the Swarm's task list.
    Tasks {
        /// `tasks.<service>.<network>.`
        name: String,
        /// The network on which the tasks are reached.
        network: Network,
        /// The tasks that are there.
        tasks: Vec<SwarmTask>,
        /// How many the service wants.
        desired: u64,
    },
    /// In the services file.
    Fixed(Vec<FixedReplica>),
}

impl Source {
    /// How many endpoints there ought to be.
    pub fn desired(&self) -> u64 {
        match self {
            Self::Tasks { desired, .. } => *desired,
            Self::Fixed(replicas) => u64::try_from(replicas.len()).unwrap_or(u64::MAX),
        }
    }
}

/// Everything a request is routed by.
#[derive(Debug, Default)]
pub struct Snapshot {
    routers: Vec<Router<Split>>,
    asking: Vec<Asking>,
    /// All routes, in the order of their age.
    pub routes: Vec<Arc<Route>>,
    /// All upstreams, and where their endpoints are found.
    pub upstreams: BTreeMap<UpstreamKey, (Arc<Upstream>, Source)>,
    /// How the replicas of upstreams are checked; those that are not here are not.
    pub checks: BTreeMap<UpstreamKey, Check>,
    /// What is wrong with the labels, worst first for each service.
    pub diagnostics: BTreeSet<Diagnostic>,
    /// The last good form of each route, by service id and route name.
    good: HashMap<(String, String), RouteSpec>,
}

impl Snapshot {
    /// The table for an inventory. Services are taken by age, so that the older one keeps what two
    /// of them claim.
    #[must_use]
    pub fn compile(inventory: &Inventory, edge: &Edge, previous: &Self) -> Self {
        let mut services: Vec<_> = inventory.services.iter().collect();
        services.sort_by_key(|service| (&service.created_at, &service.name));
        let mut next = Compilation::new(edge, previous);
        for service in services {
            next.add_service(service);
        }
        next.finish()
    }

    /// The route for a request on a listener, and the prefix that chose it.
    pub fn find<'r>(&self, listener: usize, head: &Head<'r>) -> Option<Found<'_, 'r, Split>> {
        self.routers.get(listener)?.find(head)
    }

    /// What a handshake for this name wants of a client.
    pub fn demand(&self, listener: usize, name: Option<&str>) -> Demand {
        self.asking.get(listener).map_or(Demand::Nothing, |asking| asking.demand(name))
    }

    /// Whether any diagnostic of this severity stands against the service.
    pub fn complaints(&self, service: &str, severity: Severity) -> usize {
        let of_service = self.diagnostics.iter().filter(|found| found.service == service);
        of_service.filter(|found| found.severity == severity).count()
    }
}

/// A snapshot in the making.
struct Compilation<'c> {
    edge: &'c Edge,
    previous: &'c Snapshot,
    counters: HashMap<&'c str, &'c Arc<PerCore<RouteCell>>>,
    claims: claims::Claims<'c>,
    next: Snapshot,
}

impl<'c> Compilation<'c> {
    fn new(edge: &'c Edge, previous: &'c Snapshot) -> Self {
        let counters = previous.routes.iter().map(|route| (&*route.name, &route.counters));
        Self {
            edge,
            previous,
            counters: counters.collect(),
            claims: claims::Claims::new(edge),
            next: Snapshot::default(),
        }
    }

    fn add_service(&mut self, service: &'c SwarmService) {
        self.next.diagnostics.extend(target::doubts(service, self.edge));
        let parsed = labels::parse(&service.name, &service.labels);
        self.next.diagnostics.extend(parsed.diagnostics);
        let kept = parsed
            .rejected
            .into_iter()
            .filter_map(|name| self.previous.good.get(&(service.id.clone(), name)).cloned());
        let specs: Vec<_> = parsed.routes.into_iter().chain(kept).collect();
        for mut spec in specs {
            let is_ours = spec.instance.is_none() || spec.instance == self.edge.instance;
            if is_ours && self.can_ask(service, &mut spec) {
                self.add_route(service, spec);
            }
        }
    }

    /// Whether the certificates that a route asks for can be verified. If not, one that can do without
    /// is served without.
    fn can_ask(&mut self, service: &SwarmService, spec: &mut RouteSpec) -> bool {
        let wanted = &mut spec.policy.client_auth;
        if *wanted == ClientAuth::Off || self.edge.verifies_clients {
            return true;
        }
        let is_required = *wanted == ClientAuth::Required;
        let (severity, what) = if is_required {
            (Severity::Error, "it stays closed")
        } else {
            (Severity::Warning, "nobody is asked")
        };
        *wanted = ClientAuth::Off;
        let problem = format!(
            "asks for client certificates on route `{}`, and this edge has no authority for them: \
             {what}",
            spec.name
        );
        let help = "name a file with their authorities as `client-ca` in `[tls]`";
        let name = &service.name;
        self.next.diagnostics.insert(Diagnostic::of_service(severity, name, problem, help));
        !is_required
    }

    /// Adds a route, or its last good form if port or network of this one cannot be told.
    fn add_route(&mut self, service: &'c SwarmService, spec: RouteSpec) {
        let key = (service.id.clone(), spec.name.clone());
        let resolved = target::resolve(service, &spec.target, self.edge).map(|found| (found, spec));
        let resolved = resolved.or_else(|complaint| {
            self.next.diagnostics.insert(*complaint);
            let good = self.previous.good.get(&key).ok_or(())?;
            let found = target::resolve(service, &good.target, self.edge).map_err(drop)?;
            Ok::<_, ()>((found, good.clone()))
        });
        let Ok(((upstream, source), spec)) = resolved else {
            return;
        };
        let name = format!("{}/{}", service.name, spec.name);
        self.add_check(service, &upstream, &spec);
        let upstream = self.upstream(upstream, service, source);
        let counters = self.counters.get(&*name).map(|kept| Arc::clone(kept));
        let counters = counters.unwrap_or_else(|| Arc::new(PerCore::new(self.edge.cores)));
        self.next.good.insert(key, spec.clone());
        let route = Arc::new(Route { name, spec, upstream, counters });
        self.claims.add(service, &route);
        self.next.routes.push(route);
    }

    /// Replicas that several routes share are checked once, as the first of these routes says that
    /// has a check.
    fn add_check(&mut self, service: &SwarmService, upstream: &UpstreamKey, spec: &RouteSpec) {
        let check = &spec.policy.check;
        if check.question == Question::None {
            return;
        }
        let kept = self.next.checks.entry(upstream.clone()).or_insert_with(|| check.clone());
        if kept != check {
            let problem = format!(
                "route `{}` asks for another health check of the same replicas than the routes \
                 before it; theirs is used",
                spec.name
            );
            let help = "write `hiveway.health.*` once, for the whole service";
            let doubt = Diagnostic::of_service(Severity::Warning, &service.name, problem, help);
            self.next.diagnostics.insert(doubt);
        }
    }

    /// The upstream of this key: that of another route, that of the previous table, or a new one.
    fn upstream(
        &mut self,
        key: UpstreamKey,
        service: &SwarmService,
        source: Source,
    ) -> Arc<Upstream> {
        let previous = self.previous.upstreams.get(&key).map(|(upstream, _)| upstream);
        let (upstream, _) = self.next.upstreams.entry(key.clone()).or_insert_with(|| {
            let new = || Arc::new(Upstream::new(key, &service.name, source.desired()));
            (previous.map_or_else(new, Arc::clone), source)
        });
        Arc::clone(upstream)
    }

    fn finish(mut self) -> Snapshot {
        let (routers, asking, diagnostics) = self.claims.settle();
        (self.next.routers, self.next.asking) = (routers, asking);
        self.next.diagnostics.extend(diagnostics);
        self.next
    }
}

#[cfg(test)]
mod tests;
