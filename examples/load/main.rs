//! An open-loop load generator that counts at the client's socket.
//!
//! ```sh
//! cargo run --example load -- --rate 500 --seconds 30 --host shop.example.com 10.99.0.1:80
//! ```
//!
//! It fails (exit code 1) if a single request did. It is meant to be aimed at `examples/replica`,
//! whose bodies it compares; `--any-body` takes every 2xx from another server.

mod exchange;
mod load;
mod report;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::load::{Load, Plan, Target};

/// What to send where.
#[derive(Debug, Parser)]
#[command(about = "An open-loop load generator that counts at the client's socket")]
struct Options {
    /// Addresses, each `ip:port`, used in turn.
    #[arg(required = true)]
    addresses: Vec<SocketAddr>,
    /// Requests per second, over all addresses.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long, in seconds; without it until Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// `Host` of each request; several are used in turn.
    #[arg(long, default_value = "localhost")]
    host: Vec<String>,
    /// Path of a GET. If it ends in `/`, a POST goes to `echo` below it, else to the same.
    #[arg(long, default_value = "/")]
    path: String,
    /// Share of POSTs, in percent.
    #[arg(long, default_value_t = 50)]
    post: u8,
    /// Share of requests on kept connections, in percent.
    #[arg(long, default_value_t = 50)]
    keep_alive: u8,
    /// Time that each request has, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// Do not compare bodies.
    #[arg(long)]
    any_body: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut targets = Vec::new();
    for &address in &options.addresses {
        for host in &options.host {
            targets.push(Target { address, host: host.clone(), path: options.path.clone() });
        }
    }
    let plan = Plan {
        duration: options.seconds.map(Duration::from_secs),
        post_percent: options.post,
        keep_alive_percent: options.keep_alive,
        timeout: Duration::from_millis(options.timeout_ms),
        check_body: !options.any_body,
        ..Plan::mixed(targets, options.rate)
    };
    let load = Load::start(plan);
    let ended = if options.seconds.is_some() {
        load.wait()
    } else {
        // Where no signal can be awaited the load ends at once, and says so by its numbers.
        let _ = tokio::signal::ctrl_c().await;
        load.stop()
    };
    let mut out = std::io::stdout().lock();
    match ended {
        Ok(report) => {
            // Nobody left to read it: the exit code still says it.
            let _ = write!(out, "{report}");
            if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(out, "load: {error}");
            ExitCode::FAILURE
        }
    }
}
