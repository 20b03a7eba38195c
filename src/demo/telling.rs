//! How the story is told: sentences, and lines of figures below each other.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use super::load::{Load, Tally};
use crate::clock;
use crate::timestamp::Timestamp;

/// Between two lines of figures.
const LINE: Duration = Duration::from_secs(2);

/// Names of the replicas, in the order of the columns.
const COLUMNS: [&str; 4] = ["shop-1", "shop-2", "shop-3", "hello-1"];

/// Writes the story, and sends the load that it tells of.
pub(super) struct Teller<'o> {
    out: &'o mut dyn Write,
    load: Load,
    started: Timestamp,
    /// Since the start.
    all: Tally,
    /// Of this round, if figures are written only at its end.
    round: Option<Tally>,
}

impl<'o> Teller<'o> {
    /// Begins to send, and writes the head of the figures.
    pub(super) fn start(edge: SocketAddr, out: &'o mut dyn Write) -> io::Result<Self> {
        write!(out, "   time  requests")?;
        COLUMNS.iter().try_for_each(|name| write!(out, "  {name:>7}"))?;
        writeln!(out, "  failed  slowest")?;
        let (load, started) = (Load::start(edge), clock::now());
        Ok(Self { out, load, started, all: Tally::default(), round: None })
    }

    /// From now on only figures are written, and only when a round is over.
    pub(super) fn be_quiet(&mut self) {
        self.round = Some(Tally::default());
    }

    /// Whether only figures are written.
    pub(super) fn is_quiet(&self) -> bool {
        self.round.is_some()
    }

    /// Tells what happens.
    pub(super) fn say(&mut self, what: impl Display) -> io::Result<()> {
        if self.is_quiet() { Ok(()) } else { writeln!(self.out, "\n{what}\n") }
    }

    /// Lets the time of two lines of figures pass.
    pub(super) async fn watch(&mut self) -> io::Result<()> {
        self.figures().await?;
        self.figures().await
    }

    /// Lets the time of one line pass, and writes what became of the requests.
    pub(super) async fn figures(&mut self) -> io::Result<()> {
        sleep(LINE).await;
        let tally = self.load.take();
        self.all.add(tally.clone());
        match &mut self.round {
            Some(round) => round.add(tally),
            None => self.write(&tally)?,
        }
        Ok(())
    }

    /// A round is over.
    pub(super) fn end_round(&mut self) -> io::Result<()> {
        match self.round.as_mut().map(std::mem::take) {
            Some(tally) => self.write(&tally),
            None => Ok(()),
        }
    }

    /// Ends the load, tells how it all went, and answers how many requests failed.
    pub(super) async fn end(mut self, interrupted: bool) -> io::Result<u64> {
        self.all.add(self.load.end().await);
        let Tally { requests, failed, .. } = self.all;
        // The terminal has written `^C`, and the next line is to begin at its start.
        let end = if interrupted { "\nEnded" } else { "\nThe end" };
        writeln!(self.out, "{end}: {requests} requests, {failed} failed.")?;
        Ok(failed)
    }

    fn write(&mut self, tally: &Tally) -> io::Result<()> {
        let seconds = clock::now().since(self.started).as_secs();
        write!(self.out, "{:>4}:{:02}  {:>8}", seconds / 60, seconds % 60, tally.requests)?;
        for name in COLUMNS {
            let count = tally.by_replica.get(name).map_or_else(|| "-".to_owned(), u64::to_string);
            write!(self.out, "  {count:>7}")?;
        }
        writeln!(self.out, "  {:>6}  {:>4} ms", tally.failed, tally.slowest.as_millis())?;
        match &tally.last_failure {
            Some(failure) => writeln!(self.out, "         {failure}"),
            None => Ok(()),
        }
    }
}
