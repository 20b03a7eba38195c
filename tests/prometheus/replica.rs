//! Replicas that answer well or badly, as the path asks, and count what they did.
//!
//! | path | answer |
//! |---|---|
//! | `/size/N`, `/chunked/N` | that many bytes, with a length or in chunks |
//! | `/echo` | the request's body |
//! | `/status/N` | that status |
//! | `/slow` | after 20 ms |
//! | `/reset` | a reset |
//! | `/hang` | nothing; the client is told that its request is there |
//! | `/stall` | 5,000 bytes of 100,000, and then nothing |
//! | `/cut` | the same, and an end when the client has them |
//! | `/tunnel` | 101, and everything back |

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::connection::{Connection, Head};
use crate::ledger::Ledger;

/// Bytes of a body that does not come to its end.
pub(crate) const PART: usize = 5000;

/// Where a client and the replica that has its request find each other, by a number in the query.
#[derive(Debug, Default)]
pub(crate) struct Meetings(Mutex<HashMap<u64, Meeting>>);

/// One end of a meeting.
#[derive(Debug)]
pub(crate) struct Meeting {
    here: Sender<()>,
    there: Receiver<()>,
}

impl Meetings {
    /// Makes a meeting; the other end waits under that number.
    pub(crate) fn arrange(&self, number: u64) -> Meeting {
        let (mine, theirs) = (channel(), channel());
        let other = Meeting { here: mine.0, there: theirs.1 };
        self.0.lock().unwrap().insert(number, other);
        Meeting { here: theirs.0, there: mine.1 }
    }

    fn attend(&self, target: &str) -> Option<Meeting> {
        let (_, number) = target.split_once("?n=")?;
        self.0.lock().unwrap().remove(&number.parse().ok()?)
    }
}

impl Meeting {
    /// Says that it has come so far.
    pub(crate) fn tell(&self) {
        let _ = self.here.send(());
    }

    /// Waits until the other end has come so far.
    pub(crate) fn wait(&self) {
        let _ = self.there.recv_timeout(Duration::from_secs(20));
    }
}

/// One service's replicas.
#[derive(Clone, Debug)]
struct Replica {
    service: &'static str,
    ledger: Arc<Mutex<Ledger>>,
    meetings: Arc<Meetings>,
}

/// Starts a replica that serves until the process ends.
pub(crate) fn serve(
    service: &'static str,
    ledger: &Arc<Mutex<Ledger>>,
    meetings: &Arc<Meetings>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ledger, meetings) = (Arc::clone(ledger), Arc::clone(meetings));
    let replica = Replica { service, ledger, meetings };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (replica, connection) = (replica.clone(), Connection::over(stream.unwrap()));
            thread::spawn(move || replica.converse(connection));
        }
    });
    address
}

impl Replica {
    fn count(&self, page: &'static str) {
        self.ledger.lock().unwrap().count(page, self.service, 1);
    }

    /// Answers one request after the other, until one ends the connection.
    fn converse(&self, mut connection: Connection) {
        while let Ok(head) = connection.head() {
            let target = head.line.split(' ').nth(1).unwrap().to_owned();
            let meeting = self.meetings.attend(&target);
            let path = target.split('?').next().unwrap_or_default();
            if path == "/upload" {
                self.take_part(&mut connection, meeting.as_ref());
                return;
            }
            // The client of a body that breaks off has left, or sent nonsense.
            let Ok(body) = connection.body(&head) else {
                return self.count("left");
            };
            match path {
                "/reset" => {
                    self.count("resets");
                    return connection.reset();
                }
                "/hang" => {
                    if let Some(meeting) = &meeting {
                        meeting.tell();
                    }
                    connection.wait_for_end();
                    return self.count("left");
                }
                "/stall" | "/cut" => {
                    self.begin(&mut connection, path == "/cut", meeting.as_ref());
                    return;
                }
                "/tunnel" => {
                    let _ = self.tunnel(&mut connection);
                    return;
                }
                _ => {}
            }
            if self.answer(&mut connection, &head, path, &body).is_err() {
                return;
            }
        }
    }

    /// Takes part of a body whose rest never comes.
    fn take_part(&self, connection: &mut Connection, meeting: Option<&Meeting>) {
        if connection.exactly(PART).is_ok() {
            if let Some(meeting) = meeting {
                meeting.tell();
            }
            connection.wait_for_end();
        }
        self.count("left");
    }

    fn begin(&self, connection: &mut Connection, cuts: bool, meeting: Option<&Meeting>) {
        self.count("ok");
        self.count("heads");
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        let _ = connection.write(&[b'x'; PART]);
        if cuts {
            if let Some(meeting) = meeting {
                meeting.wait();
            }
        } else {
            connection.wait_for_end();
        }
    }

    fn tunnel(&self, connection: &mut Connection) -> io::Result<()> {
        self.count("ok");
        self.count("heads");
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        connection.write(head.as_bytes())?;
        loop {
            let byte = connection.exactly(1)?;
            connection.write(&byte)?;
        }
    }

    fn answer(
        &self,
        connection: &mut Connection,
        head: &Head,
        path: &str,
        body: &[u8],
    ) -> io::Result<()> {
        let number = path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        let status = number.filter(|_| path.starts_with("/status/")).unwrap_or(200);
        if path == "/slow" {
            thread::sleep(Duration::from_millis(20));
        }
        self.count(if status < 500 { "ok" } else { "5xx" });
        self.count("heads");
        let filled = vec![b'x'; number.filter(|_| status == 200).unwrap_or(3)];
        let body = if path == "/echo" { body } else { &filled };
        let mut answer = format!("HTTP/1.1 {status} As Asked\r\n").into_bytes();
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        if head.line.starts_with("HEAD ") {
            answer.extend(length.as_bytes());
        } else if path.starts_with("/chunked/") {
            answer.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(1000) {
                answer.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                answer.extend(chunk);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n\r\n");
        } else {
            answer.extend(length.as_bytes());
            answer.extend(body);
        }
        connection.write(&answer)
    }
}
