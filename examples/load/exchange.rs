//! HTTP/1.1 by hand over one socket, so that every way in which an exchange can fail is seen.
//!
//! Nothing is retried and nothing is forgiven here. TLS, HTTP/2 and pipelining are left out.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer head that is read, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// How an exchange failed, as the client's socket saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// Nobody listens.
    Refused,
    /// No connection for another reason, for example no route to the host.
    Unreachable,
    /// Reset after the connection was made, before the whole head was here.
    Reset,
    /// Closed by FIN before the whole head was here.
    EofBeforeHead,
    /// A connection that had served before was closed, unannounced, instead of an answer.
    ReusedClosed,
    /// What came is no HTTP/1.1 head.
    BadHead,
    /// Closed or reset before the whole body was here.
    CutBody,
    /// Nothing complete within the time that a request has.
    Timeout,
    /// A whole answer with a status that is not 2xx.
    Status(u16),
    /// A whole 2xx answer that is not the answer to this request.
    WrongBody,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Reset => f.write_str("reset before the answer"),
            Self::EofBeforeHead => f.write_str("closed before the answer"),
            Self::ReusedClosed => f.write_str("reused connection closed before the answer"),
            Self::BadHead => f.write_str("not HTTP/1.1"),
            Self::CutBody => f.write_str("body cut"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::WrongBody => f.write_str("wrong body"),
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Fields in their order, names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// Body without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the server left the connection open for another request.
    pub(crate) keep: bool,
}

impl Answer {
    /// The first field of that name, which is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// How a body ends (RFC 9112, section 6.3).
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// One connection, used for one exchange after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
    served: bool,
}

impl Connection {
    /// Connects; how long that may take is the caller's business.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|error| {
            let kind = error.kind();
            if kind == ErrorKind::ConnectionRefused {
                Failure::Refused
            } else if kind == ErrorKind::ConnectionReset {
                // A listener that was closed with this connection in its queue.
                Failure::Reset
            } else {
                Failure::Unreachable
            }
        })?;
        // Only a delay is lost without it.
        let _ = stream.set_nodelay(true);
        Ok(Self { stream, buffer: Vec::new(), served: false })
    }

    /// Whether the server closed the connection while it was idle: a client that sees this in time
    /// has lost nothing.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends one request and reads the whole answer. `request` is head and body as they go out.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        let reused = std::mem::replace(&mut self.served, true);
        // An answer may have come although the rest of the request was refused: what can be read
        // decides.
        let _ = self.stream.write_all(request).await;
        let head = match self.head().await {
            Err(Failure::Reset | Failure::EofBeforeHead) if reused && self.buffer.is_empty() => {
                Err(Failure::ReusedClosed)
            }
            head => head,
        }?;
        let (status, fields) = parse_head(&head).ok_or(Failure::BadHead)?;
        let mut answer = Answer { status, fields, body: Vec::new(), keep: true };
        let framing = framing(&answer).ok_or(Failure::BadHead)?;
        let announced = |value: &str| value.eq_ignore_ascii_case("close");
        answer.keep = !matches!(framing, Framing::UntilClose)
            && !answer.field("connection").is_some_and(announced);
        answer.body = self.body(&framing).await?;
        Ok(answer)
    }

    /// The bytes up to and with the empty line. Interim answers (1xx) are skipped.
    async fn head(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                if head.starts_with(b"HTTP/1.1 1") && !head.starts_with(b"HTTP/1.1 101") {
                    continue;
                }
                return Ok(head);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(Failure::BadHead);
            }
            match self.more().await {
                Ok(0) => return Err(Failure::EofBeforeHead),
                Ok(_) => {}
                Err(_) => return Err(Failure::Reset),
            }
        }
    }

    async fn body(&mut self, framing: &Framing) -> Result<Vec<u8>, Failure> {
        match framing {
            Framing::Length(length) => self.take(*length).await,
            Framing::UntilClose => loop {
                match self.more().await {
                    Ok(0) => return Ok(std::mem::take(&mut self.buffer)),
                    Ok(_) => {}
                    Err(_) => return Err(Failure::CutBody),
                }
            },
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default();
                    let size = usize::from_str_radix(size.trim(), 16);
                    let size = size.map_err(|_| Failure::CutBody)?;
                    if size == 0 {
                        // Trailers, up to the empty line.
                        while !self.line().await?.is_empty() {}
                        return Ok(body);
                    }
                    body.extend(self.take(size).await?);
                    self.line().await?;
                }
            }
        }
    }

    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more_of_body().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.buffer.len() < length {
            self.more_of_body().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn more_of_body(&mut self) -> Result<(), Failure> {
        match self.more().await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Failure::CutBody),
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// A request as it goes out; `fields` are whole lines without their ends.
pub(crate) fn request(method: &str, path: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    if !body.is_empty() || method == "POST" {
        // Writing to a string cannot fail.
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.extend_from_slice(body);
    request
}

fn parse_head(head: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let lines = lines.filter(|line| !line.is_empty());
    Some((status, lines.map(field).collect::<Option<_>>()?))
}

fn framing(answer: &Answer) -> Option<Framing> {
    if matches!(answer.status, 101 | 204 | 304) {
        return Some(Framing::Length(0));
    }
    if let Some(coding) = answer.field("transfer-encoding") {
        return coding.eq_ignore_ascii_case("chunked").then_some(Framing::Chunked);
    }
    match answer.field("content-length") {
        Some(length) => length.parse().ok().map(Framing::Length),
        None => Some(Framing::UntilClose),
    }
}
