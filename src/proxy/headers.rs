//! Header fields on their way through: what belongs to one connection is taken off, what tells the
//! replica about the client is put on.
//!
//! The order matters. A client may write `Connection: x-forwarded-for, host`; stripping must come
//! first, or it would remove what we set.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::http1::members;
use crate::proxy::admission::Target;
use crate::proxy::credential::Credential;
use crate::spec::Protocol;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The part of the path that `strip-prefix` removed.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is meant for one connection only, besides `Connection` and what it names.
const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// More names than this in `Connection` are no honest request's.
const MOST_NOMINATED: usize = 32;

/// What a connection's requests have in common: values are made once.
#[derive(Clone, Debug)]
pub struct ClientSide {
    /// The peer's address, IPv4 also where it came mapped into IPv6.
    pub peer: IpAddr,
    peer_text: HeaderValue,
    /// The listener's port.
    port: HeaderValue,
    /// `http` or `https`.
    scheme: HeaderValue,
    /// Whether the peer is one of the listener's `trusted-proxies`.
    pub trusted: bool,
    /// What every request to an HTTP/1 replica says about it, as lines of a head.
    lines: Bytes,
    /// The version of TLS, once it is known.
    pub tls: Option<&'static str>,
    /// Who the client is by its certificate.
    pub credential: Credential,
}

impl ClientSide {
    /// The client side of a connection from `peer` to a listener on `port`, with or without TLS.
    pub fn new(peer: IpAddr, port: u16, tls: bool, trusted_proxies: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let text = |text: String| {
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        };
        let scheme = if tls { "https" } else { "http" };
        let lines = format!(
            "x-forwarded-for: {peer}\r\nx-forwarded-proto: {scheme}\r\n\
             x-forwarded-port: {port}\r\nx-real-ip: {peer}\r\n"
        );
        Self {
            peer,
            peer_text: text(peer.to_string()),
            port: HeaderValue::from(port),
            scheme: HeaderValue::from_static(scheme),
            lines: Bytes::from(lines),
            trusted: trusted_proxies.iter().any(|network| network.contains(&peer)),
            tls: None,
            credential: Credential::Clear,
        }
    }

    /// Whether the client itself speaks TLS: to us, or to a trusted proxy that says so.
    pub fn is_secure(&self, headers: &HeaderMap) -> bool {
        let told = || headers.get(X_FORWARDED_PROTO).is_some_and(|told| told == "https");
        self.scheme == "https" || (self.trusted && told())
    }

    /// The peer's address, in text.
    pub fn peer_text(&self) -> &[u8] {
        self.peer_text.as_bytes()
    }

    /// The address of the client itself: the peer's, unless that is a trusted proxy, which tells it.
    /// The last address that is not a trusted proxy's counts; those before it can be made up. None if
    /// what stands there cannot be read: it is somebody, but nobody who could be let in for who he is.
    pub fn client(&self, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Option<IpAddr> {
        if !self.trusted {
            return Some(self.peer);
        }
        let told = headers.get_all(X_FORWARDED_FOR).iter();
        // Bytes: what is no text may stand beside an address, and must not hide it.
        let told = told.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
        let addresses: Vec<_> = told.map(address).collect();
        let mut client = self.peer;
        for address in addresses.into_iter().rev() {
            client = address?.to_canonical();
            if !trusted_proxies.iter().any(|network| network.contains(&client)) {
                break;
            }
        }
        Some(client)
    }
}

/// An address as proxies write it, some of them with the port.
fn address(told: &[u8]) -> Option<IpAddr> {
    let told = std::str::from_utf8(told).ok()?.trim();
    let with_port = || told.parse().map(|address: SocketAddr| address.ip());
    told.parse().or_else(|_| with_port()).ok()
}

/// Makes a request's fields those of the request to the replica. `upgrade` is the protocol that
/// the client asks to change to, if that is to be passed on.
///
/// Returns what is to be said about the client besides, as lines of an HTTP/1 head: they are the same
/// for all requests of a connection, and to put them among the others would cost more than all else
/// here.
pub fn prepare_request(
    headers: &mut HeaderMap,
    client: &ClientSide,
    target: &Target,
    upgrade: Option<HeaderValue>,
    request_id: HeaderValue,
    protocol: Protocol,
) -> Bytes {
    let wants_trailers =
        members(headers, TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    join_cookies(headers);
    set_forwarded(headers, client, target, request_id);
    fit_protocol(headers, protocol, client, target)
}

/// Fits the fields to the protocol that a replica speaks.
fn fit_protocol(
    headers: &mut HeaderMap,
    protocol: Protocol,
    client: &ClientSide,
    target: &Target,
) -> Bytes {
    match protocol {
        Protocol::Http => {
            // The field belongs to the connection, and nothing in HTTP/1 depends on it.
            headers.remove(TE);
            headers.insert(HOST, target.host_field.clone());
            if client.trusted { Bytes::new() } else { client.lines.clone() }
        }
        // The authority goes into `:authority` (RFC 9113, section 8.3.1). Whether a replica with TLS
        // speaks HTTP/1.1 is known only by its connection (`exchange::for_http1`).
        Protocol::H2c | Protocol::Grpc | Protocol::Https | Protocol::Grpcs => {
            headers.remove(HOST);
            if !client.trusted {
                headers.insert(X_FORWARDED_FOR, client.peer_text.clone());
                headers.insert(X_FORWARDED_PROTO, client.scheme.clone());
                headers.insert(X_FORWARDED_PORT, client.port.clone());
                headers.insert(X_REAL_IP, client.peer_text.clone());
            }
            Bytes::new()
        }
    }
}

/// The id that a prepared request is passed on with.
pub fn request_id(headers: &HeaderMap) -> &[u8] {
    headers.get(X_REQUEST_ID).map_or(&[], HeaderValue::as_bytes)
}

/// Takes off what is meant for one connection only (RFC 9110, section 7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    // One look at each name costs less than a search for each of these.
    if headers.keys().any(is_hop_by_hop) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 16 | 17 | 18 | 19) && HOP_BY_HOP.contains(name)
}

