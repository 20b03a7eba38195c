//! How long one task keeps its core before others have their turn.
//!
//! The runtime gives each turn 128 steps and counts one for each read or write, whatever comes of it.
//! What costs more than a small read is spent here besides: else each of a thousand large responses, or
//! one client with a flood of tiny frames, would keep everybody else on the core waiting.

use std::task::{Context, Poll};

use tokio::task::coop;

/// Makes the turn of the present task shorter by that many steps. Once they are used up its next read or
/// write waits for the next turn; nothing is lost.
pub fn spend(steps: usize, cx: &mut Context<'_>) {
    for _ in 0..steps {
        match coop::poll_proceed(cx) {
            Poll::Ready(step) => step.made_progress(),
            Poll::Pending => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_turn_is_over_after_as_many_steps_as_the_runtime_gives() {
        tokio::task::yield_now().await;
        poll_fn(|cx| {
            spend(127, cx);
            assert!(coop::has_budget_remaining());
            spend(2, cx);
            assert!(!coop::has_budget_remaining());
            Poll::Ready(())
        })
        .await;
    }
}
