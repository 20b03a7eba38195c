//! Bytes into the head of a response, and where its body ends.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::http1::chunked::Chunked;
use crate::http1::{MAX_FIELDS, MAX_HEAD, Malformed, members};

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// Its status; never 100 to 199 but 101.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection may take another request after the body.
    pub keep_alive: bool,
}

/// Where the body of a response ends (RFC 9112, section 6.3).
#[derive(Debug)]
pub enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// Where its last chunk says so.
    Chunked(Chunked),
    /// Where the connection does.
    UntilClose,
}

/// Reads a head from the front of what has come; none if there is more of it to come. Interim
/// responses are passed over. `method` is the request's.
///
/// # Errors
/// If it is no head, if it is too large, or if its body could end in two places: then whoever reads
/// it in the other way could be made to take a part of one response for another.
pub fn read_head(from: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    loop {
        if !begins_like_a_head(from) {
            return Err(Malformed);
        }
        let Some(length) = head_length(from) else {
            return if from.len() > MAX_HEAD { Err(Malformed) } else { Ok(None) };
        };
        if length > MAX_HEAD {
            return Err(Malformed);
        }
        let head = parse(&from.split_to(length).freeze(), method)?;
        let interim = head.status.is_informational();
        if !interim || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

/// Whether it is a head, or more bytes can make one of it. What never will is not waited for.
fn begins_like_a_head(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"HTTP/1.";
    bytes.iter().zip(BEGINNING).all(|(came, expected)| came == expected)
}

/// Bytes up to and with the empty line, which ends a head.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let line_end = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
        let rest = bytes.get(line_end + 1..)?;
        match rest {
            // Some old servers end lines with this alone, and everybody reads it.
            [b'\n', ..] => return Some(line_end + 2),
            [b'\r', b'\n', ..] => return Some(line_end + 3),
            _ => from = line_end + 1,
        }
    }
}

fn parse(bytes: &Bytes, method: &Method) -> Result<Head, Malformed> {
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)
        .map_err(|_| Malformed)?;
    if read != httparse::Status::Complete(bytes.len()) {
        return Err(Malformed);
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| Malformed)?);
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let framing = framing(&headers, status, version, method)?;
    let keep_alive = keeps_alive(&headers, version) && !matches!(framing, Framing::UntilClose);
    Ok(Head { status, headers, framing, keep_alive })
}

fn framing(
    headers: &HeaderMap,
    status: StatusCode,
    version: Version,
    method: &Method,
) -> Result<Framing, Malformed> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return Err(Malformed);
    }
    let framing = match (coding, length) {
        (None, None) => Framing::UntilClose,
        (None, Some(length)) => Framing::Length(number(length)?),
        // Another coding would have been used unasked: we never send `TE` with one.
        (Some(coding), None)
            if version == Version::HTTP_11
                && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Framing::Chunked(Chunked::default())
        }
        (Some(_), _) => return Err(Malformed),
    };
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if bodiless { Framing::Length(0) } else { framing })
}

/// Digits and nothing else: `str::parse` would take a sign.
fn number(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.to_str().map_err(|_| Malformed)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    digits.parse().map_err(|_| Malformed)
}

fn keeps_alive(headers: &HeaderMap, version: Version) -> bool {
    let names = |wanted: &[u8]| {
        members(headers, CONNECTION).any(|option| option.eq_ignore_ascii_case(wanted))
    };
    if version == Version::HTTP_11 { !names(b"close") } else { names(b"keep-alive") }
}

#[cfg(test)]
mod tests;
