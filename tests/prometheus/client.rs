//! A client that sends requests of every kind, one after the other, and counts what became of each.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crate::connection::{Connection, Head};
use crate::ledger::Ledger;
use crate::replica::{Meeting, Meetings, PART};

/// What kinds there are, each so many times in a hundred; the rest are plain GETs.
const KINDS: [(Kind, u64); 19] = [
    (Kind::Chunked, 8),
    (Kind::Echo, 8),
    (Kind::EchoInChunks, 4),
    (Kind::Head, 4),
    (Kind::Method("PATCH"), 2),
    (Kind::Method("DELETE"), 2),
    (Kind::Method("OPTIONS"), 2),
    (Kind::Method("BREW"), 2),
    (Kind::Status(500), 3),
    (Kind::Status(503), 3),
    (Kind::Slow, 1),
    (Kind::Reset("GET"), 2),
    (Kind::Reset("POST"), 2),
    (Kind::Unknown, 4),
    (Kind::Forbidden, 3),
    (Kind::TooLarge, 2),
    (Kind::Malformed, 2),
    (Kind::NoHost, 2),
    (Kind::Leaves, 8),
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Chunked,
    Echo,
    EchoInChunks,
    Head,
    Method(&'static str),
    Status(u16),
    Slow,
    Reset(&'static str),
    Unknown,
    Forbidden,
    TooLarge,
    /// A chunk that is none, from a client that stays.
    Malformed,
    NoHost,
    /// In one of the ways of [`LEAVING`].
    Leaves,
}

/// At which point a client leaves, and whether by a reset or by saying that nothing more comes.
const LEAVING: [(Leaving, bool); 10] = [
    (Leaving::BeforeAnswer, false),
    (Leaving::BeforeAnswer, true),
    (Leaving::AtOnce, false),
    (Leaving::InAnswer, false),
    (Leaving::InAnswer, true),
    (Leaving::InBody, false),
    (Leaving::InBody, true),
    // Those whose connection ends otherwise.
    (Leaving::IsCutOff, false),
    (Leaving::ClosesTunnel, false),
    (Leaving::ClosesTunnel, true),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// When the replica has the request.
    BeforeAnswer,
    /// When the request is written; how far it comes then nobody knows.
    AtOnce,
    /// With part of the response.
    InAnswer,
    /// With part of the request's body at the replica.
    InBody,
    /// The replica leaves, with part of the response at the client.
    IsCutOff,
    /// At the end of an upgraded connection.
    ClosesTunnel,
}

/// A client. Its numbers are its own.
pub(crate) struct Client {
    number: u64,
    address: SocketAddr,
    meetings: Arc<Meetings>,
    connection: Option<Connection>,
    random: fastrand::Rng,
    ledger: Ledger,
}

/// What became of a request.
struct Seen<'a> {
    method: &'a str,
    service: &'a str,
    code: &'a str,
    sent: usize,
    got: usize,
}

impl Client {
    pub(crate) fn new(number: u64, address: SocketAddr, meetings: &Arc<Meetings>) -> Self {
        Self {
            number: number << 32,
            address,
            meetings: Arc::clone(meetings),
            connection: None,
            random: fastrand::Rng::with_seed(number),
            ledger: Ledger::default(),
        }
    }

    /// Sends that many.
    pub(crate) fn run(mut self, requests: u64) -> Ledger {
        for _ in 0..requests {
            self.number += 1;
            let mut drawn = self.random.u64(..100);
            let kind = KINDS.iter().find(|(_, share)| match drawn.checked_sub(*share) {
                Some(rest) => {
                    drawn = rest;
                    false
                }
                None => true,
            });
            self.request(kind.map_or(Kind::Plain, |(kind, _)| *kind));
        }
        self.ledger
    }

    fn request(&mut self, kind: Kind) {
        let size = self.random.usize(..20_000);
        let small = self.random.usize(1..9000);
        let body = vec![b'y'; small];
        match kind {
            Kind::Plain => self.ask("GET", "shop", &format!("/size/{size}"), b""),
            Kind::Chunked => self.ask("GET", "shop", &format!("/chunked/{size}"), b""),
            Kind::Echo => self.ask("POST", "shop", "/echo", &body),
            Kind::EchoInChunks => self.send_chunks(&body),
            Kind::Head => self.ask("HEAD", "shop", &format!("/size/{size}"), b""),
            Kind::Method(method) => self.ask(method, "shop", "/size/10", b""),
            Kind::Status(status) => self.ask("GET", "faults", &format!("/status/{status}"), b""),
            Kind::Slow => self.ask("GET", "shop", "/slow", b""),
            Kind::Reset(method) => self.ask(method, "faults", "/reset", b""),
            Kind::Unknown => self.ask("GET", "unknown", "/", b""),
            Kind::Forbidden => self.ask("GET", "closed", "/", b""),
            Kind::TooLarge => {
                let head =
                    "PUT /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2000000\r\n\r\n";
                self.exchange("PUT", "shop", head.as_bytes(), 0);
            }
            Kind::Malformed => {
                let head = "POST /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked";
                let text = format!("{head}\r\n\r\n3\r\nabc\r\nnonsense\r\n");
                self.exchange("POST", "shop", text.as_bytes(), 3);
                self.ledger.count("passed on", "shop", 1);
            }
            Kind::NoHost => self.exchange("GET", "none", b"GET / HTTP/1.1\r\n\r\n", 0),
            Kind::Leaves => {
                let (leaving, resets) = LEAVING[self.random.usize(..LEAVING.len())];
                self.leave(leaving, resets);
            }
        }
    }

    fn ask(&mut self, method: &str, service: &'static str, path: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {service}.test\r\n");
        let length_field = format!("Content-Length: {length}\r\n");
        let length_field = if length > 0 { &*length_field } else { "" };
        let request = [format!("{head}{length_field}\r\n").as_bytes(), body].concat();
        if matches!(service, "shop" | "faults") {
            self.ledger.count("passed on", service, 1);
        }
        let service = if service == "unknown" { "none" } else { service };
        self.exchange(method, service, &request, length);
    }

    fn send_chunks(&mut self, body: &[u8]) {
        let head = "PUT /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut request = head.as_bytes().to_vec();
        for chunk in body.chunks(700) {
            request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        self.ledger.count("passed on", "shop", 1);
        self.exchange("PUT", "shop", &request, body.len());
    }

    fn connection(&mut self) -> Connection {
        self.connection.take().unwrap_or_else(|| {
            self.ledger.count("connections", "web", 1);
            Connection::over(TcpStream::connect(self.address).unwrap())
        })
    }

    /// Sends a request and reads the whole answer.
    fn exchange(&mut self, method: &str, service: &str, request: &[u8], sent: usize) {
        let mut connection = self.connection();
        connection.write(request).unwrap();
        let answer = Self::answer(&mut connection, method);
        let (head, body) = answer.unwrap_or_else(|error| panic!("{method} {service}: {error}"));
        let code = head.line.split(' ').nth(1).unwrap();
        let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let reason = std::str::from_utf8(first).ok().and_then(|line| line.strip_suffix(')'));
        if let Some((_, reason)) = reason.and_then(|line| line.rsplit_once('(')) {
            self.ledger.count("refusals", reason, 1);
        }
        let got = body.len();
        self.see(&Seen { method, service, code, sent, got });
        if head.field("connection") != Some("close") {
            self.connection = Some(connection);
        }
    }

    fn answer(connection: &mut Connection, method: &str) -> io::Result<(Head, Vec<u8>)> {
        let head = connection.head()?;
        let body = if method == "HEAD" { Vec::new() } else { connection.body(&head)? };
        Ok((head, body))
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let Seen { method, service, code, sent, got } = *seen;
        let method = if method == "BREW" { "OTHER" } else { method };
        let ledger = &mut self.ledger;
        ledger.count("requests", service, 1);
        ledger.count("requests by method", method, 1);
        ledger.count("requests by code", code, 1);
        ledger.count("requests by listener", "web", 1);
        ledger.count("request bytes", service, sent as u64);
        ledger.count("response bytes", service, got as u64);
    }

    /// Leaves, or is left, at some point of a request.
    fn leave(&mut self, leaving: Leaving, resets: bool) {
        let number = self.number;
        let meeting = self.meetings.arrange(number);
        let mut connection = self.connection();
        let (method, path, fields, service) = match leaving {
            Leaving::BeforeAnswer => ("GET", "/hang", "", "shop"),
            Leaving::AtOnce => ("GET", "/hang", "", "hasty"),
            Leaving::InAnswer => ("GET", "/stall", "", "shop"),
            Leaving::InBody => ("POST", "/upload", "Content-Length: 10000\r\n", "shop"),
            Leaving::IsCutOff => ("GET", "/cut", "", "shop"),
            Leaving::ClosesTunnel => {
                ("GET", "/tunnel", "Connection: upgrade\r\nUpgrade: echo\r\n", "shop")
            }
        };
        let line = format!("{method} {path}?n={number} HTTP/1.1");
        let head = format!("{line}\r\nHost: {service}.test\r\n{fields}\r\n");
        connection.write(head.as_bytes()).unwrap();
        let (code, sent, got) = Self::come_to_the_point(leaving, &mut connection, &meeting);
        // Whether its request was looked at, the client cannot know.
        let counted = if service == "hasty" { "none" } else { service };
        self.see(&Seen { method, service: counted, code, sent, got });
        if service == "shop" {
            self.ledger.count("passed on", service, 1);
        }
        if resets {
            connection.reset();
        } else {
            connection.finish();
            connection.wait_for_end();
        }
    }

    /// Code, bytes sent and bytes received up to the point at which the client leaves.
    fn come_to_the_point(
        leaving: Leaving,
        connection: &mut Connection,
        meeting: &Meeting,
    ) -> (&'static str, usize, usize) {
        match leaving {
            Leaving::BeforeAnswer => {
                meeting.wait();
                ("499", 0, 0)
            }
            Leaving::AtOnce => ("499", 0, 0),
            Leaving::InAnswer => ("499", 0, Self::part(connection)),
            Leaving::InBody => {
                connection.write(&[b'y'; PART]).unwrap();
                meeting.wait();
                ("499", PART, 0)
            }
            Leaving::IsCutOff => {
                let got = Self::part(connection);
                meeting.tell();
                connection.wait_for_end();
                ("200", 0, got)
            }
            Leaving::ClosesTunnel => {
                assert!(connection.head().unwrap().line.contains(" 101 "));
                connection.write(&[b'z'; PART]).unwrap();
                connection.exactly(PART).unwrap();
                ("101", PART, PART)
            }
        }
    }

    /// Reads the part of a response that comes.
    fn part(connection: &mut Connection) -> usize {
        connection.head().unwrap();
        connection.exactly(PART).unwrap().len()
    }
}
