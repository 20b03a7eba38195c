//! What HTTP/2 is served on: it notices a client whose frames are about nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::frames::{Allowance, Frames};
use crate::listener::stream::Stream;
use crate::proxy::activity::Activity;
use crate::turn::Turn;

/// A stream of HTTP/2.
pub(super) struct Metered<S> {
    stream: S,
    activity: Arc<Activity>,
    frames: Frames,
    allowance: Allowance,
    turn: Turn,
    /// How much is read at once.
    most: usize,
}

/// What is read at once at least.
const LEAST_READ: usize = 256;

impl<S: Stream> Metered<S> {
    /// Tells that activity when the client goes too far.
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        let allowance = Allowance::full(activity.ticked());
        Self {
            stream,
            activity,
            frames: Frames::default(),
            allowance,
            turn: Turn::default(),
            most: usize::MAX,
        }
    }

    fn meter(&mut self, bytes: &[u8]) {
        if self.allowance.is_low() {
            self.allowance.refill(self.activity.ticked());
            let (frames, bytes) = self.activity.take_sent();
            self.allowance.earn_by_data(frames, bytes);
        }
        let (allowance, mut enough, mut steps) = (&mut self.allowance, true, 0_usize);
        self.frames.follow(bytes, |frame| {
            enough &= allowance.pay(frame);
            steps = steps.saturating_add(frame.steps());
        });
        self.turn.spend(steps);
        // What has been read is worked off at once: of such frames as many as fit into a turn.
        let fits = bytes.len().saturating_mul(Turn::STEPS).checked_div(steps);
        self.most = fits.unwrap_or(usize::MAX).max(LEAST_READ);
        if !enough {
            self.activity.flooded();
        }
    }

    /// Reads, but no more than is worked off in a turn.
    fn poll_read_most(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() <= self.most {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(self.most));
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        polled
    }
}

impl<S: Stream> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.turn.poll(cx));
        let before = buffer.filled().len();
        let polled = self.poll_read_most(cx, buffer);
        if polled.is_pending() {
            self.turn.begin();
        }
        if let Some(came) = buffer.filled().get(before..).filter(|came| !came.is_empty()) {
            self.meter(came);
        }
        polled
    }
}

impl<S: Stream> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
