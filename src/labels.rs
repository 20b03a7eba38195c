//! What a service's labels say: routes that can be relied on, and diagnostics for the rest.
//!
//! `grammar` has the table of settings, `value` the kinds of values that only labels have. Labels
//! that are not Hiveway's are passed over. Whether two services want the same traffic is not seen
//! here: each service is read alone, so that none can harm another.

mod advice;
pub mod grammar;
mod trust;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::labels::grammar::{Draft, Scope, Setting, State, Written};
use crate::routing::host::HostPattern;
use crate::routing::path::{PathPattern, PathPrefix};
use crate::spec::{DEFAULT_ROUTE, Matches, Policy, RouteSpec, Target};
use crate::value::Mistake;

pub use crate::labels::grammar::reference;

/// What every label of ours begins with.
pub const PREFIX: &str = "hiveway.";

/// Most bytes that the labels of one service may have in all, names and values.
pub const MAX_BYTES: usize = 64 * 1024;

/// Most routes that one service may name.
pub const MAX_ROUTES: usize = 64;

/// A service's labels, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Whether the service wants traffic: it has a label of ours and does not say `enable=false`.
    pub enabled: bool,
    /// The routes without a mistake, ordered by name.
    pub routes: Vec<RouteSpec>,
    /// Names of the routes that a mistake disabled, in order: of exactly these a caller may keep
    /// the last good form. Never a name that is among `routes`.
    pub rejected: Vec<String>,
    /// Names of the routes that ask for what this version cannot do and would not be safe without,
    /// in order. No form of these may be served, the last good one neither: it may lack the very
    /// protection that they ask for. Never a name that is in another list.
    pub closed: Vec<String>,
    /// All that is wrong or doubtful, in the order of the labels.
    pub diagnostics: Vec<Diagnostic>,
}

/// Whether a label is ours.
pub fn is_ours(label: &str) -> bool {
    label
        .split_at_checked(PREFIX.len())
        .is_some_and(|(start, _)| start.eq_ignore_ascii_case(PREFIX))
}

/// Reads the labels of one service. `service` is its full name, for the diagnostics.
pub fn parse(service: &str, labels: &BTreeMap<String, String>) -> Parsed {
    let mut reader = Reader { service, diagnostics: Vec::new() };
    let ours: Vec<(&str, &str)> = labels
        .iter()
        .filter(|(label, _)| is_ours(label))
        .map(|(label, text)| (label.as_str(), text.as_str()))
        .collect();
    if ours.is_empty() {
        return Parsed::default();
    }
    let labels = reader.sort(&ours);
    if labels.iter().any(Label::switches_off) {
        return Parsed::default();
    }
    let too_large = reader.is_too_large(&ours);
    let names = reader.route_names(&labels);
    let mut parsed = Parsed { enabled: true, ..Parsed::default() };
    for (index, name) in names.iter().enumerate() {
        match route(name, &labels).and_then(|route| reader.settle_trust(route)) {
            Err(Fault::Unsafe) => parsed.closed.push(name.clone()),
            Ok(route) if !too_large && index < MAX_ROUTES => parsed.routes.push(route),
            Ok(_) | Err(Fault::Wrong) => parsed.rejected.push(name.clone()),
        }
    }
    parsed.diagnostics = reader.diagnostics;
    parsed
}

/// A label whose name is in the table.
struct Label<'l> {
    /// The route it speaks for, in lower case; none for the whole service.
    route: Option<String>,
    setting: &'static Setting,
    /// Where the setting stands in the table: the order in which labels are applied.
    order: usize,
    /// What stands for the `*` of the setting's name, as labels are compared.
    name: String,
    text: &'l str,
    /// Why it cannot be applied, if so; a diagnostic says more.
    fault: Option<Fault>,
}

/// Why a label cannot be applied. The graver one is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Its value or place is wrong.
    Wrong,
    /// It asks for what cannot be done and must not be left out.
    Unsafe,
}

impl Label<'_> {
    fn switches_off(&self) -> bool {
        self.fault.is_none()
            && self.setting.name == "enable"
            && self.text.eq_ignore_ascii_case("false")
    }

    fn key(&self) -> (usize, &str) {
        (self.order, &self.name)
    }

    fn apply(&self, draft: &mut Draft) -> Result<(), Mistake> {
        (self.setting.read)(draft, Written { name: &self.name, text: self.text })
    }
}

