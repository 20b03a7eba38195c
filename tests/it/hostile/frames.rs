//! Frames of HTTP/2 as the cases write them, and as they come back: no library that would refuse to
//! send what is wrong (RFC 9113, section 4.1). Fields are literals of HPACK, never Huffman-coded.

use super::case::unescape;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const TYPES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

const REASONS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame as it came.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The number of a frame's type.
pub(crate) fn kind(name: &str) -> u8 {
    let at = TYPES.iter().position(|known| *known == name);
    at.map_or_else(|| name.parse().unwrap(), |at| u8::try_from(at).unwrap())
}

/// The bytes of one frame. The length is that of the payload, whatever is allowed.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a GET, with its end.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(kind("HEADERS"), END_STREAM | END_HEADERS, stream, &usual_fields("GET", path))
}

fn usual_fields(method: &str, path: &str) -> Vec<u8> {
    let fields =
        [(":method", method), (":scheme", "http"), (":authority", "shop.test"), (":path", path)];
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// A literal field without indexing (RFC 7541, section 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // An integer with a prefix of seven bits (section 5.1).
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).unwrap());
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(0x80 | u8::try_from(rest % 128).unwrap());
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend(text);
    }
    bytes
}

/// Makes bytes of the lines of a case.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    stream: u32,
}

impl Encoder {
    /// The bytes of all frames; the stream before the first one is `stream`.
    pub(crate) fn encode(lines: &[String], stream: u32) -> Vec<u8> {
        let mut encoder = Self { bytes: Vec::new(), stream };
        let mut lines = lines.iter().filter(|line| *line != "<fin>").peekable();
        while let Some(line) = lines.next() {
            let mut fields = Vec::new();
            while let Some(field) = lines.next_if(|line| line.starts_with("  ")) {
                fields.extend(encode_field(field.trim_start()));
            }
            let (times, frames) = match line.split_once(" x ") {
                Some((times, frames)) => (times.parse().unwrap(), frames),
                None => (1, line.as_str()),
            };
            for _ in 0..times {
                frames.split("; ").for_each(|frame| encoder.add(frame, &fields));
            }
        }
        encoder.bytes
    }

    fn add(&mut self, line: &str, fields: &[u8]) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "raw" {
            let mut parts = rest.splitn(4, ' ');
            let kind = kind(parts.next().unwrap());
            let flags = u8::from_str_radix(parts.next().unwrap(), 16).unwrap();
            let stream = self.number(parts.next().unwrap());
            let payload = unescape(parts.next().unwrap_or_default());
            self.bytes.extend(frame(kind, flags, stream, &payload));
            return;
        }
        let (stream, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let stream = self.number(stream);
        let (end, rest) = option(rest, "end", END_STREAM, 0);
        let (whole, rest) = option(rest, "more", 0, END_HEADERS);
        let (kind, flags, payload) = match word {
            "get" => (1, END_STREAM | whole, usual_fields("GET", rest)),
            "post" => (1, end | whole, usual_fields("POST", rest)),
            "headers" => (1, end | whole, Vec::new()),
            "continuation" => (9, whole, Vec::new()),
            "data" => (0, end, unescape(rest)),
            _ => panic!("{word} is no frame"),
        };
        self.bytes.extend(frame(kind, flags, stream, &[&payload, fields].concat()));
    }

    fn number(&mut self, text: &str) -> u32 {
        match text {
            "=" => {}
            "+" => self.stream = if self.stream == 0 { 1 } else { self.stream + 2 },
            number => self.stream = number.parse().unwrap(),
        }
        self.stream
    }
}

/// Takes a word off the beginning of a line; says which of two flags that means.
fn option<'l>(line: &'l str, word: &str, there: u8, absent: u8) -> (u8, &'l str) {
    match line.strip_prefix(word) {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => (there, rest.trim_start()),
        Some(_) | None => (absent, line),
    }
}

/// `name: value`, or `= bytes` for a piece of the block as it is.
fn encode_field(line: &str) -> Vec<u8> {
    if let Some(raw) = line.strip_prefix("= ") {
        return unescape(raw);
    }
    let at = line[1..].find(": ").map(|at| at + 1);
    let (name, value) = at.map_or((line.trim_end_matches(':'), ""), |at| line.split_at(at));
    literal(&unescape(name), &unescape(value.strip_prefix(": ").unwrap_or_default()))
}

impl Frame {
    /// Takes a frame off the beginning of what has come.
    pub(crate) fn take(unread: &mut Vec<u8>) -> Option<Self> {
        let head = unread.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = unread.get(9..9 + length)?.to_vec();
        unread.drain(..9 + length);
        Some(Self { kind, flags, stream, payload })
    }

    pub(crate) fn ends_stream(&self) -> bool {
        self.kind <= 1 && self.flags & END_STREAM != 0
    }

    /// The reason in a RST_STREAM, or in a GOAWAY behind the last stream.
    pub(crate) fn reason(&self) -> &'static str {
        let at = if self.kind == kind("GOAWAY") { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().map(u32::from_be_bytes).unwrap();
        REASONS[code as usize]
    }

    /// The status in the head of a response, where it is the first field. Nothing is indexed, since
    /// the client allows a table of no size.
    pub(crate) fn status(&self) -> String {
        let skipped = self.payload.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
        let block = &self.payload[skipped..];
        match block[0] {
            at @ 0x88..=0x8e => {
                ["200", "204", "206", "304", "400", "404", "500"][usize::from(at - 0x88)].to_owned()
            }
            0x48 | 0x08 | 0x18 if block[1] & 0x80 != 0 => {
                digits(&block[2..2 + usize::from(block[1] & 0x7f)])
            }
            0x48 | 0x08 | 0x18 => String::from_utf8(block[2..5].to_vec()).unwrap(),
            other => panic!("a head that begins with {other:#x}"),
        }
    }
}

/// Three digits in the Huffman code (RFC 7541, appendix B): 0, 1 and 2 have five bits, others six.
fn digits(coded: &[u8]) -> String {
    let mut bits =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1)));
    let mut next = |count| (0..count).fold(0, |code, _| code << 1 | bits.next().unwrap_or(1));
    let mut text = String::new();
    for _ in 0..3 {
        let five = next(5);
        let digit = if five <= 2 { five } else { (five << 1 | next(1)) - 0x19 + 3 };
        text.push(char::from_digit(digit, 10).unwrap());
    }
    text
}

#[test]
fn digits_are_read_as_they_are_coded() {
    // 405: 011010 00000 011011, filled with ones.
    assert_eq!(digits(&[0b0110_1000, 0b0000_1101, 0b1111_1111]), "405");
}
