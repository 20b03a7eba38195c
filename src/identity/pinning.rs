//! Which key is shown, and whose is accepted.
//!
//! While secrets are replaced, either side may hold a new secret, an old one, or both, and each
//! agent and edge is updated at a moment of its own. So each accepts what any of its secrets says,
//! and shows the key that the other one can recognise, which the handshake tells it:
//!
//! - An edge asks for a server name that lists the agents' keys that it knows, the current one
//!   first: `<fingerprint>.<fingerprint>.hiveway`. The agent shows the first of them that it has,
//!   or its current one, which the edge then refuses.
//! - An agent lists the edges' keys that it knows as `certificate_authorities` of its
//!   `CertificateRequest` (RFC 8446, section 4.2.4), as names with a fingerprint for their common
//!   name. The edge shows the first of its own that is among them.
//!
//! Thus any two that have one secret's generation in common find each other. These hints decide
//! nothing: who is lied to shows a public key, and still wants the right signature.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, public_key_to_spki};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::Ed25519KeyPair;

use crate::keys::{AgentSecret, EdgeSecret, PublicKey};

/// The last label of the name that edges ask for. It is looked up nowhere.
const SUFFIX: &str = "hiveway";

/// What follows from one secret.
#[derive(Debug)]
pub(super) struct Generation {
    /// What we sign with.
    own: Arc<CertifiedKey>,
    /// The public half of it.
    own_fingerprint: String,
    /// By what we know the other side: a `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    peer: SubjectPublicKeyInfoDer<'static>,
    peer_fingerprint: String,
}

impl Generation {
    pub(super) fn of_agent(secret: &AgentSecret) -> Result<Self, Error> {
        let own = secret.edge().agents();
        let peer = secret.edge().public_key().map_err(failed)?;
        Self::new(secret.key_pair(), own, peer)
    }

    pub(super) fn of_edge(secret: &EdgeSecret) -> Result<Self, Error> {
        let own = secret.public_key().map_err(failed)?;
        Self::new(secret.key_pair(), own, secret.agents())
    }

    pub(super) fn new(
        pair: &Ed25519KeyPair,
        own: PublicKey,
        peer: PublicKey,
    ) -> Result<Self, Error> {
        let private = pair.to_pkcs8v1().map_err(failed)?;
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(private.as_ref()))?;
        let shown = CertificateDer::from(public_key_info(own).to_vec());
        Ok(Self {
            own: Arc::new(CertifiedKey::new(vec![shown], signing)),
            own_fingerprint: own.fingerprint(),
            peer: public_key_info(peer),
            peer_fingerprint: peer.fingerprint(),
        })
    }
}

fn failed(_: Unspecified) -> Error {
    Error::General("the cryptographic library made no key".to_owned())
}

fn public_key_info(key: PublicKey) -> SubjectPublicKeyInfoDer<'static> {
    public_key_to_spki(&alg_id::ED25519, key.as_bytes())
}

/// The keys of one side, the current generation first. It serves agents and edges alike.
#[derive(Debug)]
pub(super) struct Keyring {
    generations: Vec<Generation>,
    /// The peers' keys as names of authorities.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Keyring {
    pub(super) fn new(generations: Vec<Generation>) -> Self {
        let hints = generations.iter().map(|it| authority(&it.peer_fingerprint)).collect();
        let algorithms = default_provider().signature_verification_algorithms;
        Self { generations, hints, algorithms }
    }

    /// The server name that says which keys of agents are known.
    pub(super) fn name_of_peers(&self) -> String {
        let known = self.generations.iter().map(|it| it.peer_fingerprint.as_str());
        known.chain([SUFFIX]).collect::<Vec<_>>().join(".")
    }

    fn recognise(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let is_known = |it: &Generation| it.peer.as_ref() == shown.as_ref();
        if self.generations.iter().any(is_known) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// `CN=<fingerprint>` as DER (RFC 5280, section 4.1.2.4): one attribute in a set of its own.
fn authority(fingerprint: &str) -> DistinguishedName {
    const COMMON_NAME: [u8; 5] = [0x06, 3, 0x55, 0x04, 0x03];
    let tagged = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
        [&[tag, length], content].concat()
    };
    let text = tagged(0x0c, fingerprint.as_bytes());
    let attribute = tagged(0x30, &[&COMMON_NAME[..], &text].concat());
    DistinguishedName::in_sequence(&tagged(0x31, &attribute))
}

/// Nothing of TLS 1.2 is ever asked for: neither side offers it.
const NO_TLS12: Error = Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered);

impl ResolvesServerCert for Keyring {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut known = hello.server_name().into_iter().flat_map(|name| name.split('.'));
        let with = |label| self.generations.iter().find(|it| it.own_fingerprint == label);
        let found = known.find_map(with).or(self.generations.first())?;
        Some(Arc::clone(&found.own))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

impl ResolvesClientCert for Keyring {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_hinted = |it: &&Generation| {
            let name = authority(&it.own_fingerprint);
            hints.iter().any(|hint| *hint == name.as_ref())
        };
        let found = self.generations.iter().find(is_hinted)?;
        Some(Arc::clone(&found.own))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Keyring {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.recognise(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Keyring {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.recognise(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
