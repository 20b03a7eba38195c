//! gRPC's interoperability cases, with tonic at either end: `interop serve`, `interop call URL [ROOT]`; and
//! `interop crowd URL`, ten thousand streams at once.
//!
//! `tests/grpc/interop.py` has the same cases with gRPC's C library, and runs each client against each server,
//! directly and through an edge. Messages are bytes; what is wanted of a call stands in its metadata, so that
//! neither side needs Protocol Buffers.

#![expect(clippy::print_stdout, reason = "what came of it is read from there")]

mod calls;
mod cases;
mod codec;
mod crowd;
mod server;

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => server::serve().await?,
        ["crowd", url] => crowd::run(url).await?,
        ["call", url] => cases::run(calls::connect(url, None).await?).await,
        ["call", url, root] => {
            cases::run(calls::connect(url, Some(std::fs::read(root)?)).await?).await;
        }
        _ => {
            return Err("usage: interop serve | interop call URL [ROOT] | interop crowd URL".into());
        }
    }
    Ok(())
}
