//! Certificates of a test's own, and clients that verify what they are shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Ingress, service, soon};

/// An authority, and a directory of the certificates that it issued. Removed at the end.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    root: CertificateDer<'static>,
    pub(crate) directory: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hiveway-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = parameters.self_signed(&key).unwrap();
        let (pem, root) = (own.pem(), own.der().clone());
        Self { issuer: Issuer::new(parameters, key), pem, root, directory }
    }

    pub(crate) fn put(&self, file: &str, content: &str) {
        std::fs::write(self.directory.join(file), content).unwrap();
    }

    /// Puts a new certificate and its key into a file, and tells what it is.
    pub(crate) fn issue(&self, file: &str, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        self.put(file, &format!("{}{}", certificate.pem(), key.serialize_pem()));
        certificate.der().clone()
    }

    /// Its own certificate, as a file has it.
    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// How a replica speaks TLS that has a certificate for this name.
    pub(crate) fn acceptor(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        acceptor(certificate.der(), &key, alpn)
    }

    /// A client that trusts it and nobody else.
    pub(crate) fn client(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
        Client(TlsConnector::from(Arc::new(config)))
    }

    /// The same with a certificate of this common name, which another authority may have issued.
    pub(crate) fn client_with(&self, alpn: &[&str], name: &str, issuer: &Self) -> Client {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &issuer.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
        Client(TlsConnector::from(Arc::new(config)))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }

    /// An edge with a listener in clear text and, as the second one, one with TLS.
    pub(crate) async fn ingress(
        &self,
        options: &str,
        labels: &str,
        replica: SocketAddr,
    ) -> Ingress {
        let directory = self.directory.display();
        let options = format!(
            "listeners.websecure.address=127.0.0.1:0 tls.certificates={directory} {options}"
        );
        Ingress::with_options(&options, [service("shop", labels, &[replica])]).await
    }
}

/// The same with a certificate that is not this authority's.
pub(crate) fn acceptor(
    certificate: &CertificateDer<'static>,
    key: &KeyPair,
    alpn: &[&str],
) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) struct Client(TlsConnector);

impl Client {
    pub(crate) async fn connect(
        &self,
        ingress: &Ingress,
        name: &str,
    ) -> Result<TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(ingress.second.unwrap()).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = soon("a handshake", self.0.connect(name, stream)).await;
        stream.map_err(|error| error.to_string())
    }

    /// Head and body of the answer to a GET on a connection of its own.
    pub(crate) async fn get(
        &self,
        ingress: &Ingress,
        name: &str,
        path: &str,
    ) -> Result<String, String> {
        self.ask(ingress, name, &format!("GET {path} HTTP/1.1\r\nHost: {name}")).await
    }

    /// The same for a head of any kind, on a connection that was made for that name.
    pub(crate) async fn ask(
        &self,
        ingress: &Ingress,
        name: &str,
        head: &str,
    ) -> Result<String, String> {
        let mut stream = self.connect(ingress, name).await?;
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        soon("an answer", exchange).await.map_err(|error| error.to_string())
    }
}
