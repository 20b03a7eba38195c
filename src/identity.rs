//! Who an agent and an edge are to each other: secrets from files, and TLS with keys that are pinned.
//!
//! Both sides prove with TLS 1.3 that they hold the key that the other one expects. Keys are sent as
//! they are (RFC 7250): no certificate, no authority, nothing that expires. What the keys follow
//! from is in `keys`, how each side finds one that the other knows, while secrets are replaced, in
//! `pinning`. What is spoken over such a connection is not here, nor is any time limit.

mod pinning;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{Accept, Connect, TlsAcceptor, TlsConnector};

use self::pinning::{Generation, Keyring};
use crate::keys::text::SecretError;
use crate::keys::{AgentSecret, EdgeSecret, Role};

/// What is spoken inside: HTTP/2 (RFC 7301; RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";

/// What is added to the name of a secret for the one that was in use before.
const PREVIOUS: &str = "-previous";

/// Bytes of a file that are looked at. A secret has 152.
const LARGEST: u64 = 4096;

/// Why there are no keys to speak with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no secret.
    #[error(
        "{}: there is no such file: make a pair of secrets with `hiveway token`, and give the \
         service the one named `{}`",
        file.display(), role.secret_name()
    )]
    Missing {
        /// Where it should be.
        file: PathBuf,
        /// Whose secret it is.
        role: Role,
    },
    /// The file cannot be read.
    #[error("{}: it cannot be read ({error}): let Hiveway's user read it", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What the file holds is not the secret that belongs there.
    #[error("{}: {error}", file.display())]
    Wrong {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        error: SecretError,
    },
    /// The cryptographic library fails.
    #[error("the keys cannot be used: {0}")]
    Unusable(#[from] Error),
    /// A name made of fingerprints is none, which cannot be.
    #[error("the keys cannot be named: {0}")]
    Unnameable(#[from] InvalidDnsNameError),
}

/// What an agent needs to speak with edges.
#[derive(Clone, Debug)]
pub struct AgentKeys {
    config: Arc<ServerConfig>,
}

/// What an edge needs to speak with agents.
#[derive(Clone, Debug)]
pub struct EdgeKeys {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl AgentKeys {
    /// Reads the agents' secret, and the previous one from beside it if there is one: of
    /// `/run/secrets/hiveway-agent` from `/run/secrets/hiveway-agent-previous`.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold an agents' secret.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let (current, previous) = read_pair(file, Role::Agent, AgentSecret::read)?;
        Self::new(&current, previous.as_ref())
    }

    /// The keys of these secrets.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn new(current: &AgentSecret, previous: Option<&AgentSecret>) -> Result<Self, KeyError> {
        let generations = [current].into_iter().chain(previous).map(Generation::of_agent);
        let ring = Arc::new(Keyring::new(generations.collect::<Result<_, _>>()?));
        let verifier = Arc::clone(&ring);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(ring);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Connections live for days: nothing is kept to shorten the handshake of the next one.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config) })
    }

    /// The handshake with an edge; it has no time limit of its own. Who is let in holds an edges'
    /// key that this agent knows.
    pub fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream)
    }
}

impl EdgeKeys {
    /// Reads the edges' secret, and the previous one from beside it if there is one: of
    /// `/run/secrets/hiveway-edge` from `/run/secrets/hiveway-edge-previous`.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold an edges' secret.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let (current, previous) = read_pair(file, Role::Edge, EdgeSecret::read)?;
        Self::new(&current, previous.as_ref())
    }

    /// The keys of these secrets.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn new(current: &EdgeSecret, previous: Option<&EdgeSecret>) -> Result<Self, KeyError> {
        let generations = [current].into_iter().chain(previous).map(Generation::of_edge);
        let ring = Arc::new(Keyring::new(generations.collect::<Result<_, _>>()?));
        let server_name = ServerName::try_from(ring.name_of_peers())?;
        let verifier = Arc::clone(&ring);
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(ring);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// The handshake with an agent; it has no time limit of its own. Who answers holds an agents'
    /// key that this edge knows. Whether the agent knows the edge shows only when it has sent
    /// something: with TLS 1.3 the edge is done before its own key is looked at.
    pub fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Connect<S> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.server_name.clone(), stream)
    }
}

/// Why a handshake, or the first read after it, came to nothing: words for the log of either side.
pub fn reason(error: &io::Error) -> String {
    let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    let denied = Error::AlertReceived(AlertDescription::AccessDenied);
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) if *cause == refused || *cause == denied => format!(
            "the agent's secret and the edge's are not of one pair: give the services the `{}` and \
             the `{}` of the same `hiveway token`",
            Role::Agent.secret_name(),
            Role::Edge.secret_name(),
        ),
        _ => error.to_string(),
    }
}

/// The secret in a file, and the previous one if there is one.
fn read_pair<T>(
    file: &Path,
    role: Role,
    read: impl Fn(&[u8]) -> Result<T, SecretError>,
) -> Result<(T, Option<T>), KeyError> {
    let wrong = |file: &Path, error| KeyError::Wrong { file: file.to_owned(), error };
    let Some(content) = content(file)? else {
        return Err(KeyError::Missing { file: file.to_owned(), role });
    };
    let current = read(&content).map_err(|error| wrong(file, error))?;
    let mut name = file.as_os_str().to_owned();
    name.push(PREVIOUS);
    let beside = PathBuf::from(name);
    let previous = match self::content(&beside)? {
        Some(content) => Some(read(&content).map_err(|error| wrong(&beside, error))?),
        None => None,
    };
    Ok((current, previous))
}

/// What a file holds; none if there is no such file.
fn content(file: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    let mut content = Vec::new();
    match File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut content)) {
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyError::Unreadable { file: file.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests;
