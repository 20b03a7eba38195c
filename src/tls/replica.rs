//! TLS towards replicas: whom each upstream trusts, and what it means if a handshake fails.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::anybody::Anybody;
use super::authorities::{Vouchers, store};
use super::pinned::Pinned;
use super::{ALPN_H2, ALPN_HTTP1, Certificates};
use crate::spec::UpstreamTls;

pub use tokio_rustls::client::TlsStream;

/// The versions of HTTP that a replica may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/1.1 alone: only there a connection can be changed to another protocol.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// HTTP/2, or else HTTP/1.1.
    Either,
}

/// Why there is no connection with TLS. Each text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no file of the name that `upstream-tls.ca` gives.
    #[error(
        "there is no file `{0}` with certificates among the `certificates` of `[tls]`, which \
         `hiveway.upstream-tls.ca` names: give the edge the secret of that name"
    )]
    NoAuthority(String),
    /// The name cannot be asked for.
    #[error(
        "`{0}` is no name that a certificate can be for: write another one as \
         `hiveway.upstream-tls.server-name`"
    )]
    BadName(String),
    /// Nobody who is trusted vouches for the replica.
    #[error(
        "nobody who is trusted has issued the replica's certificate: name a secret with its \
         authority as `hiveway.upstream-tls.ca`"
    )]
    UnknownIssuer,
    /// The certificate is somebody else's.
    #[error(
        "the replica's certificate is not for `{0}`: write the name that it is for as \
         `hiveway.upstream-tls.server-name`"
    )]
    WrongName(String),
    /// The certificate is of no use for another reason: it has expired, say.
    #[error("the replica's certificate cannot be accepted: {0}")]
    BadCertificate(CertificateError),
    /// What comes is not TLS.
    #[error(
        "the replica does not speak TLS on this port: write `hiveway.protocol=http` if that is meant"
    )]
    NotTls,
    /// The handshake failed in another way.
    #[error("the TLS handshake with the replica failed: {0}")]
    Handshake(io::Error),
    /// There is no TLS on this side.
    #[error("cannot prepare TLS: {0}")]
    Unprepared(Error),
}

impl TlsError {
    /// Whether it will be the same the next time, if nobody changes anything.
    pub const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Handshake(_))
    }

    fn of(error: io::Error, name: &ServerName<'_>) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            // An authority that was made anew under its old name has another key.
            Some(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Self::UnknownIssuer,
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::WrongName(name.to_str().into_owned()),
            Some(Error::InvalidCertificate(problem)) => Self::BadCertificate(problem.clone()),
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(_) | None => Self::Handshake(error),
        }
    }
}

/// Terms are kept for so many kinds of replicas; with one more all are made anew.
const MOST_KEPT: usize = 1024;

/// Whom replicas are believed to be, and by whom.
#[derive(Debug)]
pub struct Trust {
    certificates: Arc<Certificates>,
    bundled: Arc<RootCertStore>,
    /// What was made before, for as long as the authorities are the same: it has the tickets by which
    /// connections are resumed.
    made: Mutex<HashMap<(UpstreamTls, Offer), Terms>>,
}

#[derive(Clone, Debug)]
struct Terms {
    /// None for the bundled ones, and where nobody is asked.
    vouchers: Option<Vouchers>,
    config: Arc<ClientConfig>,
}

impl Default for Trust {
    fn default() -> Self {
        Self::new(&Arc::default())
    }
}

impl Trust {
    /// Trusts the authorities among these files, and the bundled ones.
    pub fn new(certificates: &Arc<Certificates>) -> Self {
        let bundled = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let certificates = Arc::clone(certificates);
        Self { certificates, bundled: Arc::new(bundled), made: Mutex::default() }
    }

    /// The handshake with a replica. It has no time limit of its own.
    ///
    /// # Errors
    /// If the replica is not who it must be, or speaks no TLS.
    pub async fn shake_hands(
        &self,
        stream: TcpStream,
        tls: &UpstreamTls,
        offer: Offer,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = server_name(tls, &stream)?;
        let connector = TlsConnector::from(self.config(tls, offer)?);
        let shaken = connector.connect(name.clone(), stream).await;
        shaken.map_err(|error| TlsError::of(error, &name))
    }

    fn config(&self, tls: &UpstreamTls, offer: Offer) -> Result<Arc<ClientConfig>, TlsError> {
        let vouchers = match &tls.ca {
            Some(ca) if tls.verify => {
                let authorities = self.certificates.authorities();
                let found = authorities.named(ca).ok_or_else(|| TlsError::NoAuthority(ca.clone()));
                Some(Arc::clone(found?))
            }
            Some(_) | None => None,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tls.clone(), offer);
        let is_same = |terms: &&Terms| match (&terms.vouchers, &vouchers) {
            (None, None) => true,
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if let Some(terms) = made.get(&key).filter(is_same) {
            return Ok(Arc::clone(&terms.config));
        }
        if made.len() >= MOST_KEPT {
            made.clear();
        }
        let config = self.make(tls, offer, vouchers.as_ref()).map_err(TlsError::Unprepared)?;
        made.insert(key, Terms { vouchers, config: Arc::clone(&config) });
        Ok(config)
    }

    fn make(
        &self,
        tls: &UpstreamTls,
        offer: Offer,
        vouchers: Option<&Vouchers>,
    ) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
            let roots = vouchers.map_or_else(|| Arc::clone(&self.bundled), |list| store(list));
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let chained = builder.build().map_err(|error| Error::General(error.to_string()))?;
            Arc::new(Pinned::new(chained, vouchers.cloned().unwrap_or_default()))
        } else {
            Arc::new(Anybody::new(&provider))
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = match offer {
            Offer::Http1 => vec![ALPN_HTTP1.to_vec()],
            Offer::Http2 => vec![ALPN_H2.to_vec()],
            Offer::Either => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
        };
        Ok(Arc::new(config))
    }
}

/// The name that a replica's certificate must be for. Without one, which only happens where nothing
/// is verified, it is the address, and then the replica is told no name (RFC 6066, section 3).
fn server_name(tls: &UpstreamTls, stream: &TcpStream) -> Result<ServerName<'static>, TlsError> {
    let Some(name) = &tls.server_name else {
        let peer = stream.peer_addr().map_err(TlsError::Handshake)?;
        return Ok(ServerName::from(peer.ip()));
    };
    let text = name.as_str().trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(text).map_err(|_| TlsError::BadName(name.to_string()))
}

/// Whether the replica has chosen HTTP/2.
pub fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_H2)
}
