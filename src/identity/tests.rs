use std::fs;

use aws_lc_rs::signature::Ed25519KeyPair;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair as CertificateKey};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, WantsClientCert};
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, alg_id};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::{CertifiedKey, public_key_to_spki};
use rustls::version::TLS12;
use rustls::{
    ConfigBuilder, HandshakeKind, PeerIncompatible, ProtocolVersion, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::keys::PublicKey;

/// A secret of agents; the same for the same seed.
fn secret(seed: u8) -> AgentSecret {
    AgentSecret::new([seed; 32]).unwrap()
}

fn agent(generations: &[u8]) -> AgentKeys {
    let secrets: Vec<_> = generations.iter().copied().map(secret).collect();
    AgentKeys::new(&secrets[0], secrets.get(1)).unwrap()
}

fn edge(generations: &[u8]) -> EdgeKeys {
    let secrets: Vec<_> = generations.iter().copied().map(secret).collect();
    EdgeKeys::new(secrets[0].edge(), secrets.get(1).map(AgentSecret::edge)).unwrap()
}

/// Which private key is used, and which public key is shown for it.
fn certified(pair: &Ed25519KeyPair, shown: PublicKey) -> Arc<CertifiedKey> {
    let private = pair.to_pkcs8v1().unwrap();
    let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(private.as_ref())).unwrap();
    let info = public_key_to_spki(&alg_id::ED25519, shown.as_bytes());
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(info.to_vec())], signing))
}

/// A certificate that somebody signed himself, with this key.
fn certificate(pair: &Ed25519KeyPair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let private = PrivatePkcs8KeyDer::from(pair.to_pkcs8v1().unwrap().as_ref().to_vec());
    let key = CertificateKey::try_from(&private).unwrap();
    let names = vec!["hiveway".to_owned()];
    let signed = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (vec![signed.der().clone()], PrivateKeyDer::from(private))
}

/// Terms of an edge that lack only its own key.
type Unfinished = ConfigBuilder<ClientConfig, WantsClientCert>;

/// An edge of the first generation that breaks the rules in one way.
fn odd_edge(
    versions: &[&'static SupportedProtocolVersion],
    finish: impl FnOnce(Unfinished) -> ClientConfig,
) -> EdgeKeys {
    let generation = Generation::of_edge(secret(1).edge()).unwrap();
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Keyring::new(vec![generation]));
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = finish(builder);
    config.alpn_protocols = vec![ALPN.to_vec()];
    EdgeKeys { config: Arc::new(config), server_name: edge(&[1]).server_name }
}

/// Somebody who claims to be an agent of the first generation.
fn odd_agent(shown: Arc<CertifiedKey>) -> AgentKeys {
    let generation = Generation::of_agent(&secret(1)).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Keyring::new(vec![generation])))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(shown)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    AgentKeys { config: Arc::new(config) }
}

async fn accept(agent: &AgentKeys, stream: DuplexStream) -> io::Result<()> {
    let mut stream = agent.accept(stream).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
    stream.write_all(b"a").await?;
    assert_eq!(stream.read_u8().await?, b'e');
    Ok(())
}

async fn connect(edge: &EdgeKeys, stream: DuplexStream) -> io::Result<()> {
    let mut stream = edge.connect(stream).await?;
    stream.write_all(b"e").await?;
    assert_eq!(stream.read_u8().await?, b'a');
    Ok(())
}

/// What becomes of a handshake, and of a byte in each direction after it: for agent and edge.
async fn meet(agent: &AgentKeys, edge: &EdgeKeys) -> [io::Result<()>; 2] {
    let (near, far) = duplex(1 << 16);
    let (accepted, connected) = tokio::join!(accept(agent, far), connect(edge, near));
    [accepted, connected]
}

/// Why the agent did not let it in; neither may have got a byte from the other.
async fn refused_by_agent(edge: &EdgeKeys) -> Error {
    let [accepted, connected] = meet(&agent(&[1]), edge).await;
    connected.unwrap_err();
    cause(accepted)
}

async fn refused_by_edge(agent: &AgentKeys) -> Error {
    let [accepted, connected] = meet(agent, &edge(&[1])).await;
    accepted.unwrap_err();
    cause(connected)
}

fn cause(result: io::Result<()>) -> Error {
    result.unwrap_err().get_ref().unwrap().downcast_ref::<Error>().unwrap().clone()
}

fn unknown_key() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

