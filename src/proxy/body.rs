//! The body of a response to a client: a replica's bytes as they come, or words of our own.
//!
//! What a request holds for as long as it lasts rides in here: a response's head comes long before
//! its last byte, and a client may leave at any moment in between.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::deadline::Deadline;
use crate::proxy::account::Account;
use crate::proxy::call::{Call, Polled};
use crate::proxy::lease::Lease;
use crate::proxy::upload::Upload;
use crate::upstream::{Endpoint, InFlight};

/// Why a response breaks off in the middle.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The stream of the replica broke.
    #[error("the replica's response broke off")]
    Replica(#[source] hyper::Error),
    /// The connection to the replica broke.
    #[error("the replica's response broke off")]
    Broken(#[source] io::Error),
    /// It is not framed as its head says.
    #[error("the replica's response is malformed")]
    Malformed,
    /// The replica ended the stream before its response was complete.
    #[error("the replica's response was cut short")]
    CutShort,
    /// Nothing moved for `timeout.stream-idle`.
    #[error("the response did not move for too long")]
    Idle,
}

/// A response's body.
#[derive(Debug)]
pub struct Body {
    content: Content,
    account: Option<Account>,
    taken: Option<Taken>,
}

/// Watches how a client takes a body.
#[derive(Debug)]
struct Taken {
    deadline: Deadline,
    /// Whether its socket tells how much it takes, as in HTTP/1. Otherwise hyper asks for more of the
    /// body as soon as it has found room for the last piece: until then the client is waited for.
    told: bool,
}

impl Taken {
    fn polled(&self, polled: &Polled) {
        if self.told {
            return;
        }
        let piece = matches!(polled, Poll::Ready(Some(Ok(_))));
        self.deadline.await_client(piece);
        if let Poll::Ready(Some(Ok(frame))) = polled {
            self.deadline.moved(frame.data_ref().map_or(0, Bytes::len));
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(Taken { deadline, .. }) = &self.taken else {
            return;
        };
        if deadline.is_used_up()
            && let Some(account) = &mut self.account
        {
            // Its last piece may have been asked for, but was not taken.
            account.left();
        }
        deadline.await_client(false);
    }
}

#[derive(Debug)]
enum Content {
    Own(Option<Bytes>),
    Streamed(Streamed),
}

/// A replica's bytes, and what is given back after the last one.
#[derive(Debug)]
pub struct Streamed {
    /// The bytes, and their connection; it takes further requests once all of them have come.
    pub lease: Option<Lease>,
    /// The request's body, which may be still on its way.
    pub upload: Upload,
    /// Counts as load until the end.
    pub in_flight: InFlight,
    /// The longest pause.
    pub deadline: Deadline,
    /// How long a pause may be.
    pub idle: Duration,
    /// The gRPC call that it answers, which ends with a status in any case.
    pub call: Option<Box<Call>>,
}

impl Body {
    /// A body of our own.
    pub fn own(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { content: Content::Own(bytes), account: None, taken: None }
    }

    /// Without bytes of our own: a response to HEAD.
    #[must_use]
    pub fn head_only(mut self) -> Self {
        if let Content::Own(bytes) = &mut self.content {
            *bytes = None;
        }
        self
    }

    /// A replica's body.
    pub fn streamed(streamed: Streamed) -> Self {
        streamed.deadline.set(Some(streamed.idle));
        let content = Content::Streamed(streamed);
        let mut body = Self { content, account: None, taken: None };
        body.end_if_over();
        body
    }

    /// Settles the account when the body ends, whichever way. Until then its client must take what
    /// there is of it at the least rate, which `deadline` watches; it may be `told` by the client's socket
    /// how much that is.
    #[must_use]
    pub fn accounted(mut self, account: Account, deadline: Deadline, told: bool) -> Self {
        deadline.grant();
        self.account = Some(account);
        self.taken = Some(Taken { deadline, told });
        self.end_if_over();
        self
    }

    /// Gives back what is held as soon as nothing more can come; hyper does not ask a body again
    /// that says so.
    fn end_if_over(&mut self) {
        if let Content::Streamed(Streamed { call: Some(call), .. }) = &self.content {
            if let (Some(account), Some(code)) = (&mut self.account, call.code()) {
                account.call_ended(code);
            }
            if call.is_cut() {
                // The replica is told at once that nobody waits any longer.
                self.content = Content::Own(None);
            }
        }
        if !self.is_end_stream() {
            return;
        }
        if let Content::Streamed(streamed) = &mut self.content {
            streamed.give_back();
            if let (Some(account), None) = (&self.account, &streamed.call) {
                account.came_whole(streamed.in_flight.endpoint());
            }
        }
        if let Some(account) = &mut self.account {
            account.finished();
        }
    }
}

impl Content {
    /// The replica whose doing it is that the response broke off. A call is judged by its status, and
    /// who pauses may have nothing to say.
    fn blames(&self, error: &BodyError) -> Option<&Endpoint> {
        let Self::Streamed(Streamed { upload, in_flight, call: None, .. }) = self else {
            return None;
        };
        let is_clients = upload.client_error().is_some() || matches!(error, BodyError::Idle);
        (!is_clients).then(|| &**in_flight.endpoint())
    }
}

impl Streamed {
    fn give_back(&mut self) {
        self.deadline.set(None);
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let polled = self.poll_replica(cx);
        match &mut self.call {
            Some(call) => call.pass(polled, &self.upload, cx),
            None => polled,
        }
    }

    /// Whether nothing more will come. A call goes on until its end is known.
    fn is_over(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_over)
            && self.call.as_ref().is_none_or(|call| !call.lacks_status())
    }

    fn poll_replica(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(lease) = &mut self.lease else {
            return Poll::Ready(None);
        };
        match lease.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline.set(Some(self.idle));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => {
                self.give_back();
                Poll::Ready(None)
            }
            Poll::Pending => self.deadline.poll_passed(cx).map(|()| Some(Err(BodyError::Idle))),
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.upload.cancel();
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let body = self.get_mut();
        if body.taken.as_ref().is_some_and(|taken| taken.deadline.is_full()) {
            // What is not read waits at the replica, and not here once for each client. Who writes to
            // the client's socket sees to it that this is asked again.
            return Poll::Pending;
        }
        let polled = match &mut body.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Streamed(streamed) => streamed.poll_frame(cx),
        };
        if let Some(taken) = &body.taken {
            taken.polled(&polled);
        }
        if let Some(account) = &mut body.account {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    account.sent(frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(Some(Err(error))) => account.broke_off(body.content.blames(error)),
                Poll::Ready(None) => account.finished(),
                Poll::Pending => {}
            }
        }
        body.end_if_over();
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Streamed(streamed) => streamed.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Streamed(streamed) => {
                streamed.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), Lease::size_hint)
            }
        }
    }
}
