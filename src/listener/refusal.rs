//! What is answered without hyper, and the words for what hyper refuses by itself.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use h2::Reason;
use tokio::io::AsyncWriteExt;

use crate::listener::stream::{LINGER, Stream, Watched};
use crate::proxy::Core;
use crate::proxy::answer;
use crate::proxy::error::ProxyError;

/// Answers a client whose head did not come to its end, of which `head` is known, and closes.
pub(super) async fn refuse<S: Stream>(
    core: &Core,
    listener: usize,
    mut stream: Watched<S>,
    error: ProxyError,
    head: &[u8],
) {
    core.count_refused(listener, error.reason());
    if stream.is_writing() {
        // The client does not even take an earlier answer.
        return;
    }
    let answer = answer::refuse_unread(error, head);
    let activity = std::sync::Arc::clone(stream.activity());
    activity.closes(LINGER);
    let mut said = pin!(async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    });
    poll_fn(|cx| match said.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => activity.poll_expired(cx),
    })
    .await;
}

/// The word in metrics for what hyper refused, with or without an answer; none if the client left, or
/// did something else that is no mistake.
pub(super) fn word_for(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        return Some("head_too_large");
    }
    if error.is_parse() {
        return Some("malformed");
    }
    let cause = error.source()?.downcast_ref::<h2::Error>()?;
    if !cause.is_library() {
        return None;
    }
    // h2 says so when it has been made to work for nothing too often.
    let floods = cause.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    Some(if floods { "h2_flood" } else { "h2_protocol" })
}