/// The names that `Connection` lists, but for those that a client must not take off.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = members(headers, CONNECTION);
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    names.filter(|name| !is_protected(name)).take(MOST_NOMINATED).collect()
}

fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host"
            | "authorization"
            | "cookie"
            | "content-length"
            | "content-type"
            | "content-encoding"
    ) || speaks_of_client(name)
        || name == "x-request-id"
}

/// Whether a field tells where a request comes from or what it asked for, which only we may.
/// Replicas that read `X_Forwarded_For` as `X-Forwarded-For` are why `_` counts as `-`. `Proxy` is
/// among them since CGI makes `HTTP_PROXY` of it, which programs take for their own proxy.
fn speaks_of_client(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "proxy",
    ];
    const BEGINNINGS: [&str; 7] = [
        "x-forwarded",
        "x-client-cert",
        // RFC 9440, section 4.
        "client-cert",
        "x-ssl-",
        "ssl-client-",
        "x-original-",
        "x-rewrite-",
    ];
    // Most names begin with another letter; the rest is rare enough to look at closely.
    if !name.starts_with(['f', 'x', 's', 't', 'c', 'p']) {
        return false;
    }
    let same = |a: u8, b: u8| a == b || (a == b'_' && b == b'-');
    let begins = |with: &str| {
        name.len() >= with.len() && name.bytes().zip(with.bytes()).all(|(a, b)| same(a, b))
    };
    NAMES.iter().any(|whole| name.len() == whole.len() && begins(whole))
        || BEGINNINGS.iter().any(|beginning| begins(beginning))
}

/// HTTP/2 splits cookies over several fields; HTTP/1 has one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::try_from(joined) {
        headers.insert(COOKIE, joined);
    }
}

fn set_forwarded(
    headers: &mut HeaderMap,
    client: &ClientSide,
    target: &Target,
    request_id: HeaderValue,
) {
    if client.trusted {
        let told = headers.get_all(X_FORWARDED_FOR).iter();
        let mut list: Vec<&[u8]> = told.map(HeaderValue::as_bytes).collect();
        list.push(client.peer_text.as_bytes());
        let list = HeaderValue::try_from(list.join(&b", "[..]));
        headers.insert(X_FORWARDED_FOR, list.unwrap_or_else(|_| client.peer_text.clone()));
        for (name, value) in [
            (X_FORWARDED_PROTO, client.scheme.clone()),
            (X_FORWARDED_HOST, target.host_field.clone()),
            (X_FORWARDED_PORT, client.port.clone()),
            (X_REAL_IP, client.peer_text.clone()),
            (X_REQUEST_ID, request_id),
        ] {
            headers.entry(name).or_insert(value);
        }
        return;
    }
    if headers.keys().any(|name| speaks_of_client(name.as_str())) {
        let forged: Vec<_> =
            headers.keys().filter(|name| speaks_of_client(name.as_str())).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    }
    headers.insert(X_FORWARDED_HOST, target.host_field.clone());
    headers.insert(X_REQUEST_ID, request_id);
}

#[cfg(test)]
mod tests;
