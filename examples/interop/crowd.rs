//! Many streams at once on a few connections, most of them quiet, one of them with a steady flow both ways.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::calls::{Wish, both, connect};

const CONNECTIONS: usize = 10;
const STREAMS: usize = 10_000;
/// Each stream sends a message this often.
const PAUSE: Duration = Duration::from_secs(5);
const LASTS: Duration = Duration::from_secs(20);
/// The flow: a piece each 16 ms is a megabyte a second.
const PIECE: usize = 16 << 10;
const PIECES_EVERY: Duration = Duration::from_millis(16);

type Failed = Box<dyn std::error::Error>;

/// A stream of which each message is answered.
struct Talk {
    sender: mpsc::UnboundedSender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Talk {
    async fn begin(channel: &Channel) -> Result<Self, Failed> {
        let (sender, messages) = mpsc::unbounded_channel::<Bytes>();
        let messages = stream::unfold(messages, |mut messages| async {
            messages.recv().await.map(|message| (message, messages))
        });
        // Some servers send no head before the first message.
        sender.send("1".into())?;
        let answers = both(channel, "/test.Interop/Both", messages, &Wish::default()).await?;
        let mut talk = Self { sender, answers };
        talk.next().await?;
        Ok(talk)
    }

    async fn next(&mut self) -> Result<usize, Failed> {
        Ok(self.answers.message().await?.ok_or("the stream ended")?.len())
    }

    /// How long the answers took to messages of 100 bytes.
    async fn chat(mut self, first: Duration) -> Result<Vec<Duration>, Failed> {
        let (end, mut took) = (Instant::now() + LASTS, Vec::new());
        tokio::time::sleep(first).await;
        while Instant::now() < end {
            let asked = Instant::now();
            self.sender.send("100".into())?;
            self.next().await?;
            took.push(asked.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        Ok(took)
    }

    /// How many bytes came back of a steady flow.
    async fn flow(mut self) -> Result<usize, Failed> {
        let message = Bytes::from(format!("{PIECE:<PIECE$}"));
        let (mut pace, mut came) = (tokio::time::interval(PIECES_EVERY), 0);
        let end = Instant::now() + LASTS;
        while Instant::now() < end {
            tokio::select! {
                _ = pace.tick() => self.sender.send(message.clone())?,
                answer = self.answers.message() => {
                    came += answer?.ok_or("the stream ended")?.len();
                }
            }
        }
        Ok(came)
    }
}

/// Opens all of them, lets them talk, and prints how quick the answers were.
pub(crate) async fn run(url: &str) -> Result<(), Failed> {
    let channels = try_join_all((0..CONNECTIONS).map(|_| connect(url, None))).await?;
    let began = Instant::now();
    let each = channels.iter().cycle().take(STREAMS);
    let talks = try_join_all(each.map(Talk::begin)).await?;
    println!("{STREAMS} streams on {CONNECTIONS} connections opened in {:.1?}", began.elapsed());
    let flow = match channels.first() {
        Some(channel) => Talk::begin(channel).await?.flow(),
        None => return Err("there are no connections".into()),
    };
    let chats =
        talks.into_iter().zip(0_u32..).map(|(talk, number)| talk.chat(number * PAUSE / 10_000));
    let (came, chats) = tokio::join!(flow, join_all(chats));
    let mut took: Vec<_> = chats.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    took.sort_unstable();
    let percentile = |of: usize| took.get(took.len() * of / 100).copied().unwrap_or_default();
    let (median, late) = (percentile(50), percentile(99));
    let kilobytes = u32::try_from(came? / 1000)?;
    let rate = f64::from(kilobytes) / 1000.0 / LASTS.as_secs_f64();
    println!(
        "{} messages: p50 {median:.1?}, p99 {late:.1?}; {rate:.2} MB/s both ways beside",
        took.len()
    );
    Ok(())
}
