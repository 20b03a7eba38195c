//! HTTP/1.1 as it is spoken with replicas (RFC 9112): requests into bytes, bytes into responses.
//!
//! Without sockets. A client that does both on the task of its request needs no second task, no
//! channel between them, and no copy of a head that may have to be sent again.

pub mod chunked;
pub mod request;
pub mod response;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The members of a field that is a list, on however many lines (RFC 9110, section 5.6.1).
pub fn members(fields: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lists = fields.get_all(name).iter().map(HeaderValue::as_bytes);
    lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Bytes of a response's head, and of the trailers behind a body. Set-Cookie and
/// Content-Security-Policy grow long; what is longer than this is no head.
pub const MAX_HEAD: usize = 64 << 10;

/// Fields of a response's head.
pub const MAX_FIELDS: usize = 128;

/// What a replica sent is not HTTP, or can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica's bytes are not a response")]
pub struct Malformed;
