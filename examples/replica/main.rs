//! A replica as real servers are: slow to start, closing idle connections, ending in its own way.
//!
//! It stands behind Hiveway in the tests on a real Swarm and is every part of the example
//! application: `--role web` (the default) answers the paths listed in `answers`, `frontend` serves
//! one page, `backend` the `/api` that the page asks, `database` the key-value store that the
//! backend asks. Every option is a flag and a `REPLICA_*` variable. It speaks HTTP/1.1, and with
//! `--h2c` also HTTP/2 by prior knowledge on the same port; it never speaks TLS.

mod answers;
mod body;
mod database;
mod mood;
mod seen;
mod server;
mod websocket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

/// What one replica was told.
#[derive(Debug, Parser)]
#[command(about = "A replica that behaves as real servers do")]
struct Options {
    /// Part that it plays.
    #[arg(long, env = "REPLICA_ROLE", value_enum, default_value_t = Role::Web)]
    role: Role,
    /// Port that it listens on, on every address.
    #[arg(long, env = "REPLICA_PORT", default_value_t = 8080)]
    port: u16,
    /// Name that it gives in its answers.
    #[arg(long, env = "REPLICA_NAME", default_value = "replica")]
    name: String,
    /// Task that it runs as, for example `shop_web.3`; a stack file sets `{{.Task.Name}}`.
    #[arg(long, env = "REPLICA_TASK", default_value = "")]
    task: String,
    /// Time between its start and its first `listen`, for example `15s`.
    #[arg(long, env = "REPLICA_START_DELAY", value_parser = duration, default_value = "0s")]
    start_delay: Duration,
    /// Closes a connection unannounced when it was idle for so long; `0s` for never.
    #[arg(long, env = "REPLICA_IDLE", value_parser = duration, default_value = "0s")]
    idle: Duration,
    /// What SIGTERM does.
    #[arg(long, env = "REPLICA_ON_SIGTERM", value_enum, default_value_t = OnSigterm::Finish)]
    on_sigterm: OnSigterm,
    /// File to which the `X-Client-Id` of each POST is added as it arrives; it outlives the replica.
    #[arg(long, env = "REPLICA_RAN")]
    ran: Option<PathBuf>,
    /// Whether HTTP/2 by prior knowledge is spoken beside HTTP/1.1.
    #[arg(long, env = "REPLICA_H2C")]
    h2c: bool,
    /// The backend's database, `host:port`.
    #[arg(long, env = "REPLICA_DATABASE", default_value = "database:6000")]
    database: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Web,
    Frontend,
    Backend,
    Database,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnSigterm {
    /// Stop accepting, finish what is under way, end.
    Finish,
    /// End at once; what is under way is lost.
    Die,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// For Docker's HEALTHCHECK: asks the replica on this port for `/`.
    Healthcheck,
}

/// A whole number of `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("ms") => 1,
        Some("s") => 1_000,
        Some("m") => 60_000,
        _ => return Err("write a number and `ms`, `s` or `m`, for example `15s`".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match options.command {
        Some(Command::Healthcheck) => healthcheck(options.port).await,
        None => run(Arc::new(options)).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program's last word goes to stderr")]
fn complain(error: &str) {
    eprintln!("replica: {error}");
}

async fn run(options: Arc<Options>) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => return Ok(()),
        () = tokio::time::sleep(options.start_delay) => {}
    }
    match options.role {
        Role::Database => database::serve(options.port, ended).await,
        Role::Web | Role::Frontend | Role::Backend => server::serve(options, ended).await,
    }
}

/// Fails unless the replica answers `GET /` with a 2xx.
async fn healthcheck(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: healthcheck\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 2") {
        return Ok(());
    }
    let head = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Err(std::io::Error::other(format!("answered `{}`", String::from_utf8_lossy(head))))
}