fn bad_signature() -> Error {
    Error::InvalidCertificate(CertificateError::BadSignature)
}

#[tokio::test]
async fn an_agent_and_an_edge_of_one_pair_speak_and_keep_nothing_for_the_next_time() {
    let (agent, edge) = (agent(&[1]), edge(&[1]));
    for _ in 0..2 {
        let (near, far) = duplex(1 << 16);
        let (accepted, connected) = tokio::join!(agent.accept(far), edge.connect(near));
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        for kind in [accepted.get_ref().1.handshake_kind(), connected.get_ref().1.handshake_kind()]
        {
            assert_eq!(kind, Some(HandshakeKind::Full));
        }
        assert_eq!(connected.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
    let [accepted, connected] = meet(&agent, &edge).await;
    accepted.unwrap();
    connected.unwrap();
}

#[tokio::test]
async fn secrets_of_different_pairs_do_not_fit_and_both_sides_say_so() {
    let [accepted, connected] = meet(&agent(&[1]), &edge(&[2])).await;
    for error in [accepted.unwrap_err(), connected.unwrap_err()] {
        assert!(reason(&error).contains("are not of one pair"), "{error}");
    }
}

/// Every state that either side can be in while secrets are replaced, in whatever order, skipping a
/// generation or turning back: they speak exactly if they have a generation in common.
#[tokio::test]
async fn while_secrets_are_replaced_any_two_with_one_in_common_speak() {
    let states: [&[u8]; 9] =
        [&[1], &[2], &[3], &[1, 2], &[2, 1], &[1, 3], &[3, 1], &[2, 3], &[3, 2]];
    for agents in states {
        for edges in states {
            let common = agents.iter().any(|generation| edges.contains(generation));
            let [accepted, connected] = meet(&agent(agents), &edge(edges)).await;
            let told = format!("{agents:?} {edges:?} {accepted:?} {connected:?}");
            assert_eq!((accepted.is_ok(), connected.is_ok()), (common, common), "{told}");
        }
    }
}

#[tokio::test]
async fn an_edge_without_a_key_is_not_let_in() {
    let no_raw_key = odd_edge(&[&TLS13], Unfinished::with_no_client_auth);
    let not_raw = Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension);
    assert_eq!(refused_by_agent(&no_raw_key).await, not_raw);
    // One that could show a key, but has none that the agent would take.
    let other = Generation::of_edge(secret(2).edge()).unwrap();
    let ring = Arc::new(Keyring::new(vec![other]));
    let no_key = odd_edge(&[&TLS13], |config| config.with_client_cert_resolver(ring));
    assert_eq!(refused_by_agent(&no_key).await, Error::NoCertificatesPresented);
}

#[tokio::test]
async fn an_edge_with_another_key_is_not_let_in_although_it_knows_the_agents() {
    let ours = secret(1);
    let (theirs, agents) = (secret(2), ours.edge().agents());
    let keys = [
        certified(theirs.edge().key_pair(), theirs.edge().public_key().unwrap()),
        // The agents' own key, which is not an edge's.
        certified(ours.key_pair(), agents),
    ];
    for key in keys {
        let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(key));
        let edge = odd_edge(&[&TLS13], |config| config.with_client_cert_resolver(resolver));
        assert_eq!(refused_by_agent(&edge).await, unknown_key());
    }
}

#[tokio::test]
async fn who_shows_the_right_key_must_be_able_to_sign_with_it() {
    let (ours, theirs) = (secret(1), secret(2));
    let key = certified(theirs.edge().key_pair(), ours.edge().public_key().unwrap());
    let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(key));
    let edge = odd_edge(&[&TLS13], |config| config.with_client_cert_resolver(resolver));
    assert_eq!(refused_by_agent(&edge).await, bad_signature());
    let agent = odd_agent(certified(theirs.key_pair(), ours.edge().agents()));
    assert_eq!(refused_by_edge(&agent).await, bad_signature());
}

#[tokio::test]
async fn who_took_over_an_edge_cannot_speak_as_an_agent() {
    let ours = secret(1);
    let stolen = ours.edge();
    let agent = odd_agent(certified(stolen.key_pair(), stolen.public_key().unwrap()));
    assert_eq!(refused_by_edge(&agent).await, unknown_key());
    let agent = odd_agent(certified(stolen.key_pair(), stolen.agents()));
    assert_eq!(refused_by_edge(&agent).await, bad_signature());
}

