//! The body of a request on its way to a replica, kept for a second try as long as that is possible.
//!
//! The client's bytes stay in an [`Upload`]; each try reads them through an [`UploadBody`] of its
//! own. What a try has read is kept up to 64 KiB, so that the next one can begin anew; from then on
//! the earlier one gets nothing more, though its connection may still be there and ask. Whatever the
//! client does wrong is noted here, since hyper reports it as an error of the exchange with the
//! replica, and a replica must never be charged for it.

mod view;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::deadline::Deadline;
use crate::proxy::error::ProxyError;
use crate::proxy::failure;
use crate::proxy::pool::Stream;
use crate::spec::Timeouts;
use crate::turn::Turn;

pub use self::view::UploadBody;

/// As much of a body is kept for another try; of a larger one nothing is.
const MOST_KEPT: usize = 64 * 1024;

/// A request's body while its request is under way.
#[derive(Clone, Debug)]
pub struct Upload(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    incoming: Incoming,
    /// The try that has the body now, counted from 1.
    current: usize,
    /// What has been read, if the next try can begin with it. In one piece: a client may send a byte
    /// at a time, or none.
    kept: Option<Vec<u8>>,
    /// How many of these bytes the current try has been given.
    given: usize,
    trailers: Option<http::HeaderMap>,
    received: u64,
    /// Whether the client must keep up the least rate, as long as there is no response head.
    paced: bool,
    limit: Option<u64>,
    stage: Stage,
    /// The response head is there, whose time limit does not count any more.
    answered: bool,
    failed: Option<ProxyError>,
    /// Nobody wants the rest: the response is over, or the client has left.
    cancelled: bool,
    /// Waits for the next frame.
    waker: Option<Waker>,
    deadline: Deadline,
    timeouts: Timeouts,
    /// What has been read since others had their turn.
    turn: Turn,
}

/// How much of the body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is more, or may be.
    Coming {
        /// Whether the replica would take it now: the client keeps it waiting.
        awaited: bool,
    },
    /// All of it has come from the client.
    Complete,
}

/// The request's body ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the request body was given up")]
pub struct GivenUp(
    /// What the replica is told in RST_STREAM: CANCEL, where hyper would say INTERNAL_ERROR.
    #[source]
    h2::Error,
);

impl GivenUp {
    fn new() -> Self {
        Self(h2::Error::from(h2::Reason::CANCEL))
    }
}

impl Upload {
    /// A request's body. `replayable` says whether it may be needed again, `paced` whether its client
    /// must keep up the least rate. From here on `deadline` is the longest pause while the body
    /// comes, and the time for the response head after it.
    ///
    /// # Errors
    /// [`ProxyError::BodyTooLarge`] if the head says so already.
    pub fn new(
        incoming: Incoming,
        replayable: bool,
        paced: bool,
        limit: Option<u64>,
        deadline: &Deadline,
        timeouts: &Timeouts,
    ) -> Result<Self, ProxyError> {
        if incoming.is_end_stream() {
            return Ok(Self(None));
        }
        if limit.is_some_and(|limit| incoming.size_hint().lower() > limit) {
            return Err(ProxyError::BodyTooLarge);
        }
        deadline.grant();
        Ok(Self(Some(Arc::new(Mutex::new(State {
            incoming,
            current: 0,
            kept: replayable.then(Vec::new),
            given: 0,
            trailers: None,
            received: 0,
            paced,
            limit,
            stage: Stage::Coming { awaited: false },
            answered: false,
            failed: None,
            cancelled: false,
            waker: None,
            deadline: deadline.clone(),
            timeouts: timeouts.clone(),
            turn: Turn::first(),
        })))))
    }

