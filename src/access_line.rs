//! One line of the access log: what was asked, and what became of it.
//!
//! A [`Line`] is written in two parts. What a request's head says is formatted when it comes, so that
//! nothing of the head is kept for as long as the request lasts; the outcome is added at its end. Who
//! collects lines and writes them is `telemetry`. Query strings, credentials and bodies are left out.

mod calendar;

use std::time::Duration;

use crate::access_line::calendar::push_time;

/// No line is longer, in bytes: pipes take that much in one piece (`PIPE_BUF`), so that lines of
/// several writers do not mix.
pub const LONGEST: usize = 4096;

/// Bytes of a path that are written, after escaping.
pub const LONGEST_PATH: usize = 1024;
/// The same of names: of a host, a user agent, a route.
const LONGEST_NAME: usize = 256;
/// The same of what is short with all honest clients.
const LONGEST_WORD: usize = 64;

/// Stands at the end of what was cut off.
const CUT: &str = "…";

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object; what is not known has no field.
    Json,
    /// For reading: the request as it came, then `name=value`.
    Text,
}

/// What a request's head says.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// When it came, in microseconds since 1970.
    pub unix_micros: u64,
    /// The client's own address.
    pub client: &'a [u8],
    /// The listener's name.
    pub listener: &'a str,
    /// The method as it came.
    pub method: &'a str,
    /// The host as it came; empty if there is none.
    pub host: &'a [u8],
    /// The path as it came, without the query.
    pub path: &'a str,
    /// `HTTP/1.1` or the like.
    pub protocol: &'static str,
    /// Version of TLS that the client speaks with us; none in clear text.
    pub tls: Option<&'static str>,
    /// What the client says that it is.
    pub user_agent: Option<&'a [u8]>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome<'a> {
    /// As in the metrics: 499 for a client that left.
    pub status: u16,
    /// Why we answered ourselves.
    pub reason: Option<&'static str>,
    /// Route and service; none if no route took it.
    pub route: Option<(&'a str, &'a str)>,
    /// The replica that was asked last.
    pub endpoint: Option<&'a str>,
    /// From the head to the last byte.
    pub duration: Duration,
    /// From sending to that replica to its response head, or to giving up.
    pub upstream: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// How a gRPC call ended.
    pub grpc_code: Option<&'static str>,
    /// Tries after the first.
    pub retries: u32,
}

/// A line on its way. Its buffer is used again for other requests.
#[derive(Debug)]
pub struct Line {
    form: Form,
    bytes: Vec<u8>,
}

impl Line {
    /// An empty one.
    pub fn new(form: Form) -> Self {
        Self { form, bytes: Vec::with_capacity(1024) }
    }

    /// What was written, with the line end once it is [`Line::end`]ed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins anew, with what the head says.
    pub fn begin(&mut self, arrived: &Arrived<'_>) {
        self.bytes.clear();
        match self.form {
            Form::Json => self.begin_json(arrived),
            Form::Text => self.begin_text(arrived),
        }
        if let Some(version) = arrived.tls {
            self.text("tls", version.as_bytes(), LONGEST_WORD);
        }
        if let Some(user_agent) = arrived.user_agent {
            self.text("user_agent", user_agent, LONGEST_NAME);
        }
    }

    fn begin_json(&mut self, arrived: &Arrived<'_>) {
        self.bytes.extend_from_slice(b"{\"time\":\"");
        push_time(&mut self.bytes, arrived.unix_micros);
        self.bytes.push(b'"');
        self.text("client", arrived.client, LONGEST_WORD);
        self.text("listener", arrived.listener.as_bytes(), LONGEST_WORD);
        self.text("method", arrived.method.as_bytes(), LONGEST_WORD);
        self.text("host", arrived.host, LONGEST_NAME);
        self.text("path", arrived.path.as_bytes(), LONGEST_PATH);
        self.text("protocol", arrived.protocol.as_bytes(), LONGEST_WORD);
    }

    fn begin_text(&mut self, arrived: &Arrived<'_>) {
        push_time(&mut self.bytes, arrived.unix_micros);
        self.bytes.push(b' ');
        push_escaped(&mut self.bytes, arrived.client, LONGEST_WORD);
        self.bytes.extend_from_slice(b" \"");
        push_escaped(&mut self.bytes, arrived.method.as_bytes(), LONGEST_WORD);
        self.bytes.push(b' ');
        push_escaped(&mut self.bytes, arrived.host, LONGEST_NAME);
        push_escaped(&mut self.bytes, arrived.path.as_bytes(), LONGEST_PATH);
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(arrived.protocol.as_bytes());
        self.bytes.push(b'"');
        self.text("listener", arrived.listener.as_bytes(), LONGEST_WORD);
    }

