//! What a request says about the replica it should go to, and what its client is told about the one
//! that it went to.
//!
//! The cookie goes on to the replica like all others, as with other proxies, and `Cache-Control` is
//! left alone: a service that lets shared caches keep responses to its sessions has other problems.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::affinity::{Key, Mark, Wish, cookie};
use crate::proxy::Client;
use crate::snapshot::Route;
use crate::spec::{Balance, HashBy};
use crate::upstream::Endpoint;

impl Client {
    /// What a request asks of balancing.
    ///
    /// A session whose replica is gone is balanced by a hash of the client's address: all requests
    /// of a page go to the same new replica then, whichever edge has them, and sessions of one
    /// replica still go to many.
    pub(super) fn wish(&self, route: &Route, fields: &HeaderMap) -> Wish {
        let policy = route.policy();
        let session = session(route, fields);
        let key = match &policy.balance {
            Balance::Hash(HashBy::ClientIp) => self.address_key(fields),
            Balance::Hash(HashBy::Header(name)) => {
                fields.get(name).map(|value| Key::of(value.as_bytes()))
            }
            Balance::Hash(HashBy::Cookie(name)) => find_cookie(fields, name).map(Key::of),
            Balance::LeastRequest | Balance::RoundRobin | Balance::Ewma => {
                session.and_then(|_| self.address_key(fields))
            }
        };
        Wish { session, key, upgrades: false }
    }

    /// By the client's own address; none if a trusted proxy does not tell it.
    fn address_key(&self, fields: &HeaderMap) -> Option<Key> {
        let client = self.side.client(fields, &self.policy()?.trusted_proxies)?;
        Some(match client {
            std::net::IpAddr::V4(address) => Key::of(&address.octets()),
            std::net::IpAddr::V6(address) => Key::of(&address.octets()),
        })
    }
}

/// The replica that a request's cookie names.
fn session(route: &Route, fields: &HeaderMap) -> Option<Mark> {
    Mark::parse(find_cookie(fields, route.policy().sticky.as_deref()?)?)
}

/// Whether a request's session is on a replica of this route: of the sides of a canary one holds it.
pub(super) fn is_held(route: &Route, fields: &HeaderMap) -> bool {
    let session = session(route, fields);
    session.is_some() && route.upstream.endpoints().iter().any(|at| at.mark() == session)
}

fn find_cookie<'f>(fields: &'f HeaderMap, name: &str) -> Option<&'f [u8]> {
    cookie::find(fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes), name)
}

/// Tells the client which replica its session is on, if that is another one than it said.
pub(super) fn tie(
    route: &Route,
    wish: Wish,
    endpoint: &Endpoint,
    fields: &mut HeaderMap,
    is_secure: bool,
) {
    let Some(name) = &route.policy().sticky else {
        return;
    };
    let mark = endpoint.mark();
    if mark != wish.session
        && let Some(cookie) = mark.and_then(|mark| cookie::set(name, mark, is_secure))
    {
        fields.append(SET_COOKIE, cookie);
    }
}
