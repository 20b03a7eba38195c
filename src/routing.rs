//! Which route takes a request: by host, then priority, then path, then further conditions.
//!
//! Hosts and paths are looked up by hash, so the time a request takes does not grow with the number
//! of routes; only regular expressions and further conditions are tried one after the other. The
//! table holds any value, so that tests route to words.

pub mod host;
pub mod path;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;

use foldhash::{HashMap, HashMapExt};
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use regex::Regex;

use crate::routing::host::HostPattern;
use crate::routing::path::PathPattern;

/// What a request is routed by.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    /// Lower case, without port and final dot.
    pub host: &'r str,
    /// In normal form, without parameters.
    pub path: &'r str,
    /// As in the request line, without `?`.
    pub query: Option<&'r str>,
    /// The method.
    pub method: &'r Method,
    /// All fields of the head.
    pub headers: &'r HeaderMap,
}

/// Conditions beyond host and path. More of them win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// Any of these; empty for all. Ordered, so that equal conditions are equal values.
    pub methods: Vec<String>,
    /// Each of these, by lower-case name. Ordered.
    pub headers: Vec<(String, String)>,
    /// Each of these, percent-decoded. Ordered.
    pub queries: Vec<(String, String)>,
}

impl Conditions {
    fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.queries.len()
    }

    fn hold(&self, head: &Head<'_>) -> bool {
        (self.methods.is_empty()
            || self.methods.iter().any(|method| head.method == method.as_str()))
            && self.headers.iter().all(|(name, value)| {
                head.headers.get_all(name).iter().any(|given| given == value.as_str())
            })
            && self.queries.iter().all(|(name, value)| has_query(head.query, name, value))
    }
}

fn has_query(query: Option<&str>, name: &str, value: &str) -> bool {
    query.unwrap_or_default().split('&').any(|pair| {
        let (given_name, given_value) = pair.split_once('=').unwrap_or((pair, ""));
        form_decoded_is(given_name, name) && form_decoded_is(given_value, value)
    })
}

fn form_decoded_is(encoded: &str, text: &str) -> bool {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).eq(text.bytes())
}

/// One thing that a route asks for, and that no other route may ask for as well.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Requests for this host,
    pub host: HostPattern,
    /// ordered among the routes of that host by this, highest first,
    pub priority: i32,
    /// with this path,
    pub path: PathPattern,
    /// that also meet these.
    pub conditions: Conditions,
}

/// A route that takes the request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t, 'r, T> {
    /// What was put into the table for it.
    pub value: &'t T,
    /// The part of the path that is the route's prefix; empty if it was not chosen by prefix.
    pub prefix: &'r str,
}

/// The routing table of one listener.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<Box<str>, HostTable<T>>,
    wildcard: HashMap<Box<str>, HostTable<T>>,
    any: HostTable<T>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: HostTable::default() }
    }
}

impl<T> Router<T> {
    /// A table of these claims. Of two equal ones the first is found.
    pub fn new(claims: impl IntoIterator<Item = (Claim, T)>) -> Self {
        let mut router = Self::default();
        for (claim, value) in claims {
            let table = match claim.host {
                HostPattern::Exact(name) => router.exact.entry(name.as_str().into()).or_default(),
                HostPattern::Wildcard(parent) => {
                    router.wildcard.entry(parent.as_str().into()).or_default()
                }
                HostPattern::Any => &mut router.any,
            };
            table.insert(claim.priority, claim.path, claim.conditions, value);
        }
        for table in router.tables() {
            table.levels.sort_by_key(|level| Reverse(level.priority));
        }
        router
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut HostTable<T>> {
        self.exact.values_mut().chain(self.wildcard.values_mut()).chain([&mut self.any])
    }

    /// The route for a request. A more exact host comes first; where none of its routes takes the
    /// request, those of a less exact one are asked.
    pub fn find<'r>(&self, head: &Head<'r>) -> Option<Found<'_, 'r, T>> {
        let exact = self.exact.get(head.host);
        let wildcard = || host::parent(head.host).and_then(|parent| self.wildcard.get(parent));
        exact
            .and_then(|table| table.find(head))
            .or_else(|| wildcard().and_then(|table| table.find(head)))
            .or_else(|| self.any.find(head))
    }
}

