//! One try's view of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{GivenUp, Stage, Upload};
use crate::proxy::pool::Stream;

/// One try's view of an [`Upload`].
#[derive(Debug)]
pub struct UploadBody {
    pub(super) upload: Upload,
    /// Which try this is; 0 if there is no body.
    pub(super) number: usize,
    pub(super) begun: bool,
    pub(super) ended: bool,
    pub(super) hint: SizeHint,
    /// Counts against the connection's streams for as long as it is held.
    pub(super) stream: Option<Arc<Stream>>,
}

impl UploadBody {
    /// Ready when nobody wants the rest of it.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        self.upload.poll_cancelled(cx)
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let body = self.get_mut();
        if !std::mem::replace(&mut body.begun, true)
            && let Some(stream) = &body.stream
        {
            stream.begun().with(&body.upload);
        }
        let Some(mut state) = body.upload.lock() else {
            return Poll::Ready(None);
        };
        if body.number != state.current {
            return Poll::Ready(Some(Err(GivenUp::new())));
        }
        if let Some(rest) = state.replay() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        if state.stage == Stage::Complete {
            let trailers = state.trailers.clone().filter(|_| !body.ended);
            body.ended = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = state.poll_next(cx);
        // Then the last frame says so itself.
        body.ended = state.stage == Stage::Complete;
        drop(state);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
