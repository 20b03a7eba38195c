//! Certificates and the keys that belong to them, found by their content: no name of a file means
//! anything, since Docker's secrets may have any.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate::{Certificate, Facts};
use super::files::Listing;
use super::{Complaint, Remedy, pem};

/// Longest chain that is put together.
const LONGEST_CHAIN: usize = 8;

/// Everything that the files hold.
#[derive(Default)]
struct Material {
    certificates: Vec<Found>,
    keys: Vec<Key>,
    complaints: Vec<Complaint>,
}

struct Found {
    der: CertificateDer<'static>,
    facts: Facts,
    file: PathBuf,
}

struct Key {
    signing: Arc<dyn SigningKey>,
    public: Vec<u8>,
    file: PathBuf,
}

/// The certificates of these files that have a key, and what is wrong with the files. Where a file
/// is wrong, what was `last` read from it stays; so does everything if nothing would be left.
pub(super) fn pair(
    files: &Listing,
    last: &[Arc<Certificate>],
) -> (Vec<Arc<Certificate>>, Vec<Complaint>) {
    let mut material = Material::default();
    for (file, found) in files {
        material.read(file, found.content.as_deref().map_err(Clone::clone), found.is_named);
    }
    let mut paired = material.pairs();
    material.miss_keys();
    material.miss_certificates();
    let Material { complaints, .. } = material;
    let is_wrong = |file: &Path| complaints.iter().any(|wrong| file.starts_with(&wrong.file));
    let is_new = |old: &Certificate| paired.iter().all(|new| new.leaf() != old.leaf());
    let kept = last.iter().filter(|old| is_wrong(&old.file) || is_wrong(&old.key_file));
    let kept: Vec<_> = kept.filter(|old| is_new(old)).cloned().collect();
    paired.extend(kept);
    if paired.is_empty() {
        return (last.to_vec(), complaints);
    }
    (paired, complaints)
}

impl Material {
    fn complain(&mut self, file: &Path, remedy: Remedy) {
        self.complaints.push(Complaint { file: file.to_owned(), remedy });
    }

    fn read(&mut self, file: &Path, content: Result<&[u8], Remedy>, is_named: bool) {
        let parts = match content.and_then(pem::read) {
            Ok(parts) => parts,
            Err(remedy) => return self.complain(file, remedy),
        };
        if is_named && parts.certificates.is_empty() && parts.keys.is_empty() {
            let help = "name a PEM file, which begins with `-----BEGIN`";
            self.complain(file, Remedy::new("it holds no certificate and no key", help));
        }
        parts.certificates.into_iter().for_each(|der| self.add_certificate(file, der));
        parts.keys.iter().for_each(|key| self.add_key(file, key));
    }

    fn add_certificate(&mut self, file: &Path, der: CertificateDer<'static>) {
        if let Some(facts) = Facts::read(&der) {
            self.certificates.push(Found { der, facts, file: file.to_owned() });
        } else {
            let help = "get it anew from who issued it, as an X.509 certificate in PEM";
            self.complain(file, Remedy::new("a certificate in it cannot be read", help));
        }
    }

    fn add_key(&mut self, file: &Path, key: &PrivateKeyDer<'_>) {
        let signing = any_supported_type(key).ok();
        let public = signing.as_ref().and_then(|key| Some(key.public_key()?.to_vec()));
        if let Some((signing, public)) = signing.zip(public) {
            self.keys.push(Key { signing, public, file: file.to_owned() });
        } else {
            let help = "use an ECDSA P-256 or P-384, Ed25519, or RSA key of 2048 bits or more";
            self.complain(file, Remedy::new("its private key cannot be used", help));
        }
    }

    /// The key of a certificate, best of the same file.
    fn key_of(&self, certificate: &Found) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| key.public == certificate.facts.public_key);
        let first = fitting.clone().next();
        fitting.find(|key| key.file == certificate.file).or(first)
    }

    /// Each certificate that has a key, once, whichever files it stands in.
    fn pairs(&self) -> Vec<Arc<Certificate>> {
        let mut pairs: Vec<Arc<Certificate>> = Vec::new();
        for found in &self.certificates {
            let Some(key) = self.key_of(found) else { continue };
            if pairs.iter().any(|known| known.leaf() == &*found.der) {
                continue;
            }
            let chain = self.chain(found);
            let Facts { names, not_before, not_after, expires, .. } = found.facts.clone();
            pairs.push(Arc::new(Certificate {
                names,
                not_before,
                not_after,
                expires,
                file: found.file.clone(),
                key_file: key.file.clone(),
                key: Arc::new(CertifiedKey::new(chain, Arc::clone(&key.signing))),
            }));
        }
        pairs
    }

    /// A certificate and those that vouch for it, in the order that TLS wants, whatever the order
    /// in the files. The root is left out: clients have it, or trust none.
    fn chain(&self, leaf: &Found) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![leaf.der.clone()];
        let mut last = leaf;
        while chain.len() < LONGEST_CHAIN {
            let issues = |by: &&Found| {
                by.facts.subject == last.facts.issuer && by.facts.subject != by.facts.issuer
            };
            let mut issuers = self.certificates.iter().filter(issues);
            let first = issuers.clone().next();
            let Some(next) = issuers.find(|by| by.file == last.file).or(first) else { break };
            if chain.contains(&next.der) {
                break;
            }
            chain.push(next.der.clone());
            last = next;
        }
        chain
    }

    /// Says which certificates of hosts have no key. Those of authorities need none.
    fn miss_keys(&mut self) {
        let alone = self
            .certificates
            .iter()
            .filter(|found| !found.facts.is_authority && self.key_of(found).is_none());
        let complaints = alone.map(|found| Complaint {
            file: found.file.clone(),
            remedy: Remedy::new(
                format!(
                    "the key of its certificate for {} is missing",
                    found.facts.names.join(", ")
                ),
                "put the private key that it was made with beside it, in this or another file; one that \
                 is only named by `upstream-tls.ca` needs none",
            ),
        });
        let complaints: Vec<_> = complaints.collect();
        self.complaints.extend(complaints);
    }

    /// Says which keys belong to no certificate.
    fn miss_certificates(&mut self) {
        let has_certificate =
            |key: &Key| self.certificates.iter().any(|found| found.facts.public_key == key.public);
        let alone = self.keys.iter().filter(|key| !has_certificate(key));
        let complaints = alone.map(|key| Complaint {
            file: key.file.clone(),
            remedy: Remedy::new(
                "its private key belongs to no certificate that is there",
                "put the certificate that was issued for it beside it, in this or another file",
            ),
        });
        let complaints: Vec<_> = complaints.collect();
        self.complaints.extend(complaints);
    }
}
