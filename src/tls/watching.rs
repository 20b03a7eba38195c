//! Follows the files: what changes is in force within a second or so, and what is wrong is said once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::authorities::Authorities;
use super::files::{self, Listing};
use super::selection::CertificateSet;
use super::{Certificates, Complaint, Remedy, pairing};
use crate::clock;

/// How often the files are looked at. A change counts at the second look: somebody may be writing.
pub const POLL: Duration = Duration::from_millis(500);

/// Reads the files and keeps what is in force true to them.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    /// Of them the one that vouches for clients.
    client_ca: Option<PathBuf>,
    certificates: Arc<Certificates>,
    /// The last look.
    seen: Listing,
    /// Whether it is in force.
    is_settled: bool,
    /// What was wrong then.
    said: Vec<Complaint>,
}

impl Watch {
    /// Reads the files for the first time; one of authorities of clients may be beside them. Blocks for
    /// as long as that takes.
    pub fn begin(paths: &[PathBuf], client_ca: Option<&Path>) -> Self {
        let paths: Vec<_> = paths.iter().cloned().chain(client_ca.map(Path::to_owned)).collect();
        let mut watch = Self {
            client_ca: client_ca.map(Path::to_owned),
            certificates: Arc::default(),
            seen: files::read(&paths),
            paths,
            is_settled: false,
            said: Vec::new(),
        };
        watch.put_in_force(clock::date());
        watch
    }

    /// What it keeps up to date.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// Looks again and again, for ever.
    pub async fn follow(mut self) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let paths = self.paths.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || files::read(&paths)).await else {
                // The process is ending.
                return;
            };
            self.look(found, clock::date());
        }
    }

    /// Takes note of what was found at a second since 1970.
    pub(super) fn look(&mut self, found: Listing, now: i64) {
        if found != self.seen {
            self.seen = found;
            self.is_settled = false;
            return;
        }
        let is_due = self.certificates.set.load().is_due(now);
        if !self.is_settled || is_due {
            self.put_in_force(now);
        }
    }

    fn put_in_force(&mut self, now: i64) {
        self.is_settled = true;
        let last = self.certificates.set.load_full();
        let (paired, mut complaints) = pairing::pair(&self.seen, last.all());
        let set = CertificateSet::new(paired, now);
        complaints.extend(expired(&set, now));
        if self.seen.is_empty() && !set.all().is_empty() {
            let remedy = Remedy::new(
                "no certificate is there any more; those read last stay in use",
                "put new ones there before the old ones expire",
            );
            let file = self.paths.first().cloned().unwrap_or_default();
            complaints.push(Complaint { file, remedy });
        }
        for complaint in complaints.iter().filter(|complaint| !self.said.contains(complaint)) {
            warn!("{complaint}");
        }
        self.said = complaints;
        let is_known = |leaf: &[u8]| last.all().iter().any(|known| known.leaf() == leaf);
        for new in set.all().iter().filter(|new| !is_known(new.leaf())) {
            let (names, file) = (new.names.join(", "), new.file.display());
            info!(names, %file, expires = new.expires, "certificate in use");
        }
        self.certificates.set.store(Arc::new(set));
        let authorities = &self.certificates.authorities;
        let client_ca = self.client_ca.as_deref();
        let trusted = Authorities::read(&self.seen, client_ca, &authorities.load());
        authorities.store(Arc::new(trusted));
    }

    /// What was wrong at the last change.
    #[cfg(test)]
    pub(super) fn said(&self) -> &[Complaint] {
        &self.said
    }
}

fn expired(set: &CertificateSet, now: i64) -> impl Iterator<Item = Complaint> {
    let past = set.all().iter().filter(move |certificate| certificate.not_after < now);
    past.map(|certificate| {
        let (names, expires) = (certificate.names.join(", "), &certificate.expires);
        let problem = format!("its certificate for {names} expired on {expires}");
        let help = "put a new one there; it is taken up without a restart";
        Complaint { file: certificate.file.clone(), remedy: Remedy::new(problem, help) }
    })
}
