//! Of whom a listener asks a certificate in the handshake, before any request has come.
//!
//! A handshake knows a name, a request a route. So a client is asked if any route that requests for
//! the name may come to asks for certificates, and turned away without one if all routes of the name
//! require it. What a request may do is decided again by its route.

use foldhash::{HashMap, HashMapExt};

use crate::routing::host::{HostName, HostPattern, parent};
use crate::spec::ClientAuth;

/// What a handshake wants of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    #[default]
    Nothing,
    /// A certificate, if it has one.
    Ask,
    /// A certificate.
    Require,
}

/// What the routes of one host want.
#[derive(Clone, Copy, Debug)]
struct Wants {
    /// Any of them asks.
    some: bool,
    /// Each of them requires.
    all: bool,
}

/// What the handshakes on one listener want, by the name that the client asks for.
#[derive(Debug, Default)]
pub(super) struct Asking {
    hosts: HashMap<HostPattern, Wants>,
    /// Whether any host asks.
    some: bool,
}

impl Asking {
    /// Takes note of a route for a host.
    pub(super) fn add(&mut self, host: &HostPattern, wanted: ClientAuth) {
        let (asks, requires) = (wanted != ClientAuth::Off, wanted == ClientAuth::Required);
        let wants = self.hosts.entry(host.clone()).or_insert(Wants { some: false, all: true });
        wants.some |= asks;
        wants.all &= requires;
        self.some |= asks;
    }

    /// Leaves nothing to look up where nobody is asked.
    pub(super) fn settled(self) -> Self {
        if self.some { self } else { Self { hosts: HashMap::new(), some: false } }
    }

    /// What a handshake for this name wants; clients that give none are asked if anybody is.
    pub(super) fn demand(&self, name: Option<&str>) -> Demand {
        if !self.some {
            return Demand::Nothing;
        }
        let Some(Ok(name)) = name.map(str::parse::<HostName>) else {
            return Demand::Ask;
        };
        let wildcard = parent(name.as_str()).and_then(|parent| parent.parse().ok());
        let patterns = [
            Some(HostPattern::Exact(name)),
            wildcard.map(HostPattern::Wildcard),
            Some(HostPattern::Any),
        ];
        // Requests that no route of an exact host takes come to those of a less exact one.
        let wants = patterns.iter().flatten().filter_map(|pattern| self.hosts.get(pattern));
        match wants.clone().next() {
            Some(Wants { all: true, .. }) => Demand::Require,
            _ if wants.clone().any(|wants| wants.some) => Demand::Ask,
            _ => Demand::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(routes: &[(&str, ClientAuth)]) -> Asking {
        let mut asking = Asking::default();
        for (host, wanted) in routes {
            asking.add(&host.parse().unwrap(), *wanted);
        }
        asking.settled()
    }

    #[test]
    fn who_may_come_to_a_route_that_asks_is_asked_and_who_can_come_to_no_other_must_have_one() {
        use ClientAuth::{Off, Optional, Required};
        use Demand::{Ask, Nothing, Require};
        let asking = asking(&[
            ("a.test", Required),
            ("a.test", Required),
            ("b.test", Required),
            ("b.test", Off),
            ("c.test", Optional),
            ("d.test", Off),
            ("*.w.test", Required),
            ("x.w.test", Off),
        ]);
        for (name, expected) in [
            ("a.test", Require),
            ("A.test", Require),
            ("b.test", Ask),
            ("c.test", Ask),
            ("d.test", Nothing),
            ("other.test", Nothing),
            ("y.w.test", Require),
            ("x.w.test", Ask),
        ] {
            assert_eq!(asking.demand(Some(name)), expected, "{name}");
        }
        assert_eq!(asking.demand(None), Ask);
    }

    #[test]
    fn a_route_for_any_host_asks_everybody_and_without_one_nobody_is_asked() {
        let any = asking(&[("*", ClientAuth::Required), ("d.test", ClientAuth::Off)]);
        assert_eq!(any.demand(Some("d.test")), Demand::Ask);
        assert_eq!(any.demand(Some("e.test")), Demand::Require);
        let nobody = asking(&[("d.test", ClientAuth::Off)]);
        assert_eq!([nobody.demand(None), nobody.demand(Some("d.test"))], [Demand::Nothing; 2]);
    }
}