#[tokio::test]
async fn certificates_do_not_stand_for_keys_even_if_they_hold_the_right_ones() {
    let ours = secret(1);
    let (chain, key) = certificate(ours.edge().key_pair());
    let edge = odd_edge(&[&TLS13], |config| config.with_client_auth_cert(chain, key).unwrap());
    let not_raw = Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension);
    assert_eq!(refused_by_agent(&edge).await, not_raw);

    let (chain, key) = certificate(ours.key_pair());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let [accepted, connected] =
        meet(&AgentKeys { config: Arc::new(config) }, &self::edge(&[1])).await;
    accepted.unwrap_err();
    connected.unwrap_err();
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let generation = Generation::of_edge(secret(1).edge()).unwrap();
    let ring = Arc::new(Keyring::new(vec![generation]));
    let edge = odd_edge(&[&TLS12], |config| config.with_client_cert_resolver(ring));
    let too_old = Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled);
    assert_eq!(refused_by_agent(&edge).await, too_old);
}

#[tokio::test]
async fn another_protocol_than_http2_is_not_spoken() {
    let mut edge = edge(&[1]);
    Arc::make_mut(&mut edge.config).alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(refused_by_agent(&edge).await, Error::NoApplicationProtocol);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes that are no handshake, or begin like one.
    #[test]
    fn garbage_ends_a_handshake(is_record: bool, bytes: Vec<u8>) {
        let head: &[u8] = if is_record { &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3] } else { &[] };
        let garbage = [head, &bytes].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for is_agent in [true, false] {
                let (ours, mut theirs) = duplex(1 << 16);
                theirs.write_all(&garbage).await.unwrap();
                theirs.shutdown().await.unwrap();
                let done =
                    if is_agent { accept(&agent(&[1]), ours).await } else { connect(&edge(&[1]), ours).await };
                assert!(done.is_err());
            }
        });
    }
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("hiveway-identity-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, content).unwrap();
        file
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn secrets_are_read_from_files_with_the_previous_ones_beside_them() {
    let directory = Directory::new("read");
    let agent_file = directory.put("hiveway-agent", &format!("{}\n", secret(2).to_text()));
    let edge_file = directory.put("hiveway-edge", &secret(2).edge().to_text());
    let speak = async |agent: &AgentKeys, edge: &EdgeKeys| {
        meet(agent, edge).await.iter().all(Result::is_ok)
    };
    let (agent, edge) =
        (AgentKeys::read(&agent_file).unwrap(), EdgeKeys::read(&edge_file).unwrap());
    assert!(speak(&agent, &edge).await);
    assert!(!speak(&agent, &self::edge(&[1])).await);
    assert!(!speak(&self::agent(&[1]), &edge).await);
    directory.put("hiveway-agent-previous", &secret(1).to_text());
    directory.put("hiveway-edge-previous", &secret(1).edge().to_text());
    let (agent, edge) =
        (AgentKeys::read(&agent_file).unwrap(), EdgeKeys::read(&edge_file).unwrap());
    assert!(speak(&agent, &edge).await);
    assert!(speak(&agent, &self::edge(&[1])).await);
    assert!(speak(&self::agent(&[1]), &edge).await);
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named_with_what_to_do() {
    let directory = Directory::new("wrong");
    let told = |error: KeyError| {
        error.to_string().strip_prefix(&format!("{}/", directory.0.display())).unwrap().to_owned()
    };
    let missing = told(EdgeKeys::read(&directory.0.join("hiveway-edge")).unwrap_err());
    assert!(missing.starts_with("hiveway-edge: there is no such file"), "{missing}");
    assert!(missing.contains("`hiveway token`"), "{missing}");
    let file = directory.put("hiveway-edge", &secret(1).to_text());
    let wrong = told(EdgeKeys::read(&file).unwrap_err());
    assert!(wrong.starts_with("hiveway-edge: it holds the agents' secret"), "{wrong}");
    let file = directory.put("hiveway-agent", &secret(1).to_text());
    directory.put("hiveway-agent-previous", "s3cret");
    let wrong = told(AgentKeys::read(&file).unwrap_err());
    assert!(wrong.starts_with("hiveway-agent-previous: it does not begin with"), "{wrong}");
    assert!(!wrong.contains("s3cret"), "{wrong}");
    let unreadable = told(AgentKeys::read(&directory.0.join("hiveway-edge/x")).unwrap_err());
    assert!(unreadable.starts_with("hiveway-edge/x: it cannot be read"), "{unreadable}");
}
