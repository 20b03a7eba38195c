//! What a failed exchange with a replica means: may the request have run, and whose fault is it?
//!
//! hyper's flags alone do not answer. Three questions do: was a byte written, was the request
//! refused explicitly, did a byte of the response arrive?

use std::error::Error;
use std::io;

use h2::Reason;

use crate::clock;
use crate::deadline::Deadline;
use crate::proxy::error::ProxyError;

/// Why a try failed before its response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Provably not processed: never written, refused (REFUSED_STREAM; RFC 9113, section 8.7), or
    /// above the last stream of a GOAWAY (section 6.8). Any request may go again.
    NotProcessed,
    /// The connection broke. The request may have run.
    Reset,
    /// The replica's machine acknowledges nothing: it is gone, or the way to it. The request may have run.
    Silent,
    /// A connection that had been used before ended without a byte of a response: most likely the
    /// replica had closed it as idle. The request may have run all the same.
    Stale,
    /// What came back was not HTTP.
    Malformed,
    /// The response head did not come in time.
    Timeout,
    /// The client's fault; the replica is not charged for it.
    Client(ProxyError),
}

impl Failure {
    /// What an error of hyper's client means that did not hand the request back.
    pub fn of(error: &hyper::Error) -> Self {
        match cause::<h2::Error>(error) {
            Some(h2) if h2.is_remote() && h2.is_go_away() => Self::NotProcessed,
            Some(h2) if h2.is_remote() && h2.reason() == Some(Reason::REFUSED_STREAM) => {
                Self::NotProcessed
            }
            Some(h2) if h2.get_io().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) => {
                Self::Silent
            }
            _ if error.is_parse() => Self::Malformed,
            _ => Self::Reset,
        }
    }

    /// The same of a call, whose client may have set it a time limit.
    pub fn of_call(error: &hyper::Error, limit: Option<&Deadline>) -> Self {
        if is_expired(error, limit) {
            return Self::Client(ProxyError::DeadlineExceeded);
        }
        Self::of(error)
    }

    /// The word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotProcessed => "refused",
            Self::Reset => "reset",
            Self::Silent => "silent",
            Self::Stale => "stale",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Client(_) => "client",
        }
    }

    /// What the client is told, if the request does not go again.
    pub const fn error(self) -> ProxyError {
        match self {
            Self::NotProcessed | Self::Reset | Self::Silent | Self::Stale => ProxyError::Reset,
            Self::Malformed => ProxyError::BadResponse,
            Self::Timeout => ProxyError::ResponseTimeout,
            Self::Client(error) => error,
        }
    }
}

/// What an error means with which a client's body ends. Bytes that cannot be read are its mistake;
/// whatever else there is, it has left.
pub fn of_client(error: &hyper::Error) -> ProxyError {
    let unreadable = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    };
    let is_mistake = match cause::<h2::Error>(error) {
        Some(h2) => !h2.is_remote() && !h2.is_io(),
        None => cause(error).is_some_and(unreadable),
    };
    if is_mistake { ProxyError::ClientBroken } else { ProxyError::ClientLeft }
}

/// Whether a replica cancelled a call because its client's time is up. Servers that read `grpc-timeout`
/// themselves do so without a word, gRPC's own for Go among them, and sooner than our tick.
pub fn is_expired(error: &hyper::Error, limit: Option<&Deadline>) -> bool {
    let Some(limit) = limit else {
        return false;
    };
    let is_cancelled = |h2: &h2::Error| h2.is_remote() && h2.reason() == Some(Reason::CANCEL);
    cause(error).is_some_and(is_cancelled) && limit.is_due(clock::now())
}

/// What lies behind an error of hyper's, if it is of that type.
fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}
