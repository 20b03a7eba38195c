//! A replica that reads every byte itself and keeps it: what a proxy lets through, it sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Origin, field};

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// `name: value` in lower case and as it came; trailer fields as `trailer name: value`.
    pub(crate) fields: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Whether all of it came.
    pub(crate) whole: bool,
}

/// Answers each request with its number and its line: `#3 GET /`. It is strict: what is not one
/// request to the letter, with nothing behind it, is noted as a violation.
pub(crate) struct Recorder {
    pub(crate) origin: Origin,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: Vec<Seen>,
    violations: Vec<String>,
}

impl Recorder {
    pub(crate) async fn new() -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let own = Arc::clone(&log);
        let origin = Origin::connected(move |stream| {
            let reader = Reader { stream, unread: Vec::new(), log: Arc::clone(&own) };
            reader.serve()
        });
        Self { origin: origin.await, log }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// The requests that came, from that number on.
    pub(crate) fn since(&self, number: usize) -> Vec<Seen> {
        self.log.lock().unwrap().requests.get(number..).unwrap_or_default().to_vec()
    }

    /// How many requests have begun to come.
    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().requests.len()
    }

    /// What no proxy may send.
    pub(crate) fn violations(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let unclean = log.requests.iter().flat_map(Seen::violations);
        log.violations.iter().cloned().chain(unclean).collect()
    }
}

impl Seen {
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|known| known == field)
    }

    /// Whether it is one of many of which nobody says how many get through.
    pub(crate) fn is_of_flood(&self) -> bool {
        self.line.contains(" /flood")
    }

    pub(crate) fn names(&self, name: &str) -> usize {
        self.fields.iter().filter(|field| field.split(':').next() == Some(name)).count()
    }

    /// What must hold of every request, whatever the client sent.
    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for once in ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
            if self.names(once) != 1 {
                found.push(format!("{} times {once}", self.names(once)));
            }
        }
        if !self.has("x-forwarded-for: 127.0.0.1") || !self.has("x-real-ip: 127.0.0.1") {
            found.push("a forged client".to_owned());
        }
        for never in ["te", "keep-alive", "proxy-connection", "http2-settings", "expect"] {
            if self.names(never) > 0 {
                found.push(format!("{never}, which is not for it"));
            }
        }
        if self.names("content-length") + self.names("transfer-encoding") > 1 {
            found.push("two framings".to_owned());
        }
        found.iter().map(|what| format!("{} with {what}: {:?}", self.line, self.fields)).collect()
    }

    /// How a report shows it.
    pub(crate) fn show(&self) -> String {
        let begins = if self.whole { "" } else { "begins " };
        let body = self.body.escape_ascii().to_string();
        let fields = self.fields.join("\n    @ ");
        format!("    @ {begins}{:.200}\n    @ {fields:.2000}\n    @ | {body:.200}", self.line)
    }
}

struct Reader {
    stream: TcpStream,
    unread: Vec<u8>,
    log: Arc<Mutex<Log>>,
}

impl Reader {
    async fn serve(mut self) {
        while let Some(head) = self.head().await {
            let number = self.begin(&head);
            if self.body(number, &head).await.is_none() {
                return;
            }
            let line = self.complete(number);
            let body = format!("#{number} {line}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Seen: {number}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let body = if line.starts_with("HEAD ") { "" } else { &body };
            if self.stream.write_all(format!("{answer}{body}").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn violation(&self, what: &str) {
        let unread = self.unread.escape_ascii();
        self.log.lock().unwrap().violations.push(format!("{what}: {unread}"));
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.unread).await.unwrap_or(0);
        (read > 0).then_some(())
    }

    async fn exactly(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.unread.len() < bytes {
            self.more().await?;
        }
        let rest = self.unread.split_off(bytes);
        Some(std::mem::replace(&mut self.unread, rest))
    }

    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.unread.windows(mark.len()).position(|at| at == mark);
            if let Some(at) = found {
                return self.exactly(at + mark.len()).await;
            }
            self.more().await?;
        }
    }

    /// The next head; none at the end of the stream.
    async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await;
        if head.is_none() && !self.unread.is_empty() {
            self.violation("a head that breaks off");
        }
        let head = head?;
        let inner = &head[..head.len() - 4];
        let lines = inner.escape_ascii().to_string();
        let plain = lines.replace("\\r\\n", "");
        if ["\\r", "\\n", "\\x00"].iter().any(|bare| plain.contains(bare)) {
            self.violation("a head with a bare CR, LF or NUL");
        }
        Some(lines.replace("\\r\\n", "\n").replace("\\t", "\t"))
    }

    fn begin(&self, head: &str) -> usize {
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for field in lines {
            let Some((name, value)) = field.split_once(": ").or_else(|| field.split_once(':'))
            else {
                self.violation("a line that is no field");
                continue;
            };
            fields.push(format!("{}: {value}", name.to_ascii_lowercase()));
        }
        let mut log = self.log.lock().unwrap();
        log.requests.push(Seen { line, fields, body: Vec::new(), whole: false });
        log.requests.len() - 1
    }

    fn complete(&self, number: usize) -> String {
        if !self.unread.is_empty() {
            self.violation("bytes behind a request that has not been answered");
        }
        let mut log = self.log.lock().unwrap();
        let seen = &mut log.requests[number];
        seen.whole = true;
        seen.line.clone()
    }

    async fn body(&mut self, number: usize, head: &str) -> Option<()> {
        if field(head, "transfer-encoding").is_some() {
            return self.chunks(number).await;
        }
        let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.exactly(length).await?;
        self.log.lock().unwrap().requests[number].body = body;
        Some(())
    }

    async fn chunks(&mut self, number: usize) -> Option<()> {
        loop {
            let size = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&size).unwrap().trim_end_matches("\r\n");
            // Sizes in digits alone: neither signs nor extensions nor spaces.
            let Ok(size) = usize::from_str_radix(size, 16) else {
                self.violation("a chunk size that is none");
                return None;
            };
            if size == 0 {
                break;
            }
            let data = self.exactly(size).await?;
            self.log.lock().unwrap().requests[number].body.extend(data);
            if self.exactly(2).await? != b"\r\n" {
                self.violation("a chunk without its end");
                return None;
            }
        }
        loop {
            let line = self.until(b"\r\n").await?.escape_ascii().to_string();
            let line = line.trim_end_matches("\\r\\n");
            if line.is_empty() {
                return Some(());
            }
            let trailer = format!("trailer {line}");
            self.log.lock().unwrap().requests[number].fields.push(trailer);
        }
    }
}
