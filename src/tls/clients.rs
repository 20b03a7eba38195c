//! Certificates of clients: how they are asked for, and who a client is by its own.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::Recipe;
use super::certificate::Facts;

/// Names beyond so many bytes of an identity are left out: a replica takes no longer head for them.
const LONGEST: usize = 4 << 10;

/// The terms of handshakes that ask for certificates, by these authorities.
#[derive(Debug)]
pub(super) struct Asking {
    authorities: Arc<RootCertStore>,
    /// Goes on without one.
    pub(super) ask: Arc<ServerConfig>,
    /// Ends without one.
    pub(super) require: Arc<ServerConfig>,
}

impl Asking {
    fn new(recipe: &Recipe, authorities: &Arc<RootCertStore>) -> Result<Self, Error> {
        let verifier = |optional: bool| -> Result<Arc<dyn ClientCertVerifier>, Error> {
            let provider = Arc::new(default_provider());
            let builder =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), provider);
            let builder = if optional { builder.allow_unauthenticated() } else { builder };
            builder.build().map_err(|error| Error::General(error.to_string()))
        };
        // Each has tickets of its own: who resumes is not asked again, so it must have been asked the
        // same before, by the same authorities.
        Ok(Self {
            authorities: Arc::clone(authorities),
            ask: recipe.make(verifier(true)?)?,
            require: recipe.make(verifier(false)?)?,
        })
    }
}

/// Makes the terms anew when the authorities have changed, and keeps them meanwhile.
pub(super) fn terms(
    kept: &ArcSwapOption<Asking>,
    recipe: &Recipe,
    authorities: &Arc<RootCertStore>,
) -> Result<Arc<Asking>, Error> {
    if let Some(asking) = kept.load_full()
        && Arc::ptr_eq(&asking.authorities, authorities)
    {
        return Ok(asking);
    }
    let asking = Arc::new(Asking::new(recipe, authorities)?);
    kept.store(Some(Arc::clone(&asking)));
    Ok(asking)
}

/// Whether what a client shows is over at a second since 1970. Handshakes verify that, but for those
/// that resume, and each of them gives a new ticket.
pub(super) fn has_expired(shown: Option<&[CertificateDer<'_>]>, now: i64) -> bool {
    let facts = shown.and_then(|shown| Facts::read(shown.first()?));
    facts.is_some_and(|facts| facts.not_after < now)
}

/// Who a client is by its certificate, as Envoy writes it in `X-Forwarded-Client-Cert`: SHA-256 of the
/// certificate, its subject (RFC 4514), and its names as URIs and of DNS. None if it cannot be read.
pub(super) fn identity(shown: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(shown).ok()?;
    let hash = digest(&SHA256, shown);
    let mut text = "Hash=".to_owned();
    for byte in hash.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text = format!("{text};Subject=\"{}\"", quoted(&subject(certificate.subject())));
    let names = certificate.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let (kind, name) = if let GeneralName::URI(uri) = name {
            ("URI", uri)
        } else if let GeneralName::DNSName(name) = name {
            ("DNS", name)
        } else {
            continue;
        };
        // Names with characters that could end them stand in quotation marks.
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\",;=".contains(&byte);
        let name = if name.bytes().all(plain) {
            (*name).to_owned()
        } else {
            format!("\"{}\"", quoted(name))
        };
        if text.len() + name.len() > LONGEST {
            break;
        }
        text = format!("{text};{kind}={name}");
    }
    Some(text)
}

/// For quotation marks around it. What cannot stand in a field is left out.
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The last part first, as RFC 4514 has it, with what would look like a part of its own escaped.
fn subject(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes = part.iter().map(|attribute| {
            let kind = oid2abbrev(attribute.attr_type(), oid_registry())
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            format!("{kind}={}", escaped(attribute.as_str().unwrap_or_default()))
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    let parts: Vec<_> = parts.collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::new();
    for (at, letter) in value.char_indices() {
        let ends = at == 0 || at + letter.len_utf8() == value.len();
        if matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (ends && letter == ' ')
            || (at == 0 && letter == '#')
        {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn an_identity_cannot_be_made_to_look_like_another_one() {
        let mut parameters = CertificateParams::new(vec!["one.test".to_owned()]).unwrap();
        let uri = "spiffe://test/a;DNS=admin.test".try_into().unwrap();
        parameters.subject_alt_names.push(SanType::URI(uri));
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "Shop");
        parameters.distinguished_name.push(DnType::CommonName, "x\",O=Bank;Hash=0");
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let text = identity(certificate.der()).unwrap();
        let (hash, rest) = text.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        let subject = r#"Subject="CN=x\\\"\\,O\\=Bank\\;Hash\\=0,O=Shop""#;
        let names = r#"DNS=one.test;URI="spiffe://test/a;DNS=admin.test""#;
        assert_eq!(rest, format!("{subject};{names}"));
    }

    #[test]
    fn what_a_ticket_stands_for_expires_with_the_certificate() {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2026, 6, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let shown = [certificate.der().clone()];
        let expired = |now| has_expired(Some(&shown), now);
        assert_eq!(
            [1_780_271_999, 1_780_272_000, 1_780_272_001].map(expired),
            [false, false, true]
        );
        assert!(!has_expired(None, i64::MAX));
    }

    #[test]
    fn an_identity_has_an_end() {
        let names: Vec<_> = (0..1000).map(|number| format!("host-{number}.shop.test")).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        assert!(identity(certificate.der()).unwrap().len() < LONGEST + 1000);
    }
}
