//! The services file of provider `file`: services and replicas that are written down by hand.
//!
//! It speaks the labels' own words. Its text is handed in; who reads and watches the file is not
//! known here. What the labels mean, `labels` says.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::{self, Leaf};
use crate::inventory::{FixedReplica, Replicas, SwarmService};
use crate::routing::host;
use crate::source::{self, Position};
use crate::suggest;

/// A service as a file declares it, with where that is. Stack files have the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// What the file says of it.
    pub service: SwarmService,
    /// Where its name stands.
    pub at: Position,
    /// Where the value of each label stands.
    pub labels_at: BTreeMap<String, Position>,
    /// What is wrong with it beside its labels, each with where that stands.
    pub diagnostics: Vec<(Diagnostic, Position)>,
    /// Whether parts of it are known only when it is deployed.
    pub is_partial: bool,
}

/// Why a services file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\n{excerpt}{}", source::help(*.at, .help))]
pub struct FileError {
    /// What is wrong: a sentence without its full stop.
    pub problem: String,
    /// Where.
    pub at: Position,
    /// The line with carets under it.
    pub excerpt: String,
    /// What to write instead.
    pub help: String,
}

/// The services that the file declares, ordered by name, and what is wrong with single ones.
///
/// `name` is the file's, for messages. A mistake costs at most the service it is in: a replica that
/// cannot be read is left out, and a service without any stays without. Of two services the one
/// that stands first in the file is the older.
///
/// # Errors
/// If the file is not TOML, or has something else than services in it.
pub fn read(text: &str, name: &str) -> Result<(Vec<SwarmService>, Vec<Diagnostic>), FileError> {
    let mut services = Vec::new();
    let mut diagnostics = Vec::new();
    for declaration in declarations(text, name)? {
        diagnostics.extend(declaration.diagnostics.into_iter().map(|(diagnostic, _)| diagnostic));
        services.push(declaration.service);
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((services, diagnostics))
}

/// The same with where everything stands, in the order of the file.
///
/// # Errors
/// If the file is not TOML, or has something else than services in it.
pub fn declarations(text: &str, name: &str) -> Result<Vec<Declaration>, FileError> {
    let error = |problem: String, at, help: &str| FileError {
        problem,
        at,
        excerpt: source::excerpt(name, text, at),
        help: help.to_owned(),
    };
    let leaves = document::leaves(text)
        .map_err(|wrong| error(format!("the file is not TOML: {wrong}"), wrong.at, ""))?;
    let mut declarations: Vec<Declaration> = Vec::new();
    for leaf in &leaves {
        match leaf.path.as_slice() {
            [table] if table == "services" && leaf.text.is_none() => {}
            [table, service, rest @ ..] if table == "services" => {
                if !declarations.iter().any(|known| known.service.name == *service) {
                    let index = declarations.len();
                    declarations.push(Declaration::new(service, index, leaf.name_at));
                }
                let same = |known: &&mut Declaration| known.service.name == *service;
                if let Some(declaration) = declarations.iter_mut().find(same) {
                    declaration.fill(rest, leaf);
                }
            }
            path => {
                let problem = format!("`{}` is not a service", path.join("."));
                let help = "write services as `[services.<name>]`";
                return Err(error(problem, leaf.name_at, help));
            }
        }
    }
    for declaration in &mut declarations {
        declaration.complete();
    }
    Ok(declarations)
}

impl Declaration {
    /// A service of which only the name and the place in its file are known.
    pub fn new(name: &str, index: usize, at: Position) -> Self {
        let service = SwarmService {
            id: name.to_owned(),
            name: name.to_owned(),
            created_at: age(index),
            ..SwarmService::default()
        };
        Self { service, at, labels_at: BTreeMap::new(), diagnostics: Vec::new(), is_partial: false }
    }

    /// Adds a complaint about the service as a whole.
    pub fn complain(
        &mut self,
        severity: Severity,
        at: Position,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::of_service(severity, &self.service.name, problem, help);
        self.diagnostics.push((diagnostic, at));
    }

    /// Takes one setting of a service's table.
    fn fill(&mut self, path: &[String], leaf: &Leaf) {
        match (path, &leaf.text) {
            ([key], Some(text)) if key == "endpoints" => self.endpoints(text, leaf.value_at),
            ([key, _, ..], Some(text)) if key == "hiveway" => {
                let label = path.join(".");
                self.labels_at.insert(label.clone(), leaf.value_at);
                self.service.labels.insert(label, text.clone());
            }
            ([key], None) if key == "hiveway" => {}
            ([], None) => {}
            ([], Some(_)) => {
                let help = "write it as a table with `endpoints`";
                self.complain(Severity::Error, leaf.value_at, "is not a table", help);
            }
            ([key, ..], _) => {
                let close = suggest::closest(key, ["endpoints", "hiveway"]);
                let help = close.map_or_else(
                    || "a service has `endpoints` and settings that begin with `hiveway.`".into(),
                    |close| format!("did you mean `{close}`?"),
                );
                let problem =
                    format!("has `{}`, which means nothing; it was ignored", path.join("."));
                self.complain(Severity::Warning, leaf.name_at, problem, help);
            }
        }
    }

    fn endpoints(&mut self, text: &str, at: Position) {
        let mut replicas = Vec::new();
        for written in text.split(',').map(str::trim).filter(|written| !written.is_empty()) {
            match replica(written) {
                Some(replica) if replicas.contains(&replica) => {
                    let problem = format!("has the endpoint `{written}` twice");
                    self.complain(Severity::Warning, at, problem, "remove one of the two");
                }
                Some(replica) => replicas.push(replica),
                None => {
                    let problem = format!("has an endpoint `{written}` without address and port");
                    let help = "write it as `10.0.0.1:8080`, `[fd00::1]:8080` or `name:8080`";
                    self.complain(Severity::Error, at, problem, help);
                }
            }
        }
        self.service.replicas = Replicas::Fixed(replicas);
    }

    fn complete(&mut self) {
        if matches!(self.service.replicas, Replicas::Tasks { .. }) {
            self.service.replicas = Replicas::Fixed(Vec::new());
            let problem = "has no endpoints, so nobody answers for it";
            let help = "write `endpoints = [\"10.0.0.1:8080\"]`";
            self.complain(Severity::Error, self.at, problem, help);
        }
        if self.service.labels.is_empty() {
            let help = "write at least `hiveway.host`, or `hiveway.enable = true` for every host";
            let problem = "says nothing of Hiveway, so it gets no traffic";
            self.complain(Severity::Warning, self.at, problem, help);
        }
    }
}

/// A time as text that grows with the place in the file: what stands first is the oldest.
fn age(index: usize) -> String {
    let (minutes, seconds) = (index / 60, index % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (days, hours) = (hours / 24, hours % 24);
    format!("{:04}-01-01T{hours:02}:{minutes:02}:{seconds:02}Z", 1970 + days)
}

fn replica(text: &str) -> Option<FixedReplica> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return (address.port() != 0).then_some(FixedReplica::Address(address));
    }
    let (name, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    // What is all digits and dots is a mistyped address, not a name.
    let is_name = host::is_host(name) && name.contains(|letter: char| letter.is_ascii_alphabetic());
    (is_name && !name.starts_with('[')).then(|| FixedReplica::Name(name.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOP: &str = r#"
[services.shop]
endpoints = ["127.0.0.1:8081", "[::1]:8082", "Shop:8083"]
hiveway.host = "shop.example.com"
hiveway.health.path = "/actuator/health"
hiveway.routes.api.path = ["/api", "/v2"]
hiveway.retry.attempts = 0
hiveway.https-redirect = true

[services.blog]
endpoints = ["10.0.0.1:80"]
hiveway.host = "blog.example.com"
"#;

    fn problems(text: &str) -> Vec<String> {
        match read(text, "services.toml") {
            Ok((_, diagnostics)) => diagnostics.iter().map(|it| it.problem.clone()).collect(),
            Err(error) => {
                vec![format!("{} at {}:{}", error.problem, error.at.line, error.at.column)]
            }
        }
    }

    #[test]
    fn tables_become_labels_and_endpoints_replicas() {
        let (services, diagnostics) = read(SHOP, "services.toml").unwrap();
        assert_eq!(diagnostics, []);
        let [blog, shop] = services.as_slice() else { panic!("two services") };
        let labels: Vec<String> =
            shop.labels.iter().map(|(label, text)| format!("{label}={text}")).collect();
        assert_eq!(
            labels,
            [
                "hiveway.health.path=/actuator/health",
                "hiveway.host=shop.example.com",
                "hiveway.https-redirect=true",
                "hiveway.retry.attempts=0",
                "hiveway.routes.api.path=/api,/v2",
            ]
        );
        assert_eq!(
            shop.replicas,
            Replicas::Fixed(vec![
                FixedReplica::Address("127.0.0.1:8081".parse().unwrap()),
                FixedReplica::Address("[::1]:8082".parse().unwrap()),
                FixedReplica::Name("shop".to_owned(), 8083),
            ])
        );
        assert_eq!(blog.name, "blog");
        assert!(shop.created_at < blog.created_at, "shop stands first");
    }

    #[test]
    fn a_mistake_costs_only_the_service_it_is_in() {
        let text = SHOP.replace("\"10.0.0.1:80\"", "\"10.0.0.1\", \"10.0.1:80\", \"a:0\", \"b:1\"");
        let (services, diagnostics) = read(&text, "services.toml").unwrap();
        assert_eq!(services.len(), 2);
        assert_eq!(diagnostics.len(), 3);
        assert!(diagnostics.iter().all(|it| it.service == "blog"));
        assert_eq!(
            services.first().unwrap().replicas,
            Replicas::Fixed(vec![FixedReplica::Name("b".to_owned(), 1)])
        );
    }

    #[test]
    fn what_is_missing_or_means_nothing_is_said() {
        assert_eq!(
            problems("[services.a]\nendpoint = ['b:1']\nhiveway.port = 1\n"),
            [
                "has `endpoint`, which means nothing; it was ignored",
                "has no endpoints, so nobody answers for it",
            ]
        );
        assert_eq!(
            problems("[services.a]\nendpoints = ['b:1', 'B:1']\n[services.c]"),
            [
                "has the endpoint `b:1` twice".replace("`b:1`", "`B:1`"),
                "says nothing of Hiveway, so it gets no traffic".to_owned(),
                "has no endpoints, so nobody answers for it".to_owned(),
                "says nothing of Hiveway, so it gets no traffic".to_owned(),
            ]
        );
        assert_eq!(problems("services = {}"), [""; 0]);
        assert_eq!(problems(""), [""; 0]);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_where() {
        assert_eq!(problems("[service.a]\nx = 1"), ["`service.a.x` is not a service at 2:1"]);
        let broken = read("[services.a]\nendpoints = [\n", "s.toml").unwrap_err();
        assert!(broken.to_string().contains("--> s.toml:"), "{broken}");
    }

    proptest! {
        #[test]
        fn what_stands_first_is_older(first in 0_usize..100_000, more in 1_usize..1000) {
            prop_assert!(age(first) < age(first + more));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\[services(\\.[a-c])?\\]\n)?([a-z.]{1,9} ?= ?[0-9\"':,\\[\\]]{0,6}\n){0,4}") {
            let _ = read(&text, "x");
        }
    }
}
