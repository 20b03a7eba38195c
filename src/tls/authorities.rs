//! Authorities from files: who may vouch for replicas, by the name of the file, and for clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::files::Listing;
use super::pem;

/// The certificates of one file.
pub(super) type Vouchers = Arc<Vec<CertificateDer<'static>>>;

/// Everything that files say about whom to trust, at one time.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    /// By the name of the file, without its directory.
    named: BTreeMap<String, Vouchers>,
    /// Who vouches for clients; none if nobody does.
    clients: Option<Arc<RootCertStore>>,
}

impl Authorities {
    /// What these files say. A file that cannot be read means what it said `last`; one that is gone
    /// vouches for nobody.
    pub(super) fn read(files: &Listing, client_ca: Option<&Path>, last: &Self) -> Self {
        let mut named = BTreeMap::new();
        let mut clients = None;
        for (path, found) in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let before = last.named.get(&name);
            let parts = found.content.as_deref().ok().map(pem::read);
            let vouchers = match parts {
                Some(Ok(parts)) if parts.certificates.is_empty() => continue,
                Some(Ok(parts)) => {
                    let same = before.filter(|before| ***before == parts.certificates);
                    same.map_or_else(|| Arc::new(parts.certificates), Arc::clone)
                }
                Some(Err(_)) | None => match before {
                    Some(before) => Arc::clone(before),
                    None => continue,
                },
            };
            if client_ca == Some(path) {
                clients = Some(store(&vouchers));
            }
            named.entry(name).or_insert(vouchers);
        }
        // The same roots stay the same store: what was made of it need not be made again.
        let same = |new: &Arc<RootCertStore>| {
            let last = last.clients.as_ref()?;
            (last.roots == new.roots).then(|| Arc::clone(last))
        };
        let clients = clients.filter(|store| !store.is_empty());
        Self { named, clients: clients.map(|new| same(&new).unwrap_or(new)) }
    }

    /// Those of a file.
    pub(super) fn named(&self, name: &str) -> Option<&Vouchers> {
        self.named.get(name)
    }

    /// Those of clients.
    pub(super) fn clients(&self) -> Option<&Arc<RootCertStore>> {
        self.clients.as_ref()
    }
}

/// What is verified with. What is no certificate has been complained of, and is left out.
pub(super) fn store(vouchers: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(vouchers.iter().cloned());
    Arc::new(store)
}