/// The routes of one host, highest priority first.
#[derive(Debug)]
struct HostTable<T> {
    levels: Vec<Level<T>>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T> HostTable<T> {
    fn insert(&mut self, priority: i32, path: PathPattern, conditions: Conditions, value: T) {
        let at = self.levels.iter().position(|level| level.priority == priority);
        let level = match at.and_then(|at| self.levels.get_mut(at)) {
            Some(level) => level,
            None => self.levels.push_mut(Level::new(priority)),
        };
        level.insert(path, Candidate { conditions, value });
    }

    fn find<'r>(&self, head: &Head<'r>) -> Option<Found<'_, 'r, T>> {
        self.levels.iter().find_map(|level| level.find(head))
    }
}

/// The routes of one host that have one priority.
#[derive(Debug)]
struct Level<T> {
    priority: i32,
    exact: HashMap<Box<str>, Candidates<T>>,
    regexes: Vec<(Regex, Candidates<T>)>,
    prefixes: HashMap<Box<str>, Candidates<T>>,
    /// How many segments the prefixes have, most first: the only ones that are looked up.
    depths: Vec<usize>,
}

impl<T> Level<T> {
    fn new(priority: i32) -> Self {
        Self {
            priority,
            exact: HashMap::new(),
            regexes: Vec::new(),
            prefixes: HashMap::new(),
            depths: Vec::new(),
        }
    }

    fn insert(&mut self, path: PathPattern, candidate: Candidate<T>) {
        match path {
            PathPattern::Exact(path) => self.exact.entry(path).or_default().insert(candidate),
            PathPattern::Regex(regex) => {
                let mut candidates = Candidates::default();
                candidates.insert(candidate);
                self.regexes.push((regex, candidates));
            }
            PathPattern::Prefix(prefix) => {
                let depth = prefix.depth();
                if let Err(at) = self.depths.binary_search_by_key(&Reverse(depth), |&d| Reverse(d))
                {
                    self.depths.insert(at, depth);
                }
                match self.prefixes.entry(prefix.as_str().into()) {
                    Entry::Occupied(mut same) => same.get_mut().insert(candidate),
                    Entry::Vacant(free) => free.insert(Candidates::default()).insert(candidate),
                }
            }
        }
    }

    fn find<'r>(&self, head: &Head<'r>) -> Option<Found<'_, 'r, T>> {
        let exact = || self.exact.get(head.path)?.find(head);
        let regex = || {
            let mut found = self.regexes.iter().filter(|(regex, _)| regex.is_match(head.path));
            found.find_map(|(_, candidates)| candidates.find(head))
        };
        let whole = |value| Found { value, prefix: "" };
        exact().or_else(regex).map(whole).or_else(|| self.find_prefix(head))
    }

    fn find_prefix<'r>(&self, head: &Head<'r>) -> Option<Found<'_, 'r, T>> {
        self.depths.iter().find_map(|&depth| {
            let prefix = path::head(head.path, depth)?;
            let value = self.prefixes.get(prefix)?.find(head)?;
            Some(Found { value, prefix })
        })
    }
}

/// Routes that differ in their further conditions only, those with most conditions first.
#[derive(Debug)]
struct Candidates<T>(Vec<Candidate<T>>);

#[derive(Debug)]
struct Candidate<T> {
    conditions: Conditions,
    value: T,
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Candidates<T> {
    /// Behind those with as many conditions: the first one in has the right.
    fn insert(&mut self, candidate: Candidate<T>) {
        let count = candidate.conditions.count();
        let at = self.0.partition_point(|other| other.conditions.count() >= count);
        self.0.insert(at, candidate);
    }

    fn find(&self, head: &Head<'_>) -> Option<&T> {
        let mut candidates = self.0.iter();
        candidates.find(|candidate| candidate.conditions.hold(head)).map(|found| &found.value)
    }
}

#[cfg(test)]
mod tests;