struct Reader<'s> {
    service: &'s str,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Looks up every label and reads its value once, for the diagnostics alone.
    fn sort<'l>(&mut self, ours: &[(&'l str, &'l str)]) -> Vec<Label<'l>> {
        let mut labels: Vec<Label<'l>> = Vec::new();
        for (written, text) in ours {
            let Some(mut label) = self.look_up(written, text) else { continue };
            let twice = labels
                .iter()
                .any(|other| (&other.route, other.key()) == (&label.route, label.key()));
            label.fault = if label.fault.is_some() {
                label.fault
            } else if twice {
                let problem = "is written twice, in different capitals";
                self.complain(Severity::Error, (written, text), problem, "remove one of the two");
                Some(Fault::Wrong)
            } else {
                self.fault(&label, (written, text))
            };
            labels.push(label);
        }
        labels
    }

    fn look_up<'l>(&mut self, written: &'l str, text: &'l str) -> Option<Label<'l>> {
        let rest = written.get(PREFIX.len()..).unwrap_or_default();
        let (route, setting) = match split_route(rest) {
            Some((route, setting)) => (Some(route), setting),
            None => (None, rest),
        };
        let (setting, name, fault) = match grammar::find(setting) {
            Some((setting, name)) => (setting, name, None),
            None => (self.unknown((written, text), route, setting)?, setting, Some(Fault::Unsafe)),
        };
        if route.is_some_and(|route| !is_route_name(route)) {
            let help = "write 1 to 64 letters, digits, `-` and `_` for the route's name";
            self.complain(Severity::Error, (written, text), "names no route", help);
            return None;
        }
        // Headers are named in any case of letters; query parameters are what they are.
        let is_query = setting.name == "query.*";
        Some(Label {
            route: route.map(str::to_ascii_lowercase),
            setting,
            order: grammar::settings().take_while(|row| row.name != setting.name).count(),
            name: if is_query { name.to_owned() } else { name.to_ascii_lowercase() },
            text: text.trim(),
            fault,
        })
    }

    fn fault(&mut self, label: &Label<'_>, written: (&str, &str)) -> Option<Fault> {
        if written.0.contains(char::is_control) || written.1.contains(char::is_control) {
            let problem = "has a control character";
            self.complain(Severity::Error, written, problem, "write printable characters only");
            return Some(Fault::Wrong);
        }
        if label.route.is_some() && label.setting.scope == Scope::Service {
            let name = label.setting.name;
            let problem = "speaks for one route, but can only speak for the whole service";
            let help = format!("write `{PREFIX}{name}`, or remove the route's labels");
            self.complain(Severity::Error, written, problem, help);
            return Some(Fault::Wrong);
        }
        let mut draft = blank(DEFAULT_ROUTE);
        if let Err(mistake) = label.apply(&mut draft) {
            self.complain_of(Severity::Error, written, &mistake);
            let is_refused = matches!(label.setting.state, State::Refused(_)) || draft.is_unsafe;
            return Some(if is_refused { Fault::Unsafe } else { Fault::Wrong });
        }
        for remark in &draft.remarks {
            self.complain_of(Severity::Warning, written, remark);
        }
        self.state(label.setting, written)
    }

    /// Says what comes of a setting that is not acted on, and whether the route can go without it.
    fn state(&mut self, setting: &Setting, written: (&str, &str)) -> Option<Fault> {
        match setting.state {
            State::Live => None,
            State::Refused(what) => {
                let problem =
                    format!("cannot be obeyed: this version cannot {what}; the route stays closed");
                let help = "remove it only if the route may be open to everybody";
                self.complain(Severity::Error, written, problem, help);
                Some(Fault::Unsafe)
            }
        }
    }

    fn is_too_large(&mut self, ours: &[(&str, &str)]) -> bool {
        let bytes: usize = ours.iter().map(|(label, text)| label.len() + text.len()).sum();
        let too_large = bytes > MAX_BYTES;
        if too_large {
            let problem = format!("has {bytes} bytes of labels, more than {MAX_BYTES}");
            let help = "shorten its lists, or spread its routes over several services";
            self.complain_of_service(problem, help);
        }
        too_large
    }

    /// The routes that the labels make. The service's own make one if they hold a condition, or if
    /// no route is named.
    fn route_names(&mut self, labels: &[Label<'_>]) -> Vec<String> {
        let mut names: BTreeSet<String> =
            labels.iter().filter_map(|label| label.route.clone()).collect();
        if names.len() > MAX_ROUTES {
            let problem = format!("names {} routes, more than {MAX_ROUTES}", names.len());
            let help = "join routes with lists of hosts or paths, or spread them over services";
            self.complain_of_service(problem, help);
        }
        let condition =
            labels.iter().any(|label| label.route.is_none() && label.setting.is_condition());
        if condition || names.is_empty() {
            names.insert(DEFAULT_ROUTE.to_owned());
        }
        names.into_iter().collect()
    }

    /// A label that is not in the table; returns the guard that it was probably meant to be.
    fn unknown(
        &mut self,
        written: (&str, &str),
        route: Option<&str>,
        setting: &str,
    ) -> Option<&'static Setting> {
        let before = route.map_or(PREFIX.to_owned(), |route| format!("{PREFIX}routes.{route}."));
        if let Some(guard) = advice::guard(setting) {
            let problem = "is not a label that this version knows, but may be meant to keep \
                           somebody out; the route stays closed";
            let help = format!("write `{before}{}`, or remove it", guard.name);
            self.complain(Severity::Error, written, problem, help);
            return Some(guard);
        }
        let help = advice::advise(&before, setting)
            .unwrap_or_else(|| "see the table of labels in the README".to_owned());
        let problem = "is not a label that this version knows; it was ignored";
        self.complain(Severity::Warning, written, problem, help);
        None
    }

    fn complain_of(&mut self, severity: Severity, written: (&str, &str), mistake: &Mistake) {
        let Mistake { problem, help, example } = mistake;
        let help = if example.is_empty() {
            help.clone()
        } else {
            format!("{help}, for example `{}={example}`", shown(written.0))
        };
        self.complain(severity, written, problem.as_str(), help);
    }

    fn complain(
        &mut self,
        severity: Severity,
        (label, text): (&str, &str),
        problem: impl Into<String>,
        help: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::of_service(severity, self.service, problem, help);
        self.diagnostics.push(diagnostic.at_label(&shown(label), &shown(text)));
    }

    fn complain_of_service(&mut self, problem: String, help: &str) {
        let diagnostic = Diagnostic::of_service(Severity::Error, self.service, problem, help);
        self.diagnostics.push(diagnostic);
    }
}

