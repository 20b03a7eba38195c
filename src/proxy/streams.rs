//! The tasks of the streams on a client's HTTP/2 connection.
//!
//! While its client has no room for more, hyper polls nothing of a stream, and nothing that waits
//! inside can end it. So each stream is polled by a task of ours that looks at the stream's time
//! limit as well. What it drops is reset, towards the client and towards the replica.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::deadline::{Deadline, Deadlines};
use crate::proxy::Client;

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

impl Client {
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
