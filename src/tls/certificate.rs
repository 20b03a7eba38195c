//! One certificate with its chain and key, and what is told about it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// A certificate that can be served.
pub struct Certificate {
    /// The hosts that it is for, in lower case; wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// Second since 1970 from which it is valid.
    pub not_before: i64,
    /// Last second since 1970 in which it is valid.
    pub not_after: i64,
    /// The same for people: `2027-01-31T23:59:59Z`.
    pub expires: String,
    /// The file that it came from.
    pub file: PathBuf,
    /// The file that its private key came from; may be the same.
    pub key_file: PathBuf,
    pub(super) key: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Certificate");
        shown.field("names", &self.names).field("expires", &self.expires);
        shown.field("file", &self.file).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Whether it is valid at a second since 1970.
    pub fn is_current(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// The certificate itself, without its chain.
    pub(super) fn leaf(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |leaf| leaf)
    }
}

/// What a certificate says (RFC 5280), as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) names: Vec<String>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) expires: String,
    /// The `SubjectPublicKeyInfo`, by which it is matched with its key.
    pub(super) public_key: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    /// Whether it is there to sign others.
    pub(super) is_authority: bool,
}

impl Facts {
    /// Reads a certificate; none if it is not one.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            names: names(&certificate),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            expires: date(validity.not_after),
            public_key: certificate.public_key().raw.to_vec(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            is_authority: certificate.is_ca(),
        })
    }
}

/// The alternative names; the common name of certificates that are too old-fashioned to have any.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    let names: Vec<_> = alternative.filter_map(name).collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_ascii_lowercase).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|it| IpAddr::V4(Ipv4Addr::from(it)));
            let sixteen = || <[u8; 16]>::try_from(*bytes).map(|it| IpAddr::V6(Ipv6Addr::from(it)));
            Some(four.or_else(|_| sixteen()).ok()?.to_string())
        }
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

/// RFC 3339, in UTC.
fn date(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