/// One route from what it says itself and what it inherits; the gravest fault if any has one.
fn route(name: &str, labels: &[Label<'_>]) -> Result<RouteSpec, Fault> {
    let is_own = |label: &&Label<'_>| label.route.as_deref() == Some(name);
    let own_path = labels.iter().filter(is_own).any(|label| label.setting.is_path());
    let mut effective: BTreeMap<(usize, &str), &Label<'_>> = labels
        .iter()
        .filter(|label| label.route.is_none())
        .filter(|label| !(own_path && label.setting.is_path()))
        .map(|label| (label.key(), label))
        .collect();
    for label in labels.iter().filter(is_own) {
        effective.insert(label.key(), label);
    }
    if let Some(fault) = effective.values().filter_map(|label| label.fault).max() {
        return Err(fault);
    }
    let mut draft = blank(name);
    for label in effective.values() {
        label.apply(&mut draft).map_err(|_| Fault::Wrong)?;
    }
    let mut route = draft.route;
    if route.matches.hosts.is_empty() {
        route.matches.hosts.push(HostPattern::Any);
    }
    if route.matches.paths.is_empty() {
        route.matches.paths.push(PathPattern::Prefix(PathPrefix::root()));
    }
    Ok(route)
}

/// Text that can be printed: a control character in a log line could hide or forge others.
fn shown(text: &str) -> String {
    let printable = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(printable).collect()
}

/// A route of which nothing has been said; its hosts and paths are yet to be filled in.
fn blank(name: &str) -> Draft {
    let matches = Matches { hosts: Vec::new(), paths: Vec::new(), ..Matches::default() };
    let route = RouteSpec {
        name: name.to_owned(),
        matches,
        listeners: None,
        instance: None,
        target: Target::default(),
        policy: Policy::default(),
        weight: None,
    };
    Draft { route, remarks: Vec::new(), is_unsafe: false }
}

/// The name and the setting of `routes.<name>.<setting>`.
fn split_route(rest: &str) -> Option<(&str, &str)> {
    let (start, rest) = rest.split_once('.')?;
    if start.eq_ignore_ascii_case("routes") { rest.split_once('.') } else { None }
}

fn is_route_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    matches!(name.len(), 1..=64) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
