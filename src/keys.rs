//! The secrets of agents and edges: how they are written, and which keys follow from them.
//!
//! ```text
//! agents' secret, 32 random bytes --HKDF--> seed of the agents' key --> its public half --+
//!                                 --HKDF--> seed of the edges' key  ----------------------+--> edges' secret
//! ```
//!
//! An agent can work out everything. An edge knows how to sign as an edge and how to recognise an
//! agent, and no way leads back: whoever takes over an edge cannot speak as an agent. Keys are
//! Ed25519 (RFC 8032), derived with HKDF-SHA256 (RFC 5869).
//!
//! A secret is one line, `hiveway_agent_v1_` or `hiveway_edge_v1_` and hexadecimal digits, of which
//! the last eight are a checksum. Randomness is handed in; where secrets lie and how the two sides
//! prove that they hold one is in `identity`.

pub mod text;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use self::text::{Problem, SecretError};

/// Bytes of a seed, of a public key, and of what the agents' secret is made from.
pub const KEY_LENGTH: usize = 32;

/// Sets our keys apart from whatever else is derived from the same bytes.
const SALT: &[u8] = b"hiveway secrets v1";
const AGENTS: &[u8] = b"agents' Ed25519 seed";
const EDGES: &[u8] = b"edges' Ed25519 seed";

/// Who a secret belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `hiveway agent`, on managers.
    Agent,
    /// `hiveway edge`, on every node.
    Edge,
}

impl Role {
    /// The name of the secret, in Docker and as a file.
    pub const fn secret_name(self) -> &'static str {
        match self {
            Self::Agent => "hiveway-agent",
            Self::Edge => "hiveway-edge",
        }
    }
}

/// The public half of a key: who shows that he has the other half is known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_LENGTH]);

impl PublicKey {
    fn of(pair: &Ed25519KeyPair) -> Result<Self, Unspecified> {
        pair.public_key().as_ref().try_into().map(Self).map_err(|_| Unspecified)
    }

    /// Its bytes, as in RFC 8032, section 5.1.5.
    pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    /// A name for it that fits one label of a host name: 32 hexadecimal digits, of its SHA-256.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, &self.0);
        let mut digits = String::new();
        for byte in hash.as_ref().iter().take(16) {
            text::push_hex(&mut digits, *byte);
        }
        digits
    }
}

/// What the agents hold, and nobody else.
pub struct AgentSecret {
    bytes: [u8; KEY_LENGTH],
    own: Ed25519KeyPair,
    edge: EdgeSecret,
}

/// What the edges hold: their own key, and by what they know an agent.
pub struct EdgeSecret {
    seed: [u8; KEY_LENGTH],
    own: Ed25519KeyPair,
    agents: PublicKey,
}

impl AgentSecret {
    /// The secret that these bytes are; they must come from a source of good randomness.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn new(random: [u8; KEY_LENGTH]) -> Result<Self, Unspecified> {
        let own = key_pair(&derive(&random, AGENTS)?)?;
        let edge = EdgeSecret::new(derive(&random, EDGES)?, PublicKey::of(&own)?)?;
        Ok(Self { bytes: random, own, edge })
    }

    /// Reads what [`AgentSecret::to_text`] wrote; white space around it does not count.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(written: &[u8]) -> Result<Self, SecretError> {
        let bytes = text::read(written, Role::Agent)?;
        Self::new(bytes).map_err(|Unspecified| SecretError::new(Role::Agent, Problem::Unusable))
    }

    /// The secret as one line, without its end.
    pub fn to_text(&self) -> String {
        text::write(Role::Agent, &self.bytes)
    }

    /// What the edges are given.
    pub const fn edge(&self) -> &EdgeSecret {
        &self.edge
    }

    /// What an agent signs with.
    pub const fn key_pair(&self) -> &Ed25519KeyPair {
        &self.own
    }
}

impl EdgeSecret {
    fn new(seed: [u8; KEY_LENGTH], agents: PublicKey) -> Result<Self, Unspecified> {
        Ok(Self { seed, own: key_pair(&seed)?, agents })
    }

    /// Reads what [`EdgeSecret::to_text`] wrote; white space around it does not count.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(written: &[u8]) -> Result<Self, SecretError> {
        let bytes: [u8; 2 * KEY_LENGTH] = text::read(written, Role::Edge)?;
        let (mut seed, mut agents) = ([0; KEY_LENGTH], [0; KEY_LENGTH]);
        let (first, second) = bytes.split_at(KEY_LENGTH);
        seed.copy_from_slice(first);
        agents.copy_from_slice(second);
        let secret = Self::new(seed, PublicKey(agents));
        secret.map_err(|Unspecified| SecretError::new(Role::Edge, Problem::Unusable))
    }

    /// The secret as one line, without its end.
    pub fn to_text(&self) -> String {
        let mut bytes = [0; 2 * KEY_LENGTH];
        let (seed, agents) = bytes.split_at_mut(KEY_LENGTH);
        seed.copy_from_slice(&self.seed);
        agents.copy_from_slice(&self.agents.0);
        text::write(Role::Edge, &bytes)
    }

    /// What an edge signs with.
    pub const fn key_pair(&self) -> &Ed25519KeyPair {
        &self.own
    }

    /// By what an agent knows the edges.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn public_key(&self) -> Result<PublicKey, Unspecified> {
        PublicKey::of(&self.own)
    }

    /// By what an edge knows the agents.
    pub const fn agents(&self) -> PublicKey {
        self.agents
    }
}

impl fmt::Debug for AgentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSecret").finish_non_exhaustive()
    }
}

impl fmt::Debug for EdgeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeSecret").field("agents", &self.agents).finish_non_exhaustive()
    }
}

fn derive(secret: &[u8; KEY_LENGTH], purpose: &[u8]) -> Result<[u8; KEY_LENGTH], Unspecified> {
    let mut seed = [0; KEY_LENGTH];
    let extracted = Salt::new(HKDF_SHA256, SALT).extract(secret);
    extracted.expand(&[purpose], HKDF_SHA256)?.fill(&mut seed)?;
    Ok(seed)
}

fn key_pair(seed: &[u8; KEY_LENGTH]) -> Result<Ed25519KeyPair, Unspecified> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_: KeyRejected| Unspecified)
}

#[cfg(test)]
mod tests;
