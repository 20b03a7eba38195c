//! What an edge is as pid 1 of a container: the process that runs the edge itself as its child, and
//! starts it again when it dies.
//!
//! A Swarm restarts no task while it has no leader, and otherwise only after seconds. This process has
//! copies of the sockets that its child has bound, so that clients wait instead of being refused, and
//! does nothing that could fail: it reads no labels and takes no connections. Child and parent speak
//! as `handover` says, over the child's standard input.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::clock;
use crate::handover::{self, HandoverError, Held, PATIENCE};

/// The flag that makes a process the child, with [`FIRST`] or [`AGAIN`] behind it.
pub const FLAG: &str = "--supervised";

/// The child is the first one that runs.
pub const FIRST: &str = "first";

/// Another child has run before.
pub const AGAIN: &str = "again";

/// A child that has lived that long has not died of how it was started.
const LONG: Duration = Duration::from_secs(1);

/// Before the second restart within [`LONG`]; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two restarts at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether this process is the first one of its container.
pub fn is_called_for() -> bool {
    std::process::id() == 1
}

/// Runs this program with the same arguments as a child, until the child ends as it was told to, or
/// cannot start at all: its exit code is the answer.
///
/// # Errors
/// If there can be no process or no signal.
pub async fn run() -> io::Result<ExitCode> {
    let mut events = Events::new()?;
    let mut kept = Vec::new();
    let mut has_served = false;
    let mut pause = Duration::ZERO;
    loop {
        let began = clock::now();
        let child = Child::start(&kept, has_served);
        let end = match child {
            Ok(child) => child.watch(&mut events, &mut kept, &mut has_served).await,
            // There may be memory for it again in a moment.
            Err(error) if has_served => End::Died(format!("it cannot be started: {error}")),
            Err(error) => return Err(error),
        };
        let why = match end {
            End::Over(code) => return Ok(code),
            End::Died(why) => why,
        };
        if clock::now().since(began) >= LONG {
            pause = Duration::ZERO;
        }
        warn!(why, after = ?pause, "the edge died: starting it again");
        tokio::select! {
            () = sleep(pause) => {}
            () = events.told_to_stop() => return Ok(ExitCode::SUCCESS),
        }
        pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
    }
}

/// How a child ended.
enum End {
    /// For good, and this process with it.
    Over(ExitCode),
    /// So that there must be another one.
    Died(String),
}

/// What this process waits for.
struct Events {
    child: Signals,
    term: Signals,
    int: Signals,
}

impl Events {
    fn new() -> io::Result<Self> {
        let child = signal(SignalKind::child())?;
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { child, term, int })
    }

    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// What this process is told, or the end of its child. Others that end meanwhile had lost their
    /// parents, and are buried.
    async fn next(&mut self, process: Pid) -> Event {
        loop {
            while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
                if ended == process {
                    return Event::Ended(status);
                }
            }
            tokio::select! {
                _ = self.child.recv() => {}
                _ = self.term.recv() => return Event::Stop(Signal::TERM),
                _ = self.int.recv() => return Event::Stop(Signal::INT),
            }
        }
    }
}

/// A child that runs.
struct Child {
    process: Pid,
    /// Its sockets, which it tells once it has started.
    sockets: JoinHandle<Result<Vec<Held>, HandoverError>>,
}

impl Child {
    fn start(kept: &[Held], again: bool) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        handover::give(&ours, kept)?;
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        arguments.extend([FLAG.into(), if again { AGAIN } else { FIRST }.into()]);
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.args(arguments).stdin(OwnedFd::from(theirs)).spawn()?;
        // It takes as long as the child does; without a child there is an end of the stream.
        let sockets = tokio::task::spawn_blocking(move || handover::receive(&ours));
        Ok(Self { process: Pid::from_child(&child), sockets })
    }

    /// Waits for its end, passes on what this process is told, and keeps the sockets.
    async fn watch(
        mut self,
        events: &mut Events,
        kept: &mut Vec<Held>,
        has_served: &mut bool,
    ) -> End {
        let (mut is_silent, mut is_stopping) = (true, false);
        let status = loop {
            let event = tokio::select! {
                told = &mut self.sockets, if is_silent => Event::Told(told.ok().and_then(Result::ok)),
                event = events.next(self.process) => event,
            };
            match event {
                Event::Told(sockets) => {
                    is_silent = false;
                    *has_served |= sockets.is_some();
                    // At the end the child alone is to have them, or clients would wait in vain.
                    if let Some(sockets) = sockets.filter(|_| !is_stopping) {
                        *kept = sockets;
                    }
                }
                Event::Stop(signal) => {
                    is_stopping = true;
                    kept.clear();
                    let _ = kill_process(self.process, signal);
                }
                Event::Ended(status) => break status,
            }
        };
        if is_silent && let Ok(Ok(sockets)) = self.sockets.await {
            (*kept, *has_served) = (sockets, true);
        }
        judge(status, is_stopping, *has_served)
    }
}

/// What may come next.
enum Event {
    Told(Option<Vec<Held>>),
    Stop(Signal),
    Ended(WaitStatus),
}

fn judge(status: WaitStatus, is_stopping: bool, has_served: bool) -> End {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    match code {
        // What is wrong with options or addresses it has said itself, and would say again.
        Some(code) if code == 0 || is_stopping || !has_served => End::Over(ExitCode::from(code)),
        Some(code) => End::Died(format!("it ended with {code}")),
        None => {
            let signal = status.terminating_signal().unwrap_or_default();
            // As shells tell it.
            let code = u8::try_from(signal).unwrap_or_default().saturating_add(128);
            let killed = End::Died(format!("signal {signal} ended it"));
            if is_stopping { End::Over(ExitCode::from(code)) } else { killed }
        }
    }
}

/// The child's end of what binds it to its parent.
#[derive(Debug)]
pub struct Parent {
    stream: UnixStream,
    sockets: Vec<Held>,
    is_first: bool,
}

impl Parent {
    /// For a process that was called with [`FLAG`] and this word.
    ///
    /// # Errors
    /// If it is no child.
    pub fn find(word: &str) -> Result<Self, HandoverError> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let sockets = handover::receive(&stream)?;
        // A child that goes on alone would keep the ports from the next one.
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(io::Error::from)?;
        Ok(Self { stream, sockets, is_first: word == FIRST })
    }

    /// Whether no child has served before.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// The sockets of the child before.
    pub fn take_sockets(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.sockets)
    }

    /// Says that this child has started, and gives the parent copies of its sockets.
    pub fn keep(&self, sockets: &[Held]) {
        match handover::give(&self.stream, sockets) {
            Ok(()) => info!(sockets = sockets.len(), "pid 1 keeps the sockets"),
            Err(error) => warn!(%error, "pid 1 does not keep the sockets"),
        }
    }
}
