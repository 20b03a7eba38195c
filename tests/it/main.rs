//! The data path over real sockets, from a client's bytes to a replica's and back.
//!
//! One binary with one vocabulary: `support` has replicas that behave well or badly, an edge that is
//! fed by hand, and clients that write what no library would.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod access_log;
mod architecture;
mod balancing;
mod checks;
mod client_certificates;
mod counting;
mod documents;
mod crowds;
mod drain;
mod failures;
mod forwarding;
mod fuzz_corpus;
mod grpc;
mod hostile_connections;
mod hostile_http2;
mod hostile;
mod label_changes;
mod limits;
mod memory;
mod progress;
mod protocols;
mod replicas;
mod saved;
mod sockets;
mod supervision;
mod stack_files;
mod support;
mod tls;
mod upgrades;
mod upstream_tls;
mod waiting;
