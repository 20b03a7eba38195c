//! The certificate that a listener has before anybody gave it one.

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::Error;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// A new key, and a certificate for `localhost` that is signed with it.
///
/// # Errors
/// If there is no randomness.
pub(super) fn self_signed() -> Result<CertifiedKey, Error> {
    let failed = |error: rcgen::Error| Error::General(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let names = ["localhost".to_owned(), "*.localhost".to_owned()];
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    parameters.distinguished_name.push(DnType::CommonName, "Hiveway, signed by itself");
    let signed = parameters.self_signed(&key).map_err(failed)?;
    let der = CertificateDer::from(signed.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(vec![der], any_supported_type(&key)?))
}
