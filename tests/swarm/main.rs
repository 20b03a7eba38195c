//! Hiveway on a real Docker Swarm, as a client outside the Swarm sees it.
//!
//! Run by `./check`, in a lab of its own. By hand:
//!
//! ```sh
//! lab/up.sh 1 && lab/images.sh && cargo build --test swarm --message-format short
//! lab/client.sh target/debug/deps/swarm-... --test-threads=1 --skip nodes::
//! lab/down.sh
//! ```
//!
//! Those of `nodes` want the whole stack, on a lab of three nodes of its own (`lab/up.sh 3 1`, and the
//! filter `nodes::`); the others one node with `docker-stack.single.yml`. The tests share one Swarm,
//! and run one after the other. Each removes the services that it made, also when it fails. No
//! routing mesh and no VIP is used here.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a client of the real thing: it reads the real clock, waits for it, and tells figures"
)]

#[path = "../../examples/load/exchange.rs"]
mod exchange;
#[path = "../../examples/load/load.rs"]
mod load;
#[path = "../../examples/load/report.rs"]
mod report;

mod client;
mod crowd;
mod docker;
mod lab;
mod replica;

mod counting;
mod events;
mod faults;
mod idle;
mod lossless;
mod nodes;
mod single;
mod timing;
mod workshop;
