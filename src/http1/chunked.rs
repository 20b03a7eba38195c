//! Chunked bodies (RFC 9112, section 7.1), read as they come.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::{MAX_HEAD, Malformed};

/// Bytes of a size line. Extensions are dropped; nobody uses them but attackers.
const MAX_LINE: usize = 256;

/// Fields behind a body.
const MAX_TRAILERS: usize = 32;

/// How far a chunked body has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    at: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the size of a chunk.
    #[default]
    Size,
    /// So many bytes before the end of one.
    Data(u64),
    /// Before the line break that ends one.
    Break,
    /// Behind the last one.
    Trailers,
    /// Behind everything.
    End,
}

/// A part of the body.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Some of its bytes.
    Data(Bytes),
    /// The fields behind it; the body is over.
    Trailers(HeaderMap),
    /// The body is over.
    End,
}

impl Chunked {
    /// Whether all of the body has been read.
    pub fn is_over(&self) -> bool {
        self.at == Place::End
    }

    /// Takes the next piece from the front of what has come; none if there is more to come before.
    ///
    /// # Errors
    /// If it is not chunked. Only what the RFC allows is read: where readers differ, one of them is
    /// wrong about where the next response begins.
    pub fn read(&mut self, from: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.at {
                Place::Size => {
                    let Some(line) = take_line(from)? else {
                        return Ok(None);
                    };
                    let size = chunk_size(&line)?;
                    self.at = if size == 0 { Place::Trailers } else { Place::Data(size) };
                }
                Place::Data(_) if from.is_empty() => return Ok(None),
                Place::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(from.len());
                    let left = left - here as u64;
                    self.at = if left == 0 { Place::Break } else { Place::Data(left) };
                    return Ok(Some(Piece::Data(from.split_to(here).freeze())));
                }
                Place::Break => match from.get(..2) {
                    Some(b"\r\n") => {
                        from.advance(2);
                        self.at = Place::Size;
                    }
                    Some(_) => return Err(Malformed),
                    None => return Ok(None),
                },
                Place::Trailers => {
                    let trailers = read_trailers(from)?;
                    if trailers.is_some() {
                        self.at = Place::End;
                    }
                    return Ok(trailers.map(|trailers| {
                        if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) }
                    }));
                }
                Place::End => return Ok(Some(Piece::End)),
            }
        }
    }
}

/// A line without its end; none if that has not come yet.
fn take_line(from: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', from.get(..MAX_LINE).unwrap_or(from)) else {
        return if from.len() >= MAX_LINE { Err(Malformed) } else { Ok(None) };
    };
    let mut line = from.split_to(end + 1);
    let without_end = line.strip_suffix(b"\r\n").ok_or(Malformed)?.len();
    line.truncate(without_end);
    Ok(Some(line))
}

/// The number at the front of a size line.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at_checked(digits).ok_or(Malformed)?;
    let extension = extension.trim_ascii_start();
    let is_extension = extension.is_empty() || extension.starts_with(b";");
    if !is_extension || extension.contains(&b'\r') || !(1..=16).contains(&digits.len()) {
        return Err(Malformed);
    }
    let value = |byte: &u8| char::from(*byte).to_digit(16).map_or(0, u64::from);
    Ok(digits.iter().fold(0, |size, digit| size << 4 | value(digit)))
}

/// The fields up to the empty line; none if that has not come yet.
fn read_trailers(from: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if from.starts_with(b"\r\n") {
        from.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(from, &mut fields).map_err(|_| Malformed)? {
        httparse::Status::Partial if from.len() > MAX_HEAD => Err(Malformed),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete((length, fields)) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
                trailers.append(name, value);
            }
            from.advance(length);
            Ok(Some(trailers))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a body that comes in these parts, and shows it with its trailers and what is left.
    fn read<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
        let (mut chunked, mut bytes) = (Chunked::default(), BytesMut::new());
        let (mut body, mut end) = (Vec::new(), "unfinished".to_owned());
        for part in parts {
            bytes.extend_from_slice(part);
            while !chunked.is_over() {
                match chunked.read(&mut bytes) {
                    Err(Malformed) => return "malformed".to_owned(),
                    Ok(None) => break,
                    Ok(Some(Piece::Data(data))) => body.extend_from_slice(&data),
                    Ok(Some(Piece::End)) => end = "end".to_owned(),
                    Ok(Some(Piece::Trailers(trailers))) => {
                        let fields = trailers.iter();
                        let fields = fields.map(|(n, v)| format!("{n}={}", v.to_str().unwrap()));
                        end = fields.collect::<Vec<_>>().join(" ");
                    }
                }
            }
        }
        let left = String::from_utf8_lossy(&bytes).into_owned();
        format!("{} {end} {left}", String::from_utf8_lossy(&body)).trim().to_owned()
    }

    fn check(body: &str, expected: &str) {
        let body = body.replace('|', "\r\n");
        assert_eq!(read([body.as_bytes()]), expected, "{body:?}");
        let mut each = body.as_bytes().chunks(1);
        assert_eq!(read(std::iter::from_fn(|| each.next())), expected, "{body:?} by bytes");
    }

    #[test]
    fn chunks_are_put_together() {
        check("5|hello|6| world|0||", "hello world end");
        check("A|0123456789|0||HTTP/1.1", "0123456789 end HTTP/1.1");
        check("3;name=value|abc|0;x||", "abc end");
        check("000003|abc|0||", "abc end");
        check("3|abc|0|X-Sum: 7|Y: z||", "abc x-sum=7 y=z");
        check("3|ab", "ab unfinished");
    }

    #[test]
    fn what_readers_could_disagree_about_is_malformed() {
        for body in [
            "0x3|abc|0||",
            "-3|abc|0||",
            "+3|abc|0||",
            "|abc|0||",
            "3 3|abc|0||",
            "3,3|abc|0||",
            "g|abc|0||",
            "3\nabc|0||",
            "3;\rx|abc|0||",
            "11111111111111111|abc|0||",
            "3|abcd|0||",
            "3|abc\n0||",
            "3|abc|0|bad field||",
        ] {
            let body = body.replace('|', "\r\n");
            assert_eq!(read([body.as_bytes()]), "malformed", "{body:?}");
        }
        let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(MAX_LINE));
        assert_eq!(read([long.as_bytes()]), "malformed");
    }

    proptest! {
        #[test]
        fn a_body_is_read_whole_however_it_is_cut(
            pieces in prop::collection::vec("[a-z]{1,40}", 0..6), cut in 1_usize..30,
        ) {
            let mut wire = Vec::new();
            for piece in &pieces {
                crate::http1::request::write_chunk_size(&mut wire, piece.len());
                wire.extend_from_slice(piece.as_bytes());
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(crate::http1::request::LAST_CHUNK);
            let whole = format!("{} end", pieces.concat());
            prop_assert_eq!(read(wire.chunks(cut)), whole.trim());
        }

        #[test]
        fn any_bytes_are_a_body_or_none(
            bytes in prop::collection::vec(prop::sample::select(b"0123fF;\r\n xX:".to_vec()), 0..60),
        ) {
            let _ = read([&bytes[..]]);
        }
    }
}
