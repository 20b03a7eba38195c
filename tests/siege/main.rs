//! Hiveway under attack, as everybody else who uses it at that time sees it.
//!
//! Run by `./check` with the release build. By hand, with sockets for 10,000 clients:
//!
//! ```sh
//! ulimit -n "$(ulimit -Hn)"
//! SIEGE_PROGRAM=target/release/hiveway cargo test --test siege -- --test-threads=1 --nocapture
//! ```
//!
//! Each attack meets a program that has just been started, with limits short enough to be seen at
//! work. Attackers ask one replica, and everybody else another: 200 requests a second over HTTP/1.1
//! and HTTP/2, on kept and on new connections, which must be served about as fast as before, and
//! none may fail. `SIEGE_LONG=1` makes the attacks last six times as long. Attackers, the others and
//! both replicas share the machine with the program, so the figures are worse than those of a machine
//! that only serves.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a client of the real thing: it reads the real clock, waits for it, and tells figures"
)]

#[path = "../../examples/load/exchange.rs"]
mod exchange;

mod attacker;
mod edge;
mod frames;
mod origin;
mod others;
mod siege;

mod crowds;
mod floods;
mod resets;
mod slow;