    /// Adds the id that the request is passed on with.
    pub fn identify(&mut self, id: &[u8]) {
        self.text("request_id", id, LONGEST_WORD);
    }

    /// Adds what became of the request, and the line's end.
    pub fn end(&mut self, outcome: &Outcome<'_>) {
        self.number("status", outcome.status.into());
        if let Some(reason) = outcome.reason {
            self.text("reason", reason.as_bytes(), LONGEST_WORD);
        }
        if let Some((route, service)) = outcome.route {
            self.text("route", route.as_bytes(), LONGEST_NAME);
            self.text("service", service.as_bytes(), LONGEST_NAME);
        }
        if let Some(endpoint) = outcome.endpoint {
            self.text("endpoint", endpoint.as_bytes(), LONGEST_NAME);
        }
        self.millis("duration_ms", outcome.duration);
        if let Some(upstream) = outcome.upstream {
            self.millis("upstream_ms", upstream);
        }
        self.number("request_bytes", outcome.request_bytes);
        self.number("response_bytes", outcome.response_bytes);
        if let Some(code) = outcome.grpc_code {
            self.text("grpc_code", code.as_bytes(), LONGEST_WORD);
        }
        if outcome.retries > 0 {
            self.number("retries", outcome.retries.into());
        }
        self.bytes.extend_from_slice(match self.form {
            Form::Json => b"}\n",
            Form::Text => b"\n",
        });
    }

    fn name(&mut self, name: &str) {
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Json => (b",\"", b"\":"),
            Form::Text => (b" ", b"="),
        };
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(after);
    }

    fn text(&mut self, name: &str, value: &[u8], longest: usize) {
        self.name(name);
        self.bytes.push(b'"');
        push_escaped(&mut self.bytes, value, longest);
        self.bytes.push(b'"');
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        push_number(&mut self.bytes, number, 1);
    }

    fn millis(&mut self, name: &str, duration: Duration) {
        self.name(name);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        push_number(&mut self.bytes, micros / 1000, 1);
        self.bytes.push(b'.');
        push_number(&mut self.bytes, micros % 1000, 3);
    }
}

/// Cuts whole lines into pieces of at most [`LONGEST`] bytes, each of which ends where a line ends.
pub fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let within = lines.get(..LONGEST.min(lines.len()))?;
        let end = within.iter().rposition(|byte| *byte == b'\n').map(|at| at.saturating_add(1));
        let (piece, rest) = lines.split_at_checked(end.unwrap_or(within.len()))?;
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Writes a number in decimal, with zeros before it up to that many digits, at most 20.
fn push_number(to: &mut Vec<u8>, number: u64, least_digits: usize) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut length) = (number, 0_usize);
    for place in digits.iter_mut().rev() {
        if rest == 0 && length >= least_digits {
            break;
        }
        *place = b'0'.saturating_add((rest % 10) as u8);
        rest /= 10;
        length = length.saturating_add(1);
    }
    to.extend_from_slice(digits.get(digits.len().saturating_sub(length)..).unwrap_or_default());
}

/// Writes text as it stands between quotes of JSON: control bytes escaped, what is no UTF-8 replaced,
/// and at most so many bytes.
fn push_escaped(to: &mut Vec<u8>, text: &[u8], longest: usize) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
    // Sixteen at a time, without a way out in between, the compiler looks at all of them at once.
    let all_plain = |bytes: &[u8]| bytes.iter().filter(|byte| !is_plain(byte)).count() == 0;
    if text.len() <= longest && text.chunks(16).all(all_plain) {
        to.extend_from_slice(text);
        return;
    }
    let end = to.len().saturating_add(longest).saturating_sub(CUT.len());
    for chunk in text.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for char in chunk.valid().chars().chain(invalid) {
            if to.len().saturating_add(LONGEST_CHAR) > end {
                to.extend_from_slice(CUT.as_bytes());
                return;
            }
            push_char(to, char);
        }
    }
}

/// Bytes of a character, escaped: `\u001b`.
const LONGEST_CHAR: usize = 6;

fn push_char(to: &mut Vec<u8>, char: char) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    match char {
        '"' | '\\' => to.extend_from_slice(&[b'\\', char as u8]),
        // Terminals act on the second half of these as well.
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
            let digit = |shift: u32| DIGITS.get((char as usize) >> shift & 0xf).copied();
            to.extend_from_slice(b"\\u00");
            to.extend(digit(4).into_iter().chain(digit(0)));
        }
        other => to.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests;
