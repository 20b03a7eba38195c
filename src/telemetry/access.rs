//! The access log: a buffer for each core, and one thread that empties them into a writer.
//!
//! A core appends to its own buffer under a lock that nobody else takes for longer than an exchange
//! of two pointers. While the writer is stuck the buffers fill up, and then lines are dropped and
//! counted: no request ever waits for a log. What stands in a line is the business of `access_line`.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::access_line::{Form, Line, Outcome, pieces};
use crate::clock;
use crate::config::LogFormat;
use crate::timestamp::Timestamp;
use crate::upstream::Endpoint;

/// No line waits longer to be written.
const PAUSE: Duration = Duration::from_millis(200);

/// So many bytes of one core are written without waiting any longer.
const ENOUGH: usize = 32 << 10;

/// As much of one core is kept while the writer is stuck; what comes after it is dropped.
const MOST_KEPT: usize = 1 << 20;

/// Notes of requests that are over, kept per core for those to come.
const MOST_SPARE: usize = 256;

/// The writer has that long for the last lines when the edge ends.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Where requests are written. The thread behind it lives until [`AccessLog::finish`].
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
}

/// What the cores and the writer have in common.
#[derive(Debug)]
struct Shared {
    first: Arc<Shelf>,
    others: Box<[Arc<Shelf>]>,
    ending: AtomicBool,
    /// Lines that the writer could not write.
    unwritten: AtomicU64,
}

/// One core's part: its lines, and notes to be used again.
#[derive(Debug)]
pub struct Shelf {
    form: Form,
    writer: Thread,
    /// The date at [`Timestamp::START`] in microseconds since 1970: corrected with the clock, and
    /// free to read.
    start: AtomicU64,
    kept: CachePadded<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<u8>,
    count: u64,
    dropped: u64,
    #[expect(clippy::vec_box, reason = "notes are handed out as boxes, and never moved")]
    spare: Vec<Box<Notes>>,
}

/// What is written about one request, from its head to its end.
#[derive(Debug)]
pub struct Entry {
    shelf: Arc<Shelf>,
    notes: Box<Notes>,
}

#[derive(Debug)]
struct Notes {
    line: Line,
    /// The replica that was asked last, and when.
    endpoint: Option<(Arc<Endpoint>, Timestamp)>,
    /// How long it took for a response head.
    answered: Option<Duration>,
    tries: u32,
    reason: Option<&'static str>,
}

impl AccessLog {
    /// A log for that many cores, written to `out` by a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(
        format: LogFormat,
        cores: usize,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let form = match format {
            LogFormat::Json => Form::Json,
            LogFormat::Text => Form::Text,
        };
        let (sender, ended) = watch::channel(());
        let (hand_over, shared) = std::sync::mpsc::channel::<Arc<Shared>>();
        let writing = move || {
            // Nobody to write for if the start was given up meanwhile.
            if let Ok(shared) = shared.recv() {
                shared.write_to(out);
            }
            drop(sender);
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(writing)?;
        let shelf = || Arc::new(Shelf::new(form, thread.thread().clone()));
        let shared = Arc::new(Shared {
            first: shelf(),
            others: (1..cores).map(|_| shelf()).collect(),
            ending: AtomicBool::new(false),
            unwritten: AtomicU64::new(0),
        });
        let _ = hand_over.send(Arc::clone(&shared));
        Ok(Self { shared, ended })
    }

    /// One core's part; a core that does not exist shares the first one's.
    pub fn shelf(&self, core: usize) -> &Arc<Shelf> {
        let other = core.checked_sub(1).and_then(|at| self.shared.others.get(at));
        other.unwrap_or(&self.shared.first)
    }

    /// Lines that were not written: there was no room for them, or writing failed.
    pub fn dropped(&self) -> u64 {
        let dropped = self.shared.shelves().map(|shelf| shelf.lock().dropped);
        dropped.fold(self.shared.unwritten.load(Relaxed), u64::saturating_add)
    }

    /// Writes what is left, and ends. A writer that is stuck has a second for it.
    pub async fn finish(&self) {
        self.shared.ending.store(true, Relaxed);
        self.shared.first.writer.unpark();
        let mut ended = self.ended.clone();
        // The other side sends nothing; it goes away when it is done.
        let written = timeout(LAST_CALL, ended.changed()).await.is_ok();
        let dropped = self.dropped();
        if dropped > 0 || !written {
            info!(dropped, written, "the access log is not complete");
        }
    }
}

