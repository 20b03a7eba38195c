//! One attacker: a connection that is used as badly as its attack says, until the edge ends it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::frames::{self, GOAWAY, RST_STREAM};

/// What a socket keeps of what its attacker does not read.
const SMALL_BUFFER: u32 = 4096;

/// Whoever is cut off needs that long to come back: real attackers are not on the same machine.
const ROUND_TRIPS: Duration = Duration::from_millis(20);

/// How a connection of an attacker ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// When the edge ended it, after it was opened; none if it did not.
    pub(crate) lasted: Option<Duration>,
    /// What the edge said last: a status, or the code of a GOAWAY or RST_STREAM.
    pub(crate) said: String,
}

/// A connection of an attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    stream: TcpStream,
    since: Instant,
    /// Whether it is over when the edge resets a stream: there is only one.
    one_stream: bool,
}

impl Attacker {
    /// Connects. The kernel keeps little of what it does not read.
    pub(crate) async fn at(edge: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
        let stream = socket.connect(edge).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, since: Instant::now(), one_stream: false })
    }

    /// For this one the end of its only stream is its end.
    pub(crate) fn with_one_stream(self) -> Self {
        Self { one_stream: true, ..self }
    }

    /// Acts, and reads what the edge says, until the edge ends the connection; gives up after
    /// `patience`.
    pub(crate) async fn until_cut(
        self,
        patience: Duration,
        act: impl AsyncFnOnce(&mut OwnedWriteHalf) -> io::Result<()>,
    ) -> End {
        let (reader, mut writer) = self.stream.into_split();
        let mut said = String::new();
        let listens = listen(reader, self.one_stream, &mut said);
        let acts = async {
            // Having done it, or having been cut off: what can be read tells.
            let _ = act(&mut writer).await;
            std::future::pending::<()>().await;
        };
        let cut = timeout(patience, async {
            tokio::select! { () = listens => {}, () = acts => {} }
        });
        let cut = cut.await.is_ok();
        End { lasted: cut.then(|| self.since.elapsed()), said }
    }

    /// Sends this, then holds on without reading for that long. Whether the edge has ended the
    /// connection can then not be seen from here.
    pub(crate) async fn without_reading(mut self, request: &[u8], patience: Duration) -> End {
        // The edge may have ended it already.
        let _ = self.stream.write_all(request).await;
        sleep(patience).await;
        End { lasted: None, said: String::new() }
    }
}

/// Reads to the end, and remembers the last word that is not merely an answer.
async fn listen(mut reader: OwnedReadHalf, one_stream: bool, said: &mut String) {
    let mut unread = Vec::new();
    while matches!(reader.read_buf(&mut unread).await, Ok(1..)) {
        if unread.starts_with(b"HTTP/1.1 ") {
            let status = unread.get(9..12).unwrap_or_default();
            *said = String::from_utf8_lossy(status).into_owned();
            unread.truncate(12);
            continue;
        }
        while let Some((length, kind, payload)) = frames::parse(&unread) {
            if length > unread.len() {
                break;
            }
            let code = |at: usize| payload.get(at).copied().unwrap_or_default();
            if kind == GOAWAY {
                *said = format!("GOAWAY {}", code(7));
            } else if kind == RST_STREAM && one_stream {
                *said = format!("RST_STREAM {}", code(3));
                return;
            }
            unread.drain(..length);
        }
    }
}

/// How many attackers come in a second, one in each connection. `slowhttptest` opens 50.
pub(crate) const ARRIVING: u32 = 1000;
/// In one go.
const TOGETHER: usize = 20;

/// So many attackers at a time. Each who is cut off comes back, until it is `over`; each comes once.
pub(crate) async fn attackers<A>(
    count: usize,
    over: Instant,
    attack: impl Fn(usize) -> A + Copy + 'static,
) -> Vec<End>
where
    A: Future<Output = io::Result<End>> + 'static,
{
    arriving(ARRIVING, count, over, attack).await
}

/// The same, so many in a second.
pub(crate) async fn arriving<A>(
    per_second: u32,
    count: usize,
    over: Instant,
    attack: impl Fn(usize) -> A + Copy + 'static,
) -> Vec<End>
where
    A: Future<Output = io::Result<End>> + 'static,
{
    let mut under_way = JoinSet::new();
    let begun = Instant::now();
    for number in 0..count {
        under_way.spawn_local(async move {
            let mut ends = Vec::new();
            loop {
                ends.push(attack(number).await.unwrap_or_else(|error| End {
                    lasted: Some(Duration::ZERO),
                    said: error.kind().to_string(),
                }));
                if Instant::now() >= over {
                    return ends;
                }
                sleep(ROUND_TRIPS).await;
            }
        });
        if number % TOGETHER == TOGETHER - 1 {
            let come = u32::try_from(number + 1).unwrap();
            sleep_until(begun + Duration::from_secs(1) * come / per_second).await;
        }
    }
    under_way.join_all().await.into_iter().flatten().collect()
}
