//! The tasks that send request bodies on HTTP/2 connections to replicas, and how one is called back.
//!
//! While a replica has no room for more, hyper does not ask for the rest of a body and would wait for
//! ever, though nobody wants it sent any longer. What ends its task resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::proxy::upload::Upload;

/// The body that hyper has just begun with on one connection, if it is to become a task: hyper asks
/// for the first piece, and hands over the task in the same breath.
#[derive(Debug, Default)]
pub struct Begun(Mutex<Option<Upload>>);

impl Begun {
    /// The first piece of this body is asked for.
    pub fn with(&self, upload: &Upload) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(upload.clone());
    }

    /// Runs a task of hyper's; one that sends a body for as long as the body is wanted.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match begun {
            Some(upload) => drop(tokio::spawn(Pipe { task, upload })),
            None => drop(tokio::spawn(task)),
        }
    }
}

pin_project! {
    /// A body on its way.
    struct Pipe<F> {
        #[pin]
        task: F,
        upload: Upload,
    }
}

impl<F: Future<Output = ()>> Future for Pipe<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = this.task.poll(cx);
        if polled.is_ready() { polled } else { this.upload.poll_cancelled(cx) }
    }
}
