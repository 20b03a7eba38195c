//! What ties requests to replicas, computed alike on every edge: marks of replicas and keys of requests.
//!
//! A replica is known by its slot (in a global service by its node), not by its address: all edges see
//! the same slots, and a task that takes another one's place takes its sessions, too. Cookies are in
//! [`cookie`]; which replica a mark or a key leads to is decided in `balance`.

pub mod cookie;

use std::fmt;
use std::num::NonZeroU64;

use aws_lc_rs::hmac::{HMAC_SHA256, Key as HmacKey, sign};

/// Hexadecimal digits of a mark.
const DIGITS: usize = 16;

/// What stands for a slot of a service, in cookies and in rankings.
///
/// It is a keyed hash, so that a cookie tells neither names nor addresses. The key is the service's
/// id: all edges know it, Swarm draws it at random, and it goes to no client. It protects no more
/// than that: who is given a mark may use it, and who makes one up reaches a replica that anybody
/// can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(NonZeroU64);

impl Mark {
    /// The mark of a slot. `slot` is what tells a replica from its siblings across restarts.
    pub fn of_slot(service_id: &str, service: &str, slot: &str) -> Self {
        let key = HmacKey::new(HMAC_SHA256, service_id.as_bytes());
        let tag = sign(&key, format!("{service}\0{slot}").as_bytes());
        let first = tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self(nonzero(first))
    }

    /// A mark as a cookie has it: 16 hexadecimal digits in lower case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.iter().all(digit) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        u64::from_str_radix(text, 16).ok().and_then(Self::from_bits)
    }

    /// The mark of these bits, as an atomic keeps them; none for 0.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// Its bits.
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What of a request is hashed, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(NonZeroU64);

impl Key {
    /// The key of some bytes: FNV-1a, which is short, well mixed by [`Self::rank`], and the same in
    /// every version. A client can choose where its requests go; bounded load makes nothing of it.
    pub fn of(bytes: &[u8]) -> Self {
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let hash =
            bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
        Self(nonzero(hash))
    }

    /// How much this key prefers a replica to others, the higher the more (rendezvous hashing, Thaler
    /// and Ravishankar 1998). When a replica leaves, only what ranked it highest goes elsewhere.
    pub const fn rank(self, mark: u64) -> u64 {
        mix(self.0.get() ^ mark)
    }
}

/// What a request asks of balancing besides a replica that can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The replica that its session is on.
    pub session: Option<Mark>,
    /// What is hashed to choose a replica; none to balance by load.
    pub key: Option<Key>,
    /// Whether its connection is to change to another protocol, which only one of HTTP/1.1 can.
    pub upgrades: bool,
}

fn nonzero(bits: u64) -> NonZeroU64 {
    NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN)
}

/// Spreads every bit over all others (the finalizer of `SplitMix64`, Steele 2014).
const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mark_depends_on_service_and_slot_alone_and_names_neither() {
        let mark = Mark::of_slot("k9s1", "shop_web", "3");
        assert_eq!(mark.to_string(), "57422c8c6b34ccc7", "the same on all edges of all versions");
        for (id, service, slot) in
            [("k9s2", "shop_web", "3"), ("k9s1", "shop_api", "3"), ("k9s1", "shop_web", "4")]
        {
            assert_ne!(Mark::of_slot(id, service, slot), mark);
        }
        assert_eq!(
            Key::of(b"203.0.113.7").rank(mark.bits()),
            11_217_795_866_452_941_487,
            "and so are ranks"
        );
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_is_written(bits in 1_u64..) {
            let mark = Mark::from_bits(bits).unwrap();
            prop_assert_eq!(Mark::parse(mark.to_string().as_bytes()), Some(mark));
        }

        #[test]
        fn nothing_else_is_read_as_a_mark(text: Vec<u8>) {
            if let Some(mark) = Mark::parse(&text) {
                prop_assert_eq!(mark.to_string().into_bytes(), text);
            }
        }
    }
}
