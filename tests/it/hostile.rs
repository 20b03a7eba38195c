//! Hostile requests, replayed byte by byte: each is answered as it is written, nothing that was
//! refused reaches a replica, and nobody gets another's answer.
//!
//! The cases stand in `tests/data/hostile`. Behind each of them on the same connection, and before
//! and after it on another one, goes a request of an innocent client, the *canary*.

mod case;
pub(crate) mod frames;
mod http1;
mod http2;
mod recorder;
mod responses;
mod trial;