impl Shared {
    fn shelves(&self) -> impl Iterator<Item = &Arc<Shelf>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        let mut works = true;
        loop {
            // Read first: what is on a shelf by then is taken below.
            let ending = self.ending.load(Relaxed);
            for shelf in self.shelves() {
                shelf.set_date();
                let count = shelf.take(&mut lines);
                let written = write(&mut out, &lines);
                if let Err(error) = &written {
                    self.unwritten.fetch_add(count, Relaxed);
                    if works {
                        warn!(%error, "the access log cannot be written; its lines are dropped");
                    }
                }
                works = written.is_ok();
                lines.clear();
                // A burst is over at some time, and so is what it needed.
                lines.shrink_to(ENOUGH.saturating_mul(2));
            }
            if ending {
                return;
            }
            thread::park_timeout(PAUSE);
        }
    }
}

/// In pieces that other writers to the same pipe cannot break up.
fn write(out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    pieces(lines).try_for_each(|piece| out.write_all(piece))?;
    out.flush()
}

impl Shelf {
    fn new(form: Form, writer: Thread) -> Self {
        let shelf = Self { form, writer, start: AtomicU64::new(0), kept: CachePadded::default() };
        shelf.set_date();
        shelf
    }

    fn set_date(&self) {
        let since_start = clock::now().as_micros();
        self.start.store(clock::unix_micros().saturating_sub(since_start), Relaxed);
    }

    /// A time of ours in microseconds since 1970.
    pub fn unix_micros(&self, at: Timestamp) -> u64 {
        self.start.load(Relaxed).saturating_add(at.as_micros())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges its lines for an empty buffer; says how many there were.
    fn take(&self, empty: &mut Vec<u8>) -> u64 {
        let mut kept = self.lock();
        std::mem::swap(&mut kept.lines, empty);
        std::mem::take(&mut kept.count)
    }

    /// Begins the entry of a request; `begin` writes what its head says.
    pub fn open(self: &Arc<Self>, begin: impl FnOnce(&mut Line)) -> Entry {
        let spare = self.lock().spare.pop();
        let mut notes = spare.unwrap_or_else(|| Box::new(Notes::new(self.form)));
        begin(&mut notes.line);
        Entry { shelf: Arc::clone(self), notes }
    }

    fn keep(&self, notes: Box<Notes>) {
        let mut kept = self.lock();
        let line = notes.line.as_bytes();
        let before = kept.lines.len();
        let after = before.saturating_add(line.len());
        if after > MOST_KEPT {
            kept.dropped = kept.dropped.saturating_add(1);
        } else {
            kept.lines.extend_from_slice(line);
            kept.count = kept.count.saturating_add(1);
        }
        if kept.spare.len() < MOST_SPARE {
            kept.spare.push(notes);
        }
        drop(kept);
        if before < ENOUGH && after >= ENOUGH {
            self.writer.unpark();
        }
    }
}

impl Notes {
    fn new(form: Form) -> Self {
        let line = Line::new(form);
        Self { line, endpoint: None, answered: None, tries: 0, reason: None }
    }

    fn clear(&mut self) {
        let Self { line: _, endpoint, answered, tries, reason } = self;
        (*endpoint, *answered, *tries, *reason) = (None, None, 0, None);
    }
}

impl Entry {
    /// The id that the request is passed on with.
    pub fn identify(&mut self, id: &[u8]) {
        self.notes.line.identify(id);
    }

    /// The request is answered by ourselves, for that reason.
    pub fn refused(&mut self, reason: &'static str) {
        self.notes.reason = Some(reason);
    }

    /// It goes to this replica.
    pub fn tried(&mut self, endpoint: &Arc<Endpoint>, now: Timestamp) {
        let notes = &mut *self.notes;
        notes.endpoint = Some((Arc::clone(endpoint), now));
        notes.answered = None;
        notes.tries = notes.tries.saturating_add(1);
    }

    /// The replica's response head came after that time.
    pub fn answered(&mut self, took: Duration) {
        self.notes.answered = Some(took);
    }

    /// The request is over, `now`: its line is written. What was noted here is filled in.
    pub fn settle(self, outcome: Outcome<'_>, now: Timestamp) {
        let Self { shelf, mut notes } = self;
        let asked = notes.endpoint.take();
        let name = asked.as_ref().map(|(endpoint, _)| endpoint.name.load());
        let until_now = || asked.as_ref().map(|(_, since)| now.since(*since));
        let outcome = Outcome {
            reason: notes.reason,
            endpoint: name.as_ref().map(|name| name.as_str()),
            upstream: notes.answered.or_else(until_now),
            retries: notes.tries.saturating_sub(1),
            ..outcome
        };
        notes.line.end(&outcome);
        notes.clear();
        shelf.keep(notes);
    }
}

#[cfg(test)]
mod tests;