    /// The body for one try, from its first byte; earlier ones get nothing more. It holds on to
    /// `stream` until it is through.
    pub fn body(&self, stream: Option<Arc<Stream>>) -> UploadBody {
        let (number, hint) = self.lock().map_or_else(
            || (0, SizeHint::with_exact(0)),
            |mut state| {
                let unread = state.received == 0;
                let hint = if unread { state.incoming.size_hint() } else { SizeHint::new() };
                (state.start_try(), hint)
            },
        );
        let ended = self.0.is_none();
        UploadBody { upload: self.clone(), number, begun: false, ended, hint, stream }
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether another try can have all of it.
    pub fn can_begin_anew(&self) -> bool {
        self.lock().is_none_or(|state| state.kept.is_some() || state.received == 0)
    }

    /// The response head is there and no further try will come: what was kept is let go, once the
    /// current try has been given all of it.
    pub fn answered(&self) {
        if let Some(mut state) = self.lock() {
            state.answered = true;
            state.let_go();
        }
    }

    /// Nobody wants the rest. hyper ends an HTTP/2 stream only when both bodies have ended, so the
    /// one that is still open must be told, also while it is not asked for (`proxy/pipe.rs`).
    pub fn cancel(&self) {
        if let Some(mut state) = self.lock() {
            state.cancelled = true;
            state.wake();
        }
    }

    /// Ready when nobody wants the rest.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(mut state) = self.lock() else {
            return Poll::Pending;
        };
        if state.cancelled {
            return Poll::Ready(());
        }
        state.wait(cx);
        Poll::Pending
    }

    /// What the client did wrong, if it did.
    pub fn client_error(&self) -> Option<ProxyError> {
        self.lock().and_then(|state| state.failed)
    }

    /// Whether more of the body is to come, and the replica would take it.
    pub fn waits_for_client(&self) -> bool {
        self.lock().is_some_and(|state| state.stage == Stage::Coming { awaited: true })
    }

    /// Whether all of the body has come.
    pub fn is_complete(&self) -> bool {
        self.lock().is_none_or(|state| state.stage == Stage::Complete)
    }

    /// Bytes that have come from the client.
    pub fn received(&self) -> u64 {
        self.lock().map_or(0, |state| state.received)
    }

    /// The longest pause while the body comes; none if all of it has come.
    pub fn longest_pause(&self) -> Option<Duration> {
        let state = self.lock().filter(|state| state.stage != Stage::Complete)?;
        Some(state.timeouts.stream_idle)
    }

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Begins another try, and tells the earlier one to end. Returns its number.
    fn start_try(&mut self) -> usize {
        self.current = self.current.saturating_add(1);
        self.given = 0;
        self.wake();
        self.current
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What was read in an earlier try, and has not been given to this one.
    fn replay(&mut self) -> Option<Bytes> {
        let rest = self.kept.as_ref()?.get(self.given..).filter(|rest| !rest.is_empty())?;
        let rest = Bytes::copy_from_slice(rest);
        self.given = self.given.saturating_add(rest.len());
        self.let_go();
        Some(rest)
    }

    /// Lets go of what was kept, if nobody needs it any more.
    fn let_go(&mut self) {
        if self.answered && self.kept.as_ref().is_some_and(|kept| self.given >= kept.len()) {
            self.kept = None;
        }
    }

    /// The next frame from the client.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if self.cancelled {
            return Poll::Ready(Some(Err(GivenUp::new())));
        }
        if self.turn.poll(cx).is_pending() {
            self.wait(cx);
            return Poll::Pending;
        }
        let polled = self.poll_client(cx);
        self.stage = Stage::Coming { awaited: polled.is_pending() };
        if self.paced && !self.answered {
            self.deadline.await_client(polled.is_pending());
        }
        let Poll::Ready(frame) = polled else {
            self.wait(cx);
            return Poll::Pending;
        };
        let Some(frame) = frame else {
            self.end();
            return Poll::Ready(None);
        };
        let frame =
            frame.map_err(|error| failure::of_client(&error)).and_then(|frame| self.take(frame));
        Poll::Ready(Some(frame.map_err(|error| {
            self.failed = Some(error);
            GivenUp::new()
        })))
    }

    /// Passes over empty frames: servers count those of all clients of a connection, and end it by the
    /// hundredth, as an attack.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
            let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            let is_nothing = matches!(&frame, Some(Ok(frame)) if is_empty(frame));
            if !is_nothing || self.incoming.is_end_stream() {
                return Poll::Ready(frame);
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, ProxyError> {
        self.deadline.set(Some(self.timeouts.stream_idle));
        let Some(data) = frame.data_ref() else {
            self.trailers = frame.trailers_ref().cloned();
            self.end();
            return Ok(frame);
        };
        self.received = self.received.saturating_add(data.len() as u64);
        self.turn.moved(data.len());
        if !self.answered {
            self.deadline.moved(data.len());
        }
        if self.limit.is_some_and(|limit| self.received > limit) {
            return Err(ProxyError::BodyTooLarge);
        }
        Self::keep(&mut self.kept, &mut self.given, data);
        if self.incoming.is_end_stream() {
            self.end();
        }
        Ok(frame)
    }

    fn keep(kept: &mut Option<Vec<u8>>, given: &mut usize, data: &[u8]) {
        let Some(so_far) = kept else {
            return;
        };
        if so_far.len().saturating_add(data.len()) > MOST_KEPT {
            *kept = None;
            return;
        }
        // A copy: a slice would hold on to the whole buffer that it was read into.
        so_far.extend_from_slice(data);
        *given = so_far.len();
    }

    /// The last byte has come: from here on the replica's time counts.
    fn end(&mut self) {
        if self.stage != Stage::Complete {
            self.stage = Stage::Complete;
            let timeouts = &self.timeouts;
            self.deadline.set(if self.answered {
                Some(timeouts.stream_idle)
            } else {
                timeouts.response_header
            });
        }
    }
}
