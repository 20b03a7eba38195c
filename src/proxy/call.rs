//! A gRPC call on its way back: whatever happens to the replica, it ends with a status.
//!
//! A stream that is reset, or ends without trailers, reaches a client as CANCELLED, INTERNAL or
//! worse, which is neither true nor tried again. What was received before stays received.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::Frame;

use crate::deadline::Deadline;
use crate::grpc::{self, Code, GRPC_STATUS};
use crate::proxy::answer;
use crate::proxy::body::BodyError;
use crate::proxy::error::ProxyError;
use crate::proxy::failure::{self, Failure};
use crate::proxy::outcome::{Outcome, Verdict};
use crate::proxy::upload::Upload;

/// A frame of a response's body, if there is one.
pub type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The replica did not say how the call ended.
const NO_STATUS: &str = "the replica's response ended without a status";

/// A call that is being answered.
#[derive(Debug)]
pub struct Call {
    /// How it ended, as far as is known.
    code: Option<Code>,
    /// HTTP/1 has no place for trailers that were not announced: there a broken response breaks.
    takes_trailers: bool,
    /// The end was made here: nothing of the replica's is wanted any more.
    cut: bool,
    /// The client's own time limit.
    deadline: Option<Deadline>,
    outcome: Option<Outcome>,
}

/// Whether a response is gRPC's: some servers leave out the content type where there is no message.
pub fn is_answer(fields: &HeaderMap) -> bool {
    fields.contains_key(GRPC_STATUS) || grpc::is_grpc(fields)
}

impl Call {
    /// A call whose response has begun with the fields of `head`, which may be all of it: `ended` says so. A
    /// status that is missing then is put there.
    pub fn answered(
        head: &mut HeaderMap,
        ended: bool,
        client: Version,
        deadline: Option<Deadline>,
        outcome: Option<Outcome>,
    ) -> Self {
        if ended && !head.contains_key(GRPC_STATUS) {
            grpc::end_with(head, Code::Unavailable, NO_STATUS);
        }
        let code = Code::of(head);
        Self { code, takes_trailers: client == Version::HTTP_2, cut: false, deadline, outcome }
    }

    /// How it ended; none while nobody knows.
    pub const fn code(&self) -> Option<Code> {
        self.code
    }

    /// Whether the client cannot have its end yet, though no message may be left.
    pub const fn lacks_status(&self) -> bool {
        self.takes_trailers && self.code.is_none()
    }

    /// Whether its end is not the replica's.
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// What the client gets for the next frame of the replica.
    pub fn pass(&mut self, polled: Polled, upload: &Upload, cx: &Context<'_>) -> Polled {
        match polled {
            Poll::Pending => {
                let deadline = self.deadline.as_ref();
                if deadline.is_none_or(|deadline| deadline.poll_passed(cx).is_pending()) {
                    return Poll::Pending;
                }
                self.end_expired()
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.note(frame)))),
            Poll::Ready(Some(Err(error))) if self.takes_trailers => self.end_broken(&error, upload),
            Poll::Ready(None) if self.lacks_status() => {
                let malformed = Verdict::of_failure(Failure::Malformed);
                self.end(Code::Unavailable, NO_STATUS, malformed)
            }
            Poll::Ready(None | Some(Err(_))) => polled,
        }
    }

    /// Reads the status from trailers; puts one there if they have none.
    fn note(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(data) => return data,
        };
        let told = Code::of(&trailers).or(self.code);
        if told.is_none() {
            grpc::end_with(&mut trailers, Code::Unavailable, NO_STATUS);
        }
        let verdict = told.map_or(Verdict::of_failure(Failure::Malformed), Verdict::of_grpc);
        self.settle(told.unwrap_or(Code::Unavailable), verdict);
        Frame::trailers(trailers)
    }

    fn end_broken(&mut self, error: &BodyError, upload: &Upload) -> Polled {
        if let Some(clients) = upload.client_error() {
            return self.end(
                clients.grpc_status(),
                &answer::call_message(clients),
                Verdict::CLIENT,
            );
        }
        let failure = match error {
            BodyError::Replica(error) if failure::is_expired(error, self.deadline.as_ref()) => {
                return self.end_expired();
            }
            BodyError::Replica(_) | BodyError::Broken(_) | BodyError::CutShort => Failure::Reset,
            BodyError::Malformed => Failure::Malformed,
            BodyError::Idle => Failure::Timeout,
        };
        self.end(Code::Unavailable, &error.to_string(), Verdict::of_failure(failure))
    }

    /// Its client's own time is up.
    fn end_expired(&mut self) -> Polled {
        let error = ProxyError::DeadlineExceeded;
        self.end(error.grpc_status(), &answer::call_message(error), Verdict::DEADLINE)
    }

    /// Ends it with trailers of our own.
    fn end(&mut self, code: Code, message: &str, verdict: Verdict) -> Polled {
        let mut trailers = HeaderMap::with_capacity(2);
        grpc::end_with(&mut trailers, code, message);
        self.cut = true;
        self.settle(code, verdict);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn settle(&mut self, code: Code, verdict: Verdict) {
        self.code = Some(code);
        if let Some(outcome) = self.outcome.take() {
            outcome.settle(verdict);
        }
    }
}
