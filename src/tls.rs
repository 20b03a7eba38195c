//! TLS towards clients and replicas: certificates and authorities from files, replaced while traffic
//! flows.
//!
//! `files` reads what is there, `pairing` finds certificates and their keys by content, `selection`
//! chooses by SNI, `watching` does it again whenever a file changes. `authorities` says who vouches
//! for others, `replica` how replicas are believed.

pub mod certificate;
pub mod replica;
pub mod selection;

mod anybody;
mod authorities;
mod clients;
mod files;
mod first_steps;
mod pairing;
mod pem;
mod pinned;
mod watching;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tracing::warn;

use crate::clock;
use crate::config::{Protocols, TlsVersion};
use crate::snapshot::Demand;
use crate::tls::authorities::Authorities;
use crate::tls::clients::Asking;
use crate::tls::selection::CertificateSet;

pub use self::watching::{POLL, Watch};
pub use tokio_rustls::server::TlsStream;

/// HTTP/2, as clients ask for it (RFC 7301; RFC 9113, section 3.1).
const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1, likewise.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What is wrong with a file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub help: &'static str,
}

impl Remedy {
    fn new(problem: impl Into<String>, help: &'static str) -> Self {
        Self { problem: problem.into(), help }
    }
}

/// The same, and which file or directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The path.
    pub file: PathBuf,
    /// What is wrong with it.
    pub remedy: Remedy,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remedy { problem, help } = &self.remedy;
        write!(f, "{}: {problem}; {help}", self.file.display())
    }
}

/// The certificates in force. Handshakes read them, a [`Watch`] replaces them.
#[derive(Debug, Default)]
pub struct Certificates {
    set: ArcSwap<CertificateSet>,
    authorities: ArcSwap<Authorities>,
    own: OnceLock<Arc<CertifiedKey>>,
}

impl Certificates {
    /// All that are served now.
    pub fn load(&self) -> Guard<Arc<CertificateSet>> {
        self.set.load()
    }

    /// Whom to trust now.
    pub(crate) fn authorities(&self) -> Guard<Arc<Authorities>> {
        self.authorities.load()
    }

    /// Makes a certificate that is served for as long as there is no other, and says so.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn sign_own(&self, places: &[PathBuf]) -> Result<(), Error> {
        if self.own.get().is_none() {
            let own = first_steps::self_signed()?;
            let _ = self.own.set(Arc::new(own));
        }
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        warn!(
            "no certificate was found in {}: one that Hiveway signed itself is served, which no \
             client trusts; put a certificate and its key there as PEM files of any name (in a \
             Swarm: one secret each), or name other files with `certificates` in `[tls]`; they are \
             taken up without a restart",
            places.join(", "),
        );
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.set.load();
        let schemes = hello.signature_schemes();
        let chosen = set.choose(hello.server_name(), |certificate| {
            certificate.key.key.choose_scheme(schemes).is_some()
        });
        chosen.map(|certificate| &certificate.key).or(self.own.get()).cloned()
    }
}

/// How one listener speaks TLS.
#[derive(Clone, Debug)]
pub struct Terms {
    recipe: Recipe,
    plain: Arc<ServerConfig>,
    /// For clients that are asked for a certificate.
    asking: Arc<ArcSwapOption<Asking>>,
}

/// What the terms of a listener are made of.
#[derive(Clone, Debug)]
struct Recipe {
    certificates: Arc<Certificates>,
    protocols: Protocols,
    oldest: TlsVersion,
}

impl Recipe {
    /// Clients resume with tickets; what one core issued the others take, and nothing is kept for them.
    /// No other terms take them.
    fn make(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, Error> {
        let versions: &[&SupportedProtocolVersion] = match self.oldest {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let certificates = Arc::clone(&self.certificates);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(certificates);
        let words = [(self.protocols.h2, ALPN_H2), (self.protocols.http1, ALPN_HTTP1)];
        let spoken = words.into_iter().filter(|(spoken, _)| *spoken);
        config.alpn_protocols = spoken.map(|(_, word)| word.to_vec()).collect();
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

impl Terms {
    /// Terms with these certificates.
    ///
    /// # Errors
    /// If there is no randomness for the keys of the tickets.
    pub fn new(
        certificates: &Arc<Certificates>,
        protocols: Protocols,
        oldest: TlsVersion,
    ) -> Result<Self, Error> {
        let recipe = Recipe { certificates: Arc::clone(certificates), protocols, oldest };
        let plain = recipe.make(WebPkiClientVerifier::no_client_auth())?;
        Ok(Self { recipe, plain, asking: Arc::default() })
    }

    /// The handshake with a client. What it wants of the client is told by the name that the client
    /// gives. It comes back whether a certificate was asked for. It has no time limit of its own.
    ///
    /// # Errors
    /// If the client breaks off, speaks something else, or does not show what it must.
    pub async fn accept(
        &self,
        stream: TcpStream,
        demand: impl Fn(Option<&str>) -> Demand,
    ) -> io::Result<(TlsStream<TcpStream>, bool)> {
        let authorities = self.recipe.certificates.authorities().clients().map(Arc::clone);
        let Some(authorities) = authorities else {
            let plain = TlsAcceptor::from(Arc::clone(&self.plain));
            return Ok((plain.accept(stream).await?, false));
        };
        // Boxed, so that nobody else carries its state around.
        let start = Box::pin(LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        let demand = demand(start.client_hello().server_name());
        let config = if demand == Demand::Nothing {
            Arc::clone(&self.plain)
        } else {
            let asking = clients::terms(&self.asking, &self.recipe, &authorities);
            let asking = asking.map_err(io::Error::other)?;
            Arc::clone(if demand == Demand::Ask { &asking.ask } else { &asking.require })
        };
        let stream = start.into_stream(config).await?;
        if clients::has_expired(stream.get_ref().1.peer_certificates(), clock::date()) {
            let expired = Error::InvalidCertificate(CertificateError::Expired);
            return Err(io::Error::new(io::ErrorKind::InvalidData, expired));
        }
        Ok((stream, demand != Demand::Nothing))
    }
}

/// Who a client is by the certificate that it has shown, in words; none if it has shown none.
pub fn identity(stream: &TlsStream<TcpStream>) -> Option<String> {
    clients::identity(stream.get_ref().1.peer_certificates()?.first()?)
}

/// Whether a client has asked for HTTP/2.
pub fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_H2)
}

/// The word for a connection's version in metrics.
pub fn version(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => NO_VERSION,
    }
}

/// The same for a handshake that did not come to an end.
pub const NO_VERSION: &str = "none";

/// The word in metrics for why a handshake failed.
pub fn failure(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        None => "closed",
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => "not_tls",
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => "incompatible",
        // Most often a client that does not trust the certificate.
        Some(Error::AlertReceived(_)) => "refused",
        Some(Error::NoCertificatesPresented) => "no_certificate",
        Some(Error::InvalidCertificate(_)) => "bad_certificate",
        Some(_) => "broken",
    }
}

#[cfg(test)]
pub mod example;
#[cfg(test)]
mod tests;
