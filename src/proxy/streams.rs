//! The tasks of the streams on a client's HTTP/2 connection.
//!
//! While its client has no room for more, hyper polls nothing of a stream, and nothing that waits
//! inside can end it. So each stream is polled by a task of ours that looks at the stream's time
//! limit as well. What it drops is reset, towards the client and towards the replica.
//!
//! Of many streams that come at once on one connection all but the first few begin a few at a time,
//! between all that the core does for others; of a client that has given up most of its requests, all. One
//! that opens streams only to reset them has done so by then, and no replica hears of them (CVE-2023-44487).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::deadline::{Deadline, Deadlines};
use crate::proxy::Client;
use crate::turn::{Kind, wake_in_turn};

/// Streams of one connection that begin as soon as they come.
const AT_ONCE: usize = 16;

tokio::task_local! {
    /// The time limit of the stream whose request begins: hyper has no way to hand it down.
    static BEGINNING: Deadline;
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub struct Streams(Arc<Deadlines>);

impl Streams {
    /// Each stream will have a time limit among these.
    pub const fn new(deadlines: Arc<Deadlines>) -> Self {
        Self(deadlines)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let deadline = self.0.add();
        tokio::spawn(Limited { stream, deadline, begun: false });
    }
}

/// The streams of one connection that have come and not begun.
#[derive(Debug, Default)]
pub struct Line(Arc<AtomicUsize>);

impl Line {
    /// One more has come, of a client in doubt or not. It is in line until [`InLine::turn`] is ready, or it
    /// is dropped.
    fn join(&self, doubtful: bool) -> InLine {
        let waits = self.0.fetch_add(1, Relaxed) >= AT_ONCE || doubtful;
        InLine { line: Some(Arc::clone(&self.0)), waits }
    }
}

/// A request that has come.
#[derive(Debug)]
pub struct InLine {
    /// None in HTTP/1, where one comes after the other.
    line: Option<Arc<AtomicUsize>>,
    waits: bool,
}

impl InLine {
    /// Ready when it may begin. hyper looks whether it was reset whenever it is not.
    pub async fn turn(mut self) {
        poll_fn(|cx| {
            if !std::mem::take(&mut self.waits) {
                return Poll::Ready(());
            }
            wake_in_turn(Kind::Begin, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.fetch_sub(1, Relaxed);
        }
    }
}

impl Client {
    /// A request has come.
    pub(super) fn join_line(&self) -> InLine {
        let is_http1 = self.deadline.is_some();
        if is_http1 {
            return InLine { line: None, waits: false };
        }
        self.line.join(self.activity.is_doubtful())
    }

    /// The time limit of a request that has just come: the connection's with HTTP/1, else that of
    /// the stream that is polled for the first time.
    pub(super) fn deadline(&self) -> Deadline {
        let beginning = || BEGINNING.try_with(Clone::clone).ok();
        let deadline = self.deadline.clone().or_else(beginning);
        deadline.unwrap_or_else(|| self.core.deadlines.add())
    }
}

pin_project! {
    /// A stream, until it ends or its time is over.
    struct Limited<F> {
        #[pin]
        stream: F,
        deadline: Deadline,
        begun: bool,
    }
}

impl<F: Future<Output = ()>> Future for Limited<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (stream, deadline) = (this.stream, &*this.deadline);
        let polled = if std::mem::replace(this.begun, true) {
            stream.poll(cx)
        } else {
            BEGINNING.sync_scope(deadline.clone(), || stream.poll(cx))
        };
        // Only now: what the stream itself does about its limit comes first.
        if polled.is_ready() { polled } else { deadline.poll_over(cx) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn of_many_streams_all_but_the_first_few_begin_in_turn() {
        let line = Line::default();
        let mut come: Vec<_> =
            (0..AT_ONCE + 2).map(|_| Box::pin(line.join(false).turn())).collect();
        // Not the order in which they are polled counts, but that in which they came.
        let (mut last, mut before) = (come.pop().unwrap(), come.pop().unwrap());
        assert!(poll!(&mut last).is_pending() && poll!(&mut before).is_pending());
        for first in &mut come {
            assert!(poll!(first).is_ready());
        }
        last.await;
        // Reset while it waits.
        drop(before);
        assert_eq!(line.0.load(Relaxed), 0);
        assert!(poll!(Box::pin(line.join(false).turn())).is_ready());
        assert!(poll!(Box::pin(line.join(true).turn())).is_pending(), "its client is in doubt");
    }
}
