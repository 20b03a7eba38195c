//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066, section 3).

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::certificate::Certificate;

/// The certificates that are served, at one time.
#[derive(Debug, Default)]
pub struct CertificateSet {
    all: Vec<Arc<Certificate>>,
    current: Index,
    /// When one begins or ends to be valid next, in seconds since 1970.
    due: Option<i64>,
    /// Expired, or not yet valid: a client that does not mind is better served than turned away.
    lapsed: Index,
}

/// Certificates by name; of each name the one that lasts longest is the first.
#[derive(Debug)]
struct Index {
    exact: HashMap<String, Vec<Arc<Certificate>>>,
    /// By what follows the `*.`.
    wildcard: HashMap<String, Vec<Arc<Certificate>>>,
}

impl Default for Index {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl Index {
    fn add(&mut self, certificate: &Arc<Certificate>) {
        for name in &certificate.names {
            let list = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None => self.exact.entry(name.clone()),
            };
            list.or_default().push(Arc::clone(certificate));
        }
    }

    /// Exact before wildcard, which stands for one label.
    fn find(&self, name: &str, suits: impl Fn(&Certificate) -> bool) -> Option<&Arc<Certificate>> {
        let exact = self.exact.get(name);
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        let lists = exact.into_iter().chain(self.wildcard.get(parent));
        let mut unsuited = None;
        for certificate in lists.flatten() {
            if suits(certificate) {
                return Some(certificate);
            }
            unsuited.get_or_insert(certificate);
        }
        unsuited
    }
}

impl CertificateSet {
    /// These certificates, at that second since 1970. Clients that ask for no known name get the
    /// first one that is valid.
    pub fn new(all: Vec<Arc<Certificate>>, now: i64) -> Self {
        let (mut current, mut lapsed) = (Index::default(), Index::default());
        let mut lasting = all.clone();
        lasting.sort_by_key(|certificate| std::cmp::Reverse(certificate.not_after));
        for certificate in &lasting {
            let index = if certificate.is_current(now) { &mut current } else { &mut lapsed };
            index.add(certificate);
        }
        let (mut first, last): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|certificate| certificate.is_current(now));
        first.extend(last);
        let due = next_change(&first, now);
        Self { all: first, current, lapsed, due }
    }

    /// All of them, valid ones first.
    pub fn all(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    /// The certificate for a name, which is in lower case. Of several for one name `suits` says
    /// which the client can verify. None only if there is none at all.
    pub fn choose(
        &self,
        name: Option<&str>,
        suits: impl Fn(&Certificate) -> bool + Copy,
    ) -> Option<&Arc<Certificate>> {
        let named = name.and_then(|name| {
            self.current.find(name, suits).or_else(|| self.lapsed.find(name, suits))
        });
        let any = || self.all.iter().find(|certificate| suits(certificate)).or(self.all.first());
        named.or_else(any)
    }

    /// Whether validity has begun or ended since the set was made.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

fn next_change(all: &[Arc<Certificate>], now: i64) -> Option<i64> {
    let times = all.iter().flat_map(|it| [it.not_before, it.not_after.saturating_add(1)]);
    times.filter(|time| *time > now).min()
}
