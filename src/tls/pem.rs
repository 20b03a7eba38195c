//! What a PEM file holds (RFC 7468): certificates and private keys, in the order of the file.
//!
//! What else stands in it is passed over: key parameters, requests, text between the blocks.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Remedy;

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Its certificates.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Its private keys: PKCS #8, PKCS #1 or SEC 1.
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
}

/// Reads a file. One without a single block has no parts: secrets are not all of them about TLS.
///
/// # Errors
/// What is wrong with a block, and what to do about it.
pub(super) fn read(bytes: &[u8]) -> Result<Parts, Remedy> {
    let has = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    if has("-----BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(Remedy::new(
            "its private key is encrypted, and nobody is there to type the password",
            "decrypt it with `openssl pkey -in FILE -out NEW` and keep the result as a secret",
        ));
    }
    let damaged = |error| {
        let why = if matches!(error, pem::Error::MissingSectionEnd { .. }) {
            "its last line is missing"
        } else if matches!(error, pem::Error::IllegalSectionStart { .. }) {
            "its first line is damaged"
        } else {
            "its content is not base64"
        };
        Remedy::new(
            format!("a PEM block cannot be read: {why}"),
            "copy the whole file again, with the lines that begin with `-----`",
        )
    };
    let certificates: Result<_, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let keys: Result<_, _> = PrivateKeyDer::pem_slice_iter(bytes).collect();
    Ok(Parts { certificates: certificates.map_err(damaged)?, keys: keys.map_err(damaged)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_blocks_has_no_parts_and_a_damaged_block_is_an_error() {
        let count = |text: &str| read(text.as_bytes()).map(|parts| parts.certificates.len());
        assert_eq!(count("a password"), Ok(0));
        let block = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        assert_eq!(count(&format!("text\n{block}{block}")), Ok(2));
        for damaged in ["-----BEGIN CERTIFICATE-----\nAQID\n", &block.replace("AQ", "*")] {
            assert!(count(damaged).unwrap_err().problem.contains("cannot be read"), "{damaged}");
        }
        let locked = count(&block.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY"));
        assert!(locked.unwrap_err().help.contains("openssl pkey"));
    }
}
