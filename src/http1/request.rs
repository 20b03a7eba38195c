//! Requests into bytes.
//!
//! Nothing needs to be checked here: methods, targets, names and values are of types that hold no
//! line break.

use http::header::TRAILER;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::http1::members;

/// Behind the last piece of a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes a request line and the fields below it (RFC 9112, sections 3 and 5). The target is in
/// origin form. `lines` are more fields, each ended by a line break.
pub fn write_head(to: &mut Vec<u8>, head: &Parts, lines: &[u8]) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    for piece in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        to.extend_from_slice(piece.as_bytes());
    }
    write_fields(to, &head.headers);
    to.extend_from_slice(lines);
    to.extend_from_slice(b"\r\n");
}

fn write_fields(to: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        to.extend_from_slice(name.as_str().as_bytes());
        to.extend_from_slice(b": ");
        to.extend_from_slice(value.as_bytes());
        to.extend_from_slice(b"\r\n");
    }
}

/// Writes the size line in front of a piece of a chunked body (section 7.1). After the piece comes
/// a line break.
pub fn write_chunk_size(to: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (4 * place)) & 0xf;
        to.extend(DIGITS.get(digit));
    }
    to.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with those trailers that the head has announced and that say
/// nothing about framing or routing (section 7.1.2 and RFC 9110, section 6.5.1).
pub fn write_last_chunk(to: &mut Vec<u8>, trailers: &HeaderMap, announced: &[HeaderName]) {
    to.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| announced.contains(name)) {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            to.extend_from_slice(piece);
        }
    }
    to.extend_from_slice(b"\r\n");
}

/// The trailers that a head announces, but for those that must not be any.
pub fn announced_trailers(fields: &HeaderMap) -> Vec<HeaderName> {
    let names = members(fields, TRAILER).filter_map(|name| HeaderName::from_bytes(name).ok());
    names.filter(may_trail).collect()
}

/// Whether a field may stand behind a body: it must not frame, route, authenticate or modify the
/// request (RFC 9110, section 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "max-forwards"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-real-ip"
            | "x-request-id"
    ) && !name.as_str().starts_with("x-forwarded")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn a_head_is_written_line_by_line() {
        let request = Request::post("/a?b=c").header("host", "shop").header("x-empty", "");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut bytes = Vec::new();
        write_head(&mut bytes, &head, b"x-more: 1\r\n");
        let expected = "POST /a?b=c HTTP/1.1\r\nhost: shop\r\nx-empty: \r\nx-more: 1\r\n\r\n";
        assert_eq!(bytes, expected.as_bytes());
    }

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        let written = |size| {
            let mut bytes = Vec::new();
            write_chunk_size(&mut bytes, size);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(written(1), "1\r\n");
        assert_eq!(written(0x10), "10\r\n");
        assert_eq!(written(0xfab), "fab\r\n");
        assert_eq!(written(usize::MAX), "ffffffffffffffff\r\n");
    }

    #[test]
    fn only_announced_trailers_that_are_harmless_are_written() {
        let mut head = HeaderMap::new();
        head.insert("trailer", HeaderValue::from_static("X-Sum, Content-Length"));
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "content-length", "x-other"] {
            trailers.insert(name, HeaderValue::from_static("7"));
        }
        let mut bytes = Vec::new();
        write_last_chunk(&mut bytes, &trailers, &announced_trailers(&head));
        assert_eq!(bytes, b"0\r\nx-sum: 7\r\n\r\n");
    }
}
