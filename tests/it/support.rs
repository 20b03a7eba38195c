//! The words that the tests are written in.

mod authority;
mod client;
pub(crate) mod frames;
mod grpc;
mod h2;
mod ingress;
mod origin;
pub(crate) mod program;
mod wire;

use std::time::Duration;

pub(crate) use self::authority::{Authority, acceptor};
pub(crate) use self::client::{check, get, send};
pub(crate) use self::grpc::{
    Caller, answer, answer_half, answer_with, call_to, outcome_of, reset_of, status_field,
};
pub(crate) use self::h2::{H2, h2_echo, text_of};
pub(crate) use self::ingress::{Ingress, service, swarm_service};
pub(crate) use self::origin::{Deaf, Deserted, Origin};
pub(crate) use self::wire::{Reply, Wire, field};

/// Longer than anything here takes on a busy machine; a test that waits for this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The outcome of something that must come to an end.
pub(crate) async fn soon<T>(what: &str, outcome: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, outcome).await;
    outcome.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
