//! A certificate whose every fact is known, for tests of what is told about it.

use std::sync::Arc;

use super::certificate::Certificate;
use super::selection::CertificateSet;
use super::{Certificates, first_steps};

/// One for `shop.example.com`, which expired in the second 1,000,000,000.
///
/// # Panics
/// If there is no randomness.
pub fn certificates() -> Arc<Certificates> {
    let certificate = Certificate {
        names: vec!["shop.example.com".to_owned()],
        not_before: 0,
        not_after: 1_000_000_000,
        expires: "2001-09-09T01:46:40Z".to_owned(),
        file: "/run/secrets/shop".into(),
        key_file: "/run/secrets/shop".into(),
        key: Arc::new(first_steps::self_signed().unwrap()),
    };
    let certificates = Certificates::default();
    certificates.set.store(Arc::new(CertificateSet::new(vec![Arc::new(certificate)], 0)));
    Arc::new(certificates)
}
