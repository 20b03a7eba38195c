//! A TCP connection that is read and written byte by byte, at either end.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Status line and fields, with the blank line.
    pub(crate) head: String,
    /// Its body, with the framing taken off; trailer fields follow as they came.
    pub(crate) body: String,
    /// Whether the body came to a clean end.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }

    /// The value of a field; none if it is not there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status(), self.body.trim_end())?;
        if self.whole { Ok(()) } else { write!(f, " (broken)") }
    }
}

/// The value of a field in a head.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut same = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    same.next().map(|(_, value)| value.trim())
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Its kernel keeps no more than about so many bytes that the other side has not taken.
    pub(crate) fn keeps(&self, bytes: usize) {
        SockRef::from(&self.stream).set_send_buffer_size(bytes).unwrap();
    }

    /// Writes; a peer that has left is noticed by reading.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = soon("room to write", self.stream.write_all(bytes.as_ref())).await;
    }

    /// Writes for at most so long. Whether all of it was taken.
    pub(crate) async fn takes(&mut self, bytes: &str, time: Duration) -> bool {
        let written = tokio::time::timeout(time, self.stream.write_all(bytes.as_bytes())).await;
        written.is_ok_and(|written| written.is_ok())
    }

    /// Says that nothing more comes from this end.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Goes away without a word: the peer gets a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads what there is; false at the end of the stream.
    async fn more(&mut self) -> bool {
        self.unread.reserve(16 << 10);
        let read = soon("bytes", self.stream.read_buf(&mut self.unread)).await.unwrap_or(0);
        read > 0
    }

    fn take(&mut self, bytes: usize) -> String {
        let rest = self.unread.split_off(bytes);
        String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap()
    }

    /// All up to and with the end mark; none if the stream ends before.
    pub(crate) async fn until(&mut self, mark: &str) -> Option<String> {
        loop {
            let found = self.unread.windows(mark.len()).position(|at| at == mark.as_bytes());
            if let Some(at) = found {
                return Some(self.take(at + mark.len()));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next head; none if the stream ends.
    pub(crate) async fn next_head(&mut self) -> Option<String> {
        self.until("\r\n\r\n").await
    }

    /// The next head, which must come.
    pub(crate) async fn head(&mut self) -> String {
        self.next_head().await.expect("a head")
    }

    /// That many bytes, which must come.
    pub(crate) async fn exactly(&mut self, bytes: usize) -> String {
        while self.unread.len() < bytes {
            assert!(self.more().await, "the stream ended before {bytes} bytes had come");
        }
        self.take(bytes)
    }

    /// All that comes before the stream ends.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        self.take(self.unread.len())
    }

    /// The same, if it is no text.
    pub(crate) async fn rest_of_bytes(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// Waits until the peer has closed or reset the connection.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {}
    }

    /// Waits for at most so long. Whether the peer has closed or reset the connection.
    pub(crate) async fn closed_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.closed()).await.is_ok()
    }

    /// Waits for at most so long. Whether anything has come, or the end.
    pub(crate) async fn readable_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.more()).await.is_ok()
    }

    /// The body of a request with that head.
    pub(crate) async fn body(&mut self, head: &str) -> String {
        if field(head, "transfer-encoding").is_some() {
            return self.chunks().await.0;
        }
        let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
        self.exactly(length).await
    }

    /// One chunk's data; empty for the last one, none if the stream ends.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let size = self.until("\r\n").await?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            return Some(String::new());
        }
        while self.unread.len() < size + 2 {
            if !self.more().await {
                return None;
            }
        }
        let mut data = self.take(size + 2);
        data.truncate(size);
        Some(data)
    }

    /// Chunks up to the last one, and the trailer fields; whether they came to a clean end.
    async fn chunks(&mut self) -> (String, bool) {
        let mut body = String::new();
        loop {
            match self.chunk().await {
                None => return (body, false),
                Some(data) if data.is_empty() => break,
                Some(data) => body.push_str(&data),
            }
        }
        while let Some(line) = self.until("\r\n").await {
            if line == "\r\n" {
                return (body, true);
            }
            body.push_str(&line);
        }
        (body, false)
    }

    /// The response to a request that may have a body in it.
    pub(crate) async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        self.reply_with(head).await
    }

    /// The response that began with that head.
    pub(crate) async fn reply_with(&mut self, head: String) -> Reply {
        let bodiless = ["HTTP/1.1 204", "HTTP/1.1 304", "HTTP/1.1 1"];
        if bodiless.iter().any(|status| head.starts_with(status)) {
            return Reply { head, body: String::new(), whole: true };
        }
        let (body, whole) = match field(&head, "content-length") {
            Some(length) => self.sized(length.parse().unwrap()).await,
            None if field(&head, "transfer-encoding").is_some() => self.chunks().await,
            None => (self.rest().await, true),
        };
        Reply { head, body, whole }
    }

    async fn sized(&mut self, length: usize) -> (String, bool) {
        while self.unread.len() < length {
            if !self.more().await {
                return (self.take(self.unread.len()), false);
            }
        }
        (self.take(length), true)
    }
}
