//! `hiveway demo`: an edge and the replicas behind it in one process, for a first look.
//!
//! The edge is the real one, with the options and labels that anybody would write. Replicas are
//! small servers of the demo's own on the loopback address; they die, return and join while a
//! constant load goes through. Nothing is read or written but sockets and the story.

mod load;
mod replica;
mod services;
mod story;
mod telling;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;

use tokio::sync::oneshot;

use crate::config::{Config, ConfigErrors};
use crate::edge::{RunningEdge, StartError};
use crate::provider;
use crate::services_file::FileError;

use self::story::Stage;
use self::telling::Teller;

/// The port of the edge, if it is free. Replicas have the ones after it.
const PORT: u16 = 8080;

/// The options of the edge, apart from its address and what flags say.
const OPTIONS: &str = r#"
[runtime]
workers = 2

[provider]
kind = "file"
path = "services.toml"

[log]
format = "text"

[drain]
delay = "0s"
timeout = "1s"
"#;

/// Why the demo does not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The edge does not start.
    #[error(transparent)]
    Edge(#[from] StartError),
    /// A replica finds no port, or another program has taken it while the replica was dead.
    #[error("a replica of the demo cannot listen: {0}")]
    Replica(#[source] io::Error),
    /// The services are not what the edge reads.
    #[error(transparent)]
    Services(#[from] FileError),
    /// The story cannot be written.
    #[error("the story cannot be written: {0}")]
    Story(#[from] io::Error),
}

/// The edge's options, on a port that is free now; `log_level` as for `[log] level`.
///
/// # Errors
/// If the log level is none.
pub fn options(log_level: String) -> Result<Config, ConfigErrors> {
    // Whether the port can be had, the edge finds out when it binds it.
    let free = replica::listen_near(PORT).and_then(|listener| listener.local_addr());
    let address = free.map_or_else(|_| format!("127.0.0.1:{PORT}"), |free| free.to_string());
    let flags = BTreeMap::from([
        ("listeners.web.address".to_owned(), address),
        ("log.level".to_owned(), log_level),
    ]);
    let (config, _) = Config::read(Some((Path::new(""), OPTIONS)), &[], &flags)?;
    Ok(config)
}

/// Tells the story to `out`: once, or again and again until `stop` completes. Then the edge drains
/// and everything ends.
///
/// The answer is how many of its requests failed. A reader of `out` that has gone away ends it too.
///
/// # Errors
/// If the edge or a replica cannot listen, or `out` cannot be written to.
pub async fn run(
    config: &Config,
    once: bool,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<u64, DemoError> {
    let (provider, giver) = provider::given::given();
    let edge = RunningEdge::start(config, provider)?;
    let address = edge.listeners.first().map(|listener| listener.address);
    let address = address.unwrap_or_else(|| ([127, 0, 0, 1], PORT).into());
    let mut readiness = edge.readiness();
    let mut stage = Stage::set(address, giver)?;
    let (end, ended) = oneshot::channel::<()>();
    let running = edge.run(config.drain, async {
        let _ = ended.await;
    });
    let telling = async {
        // Whatever comes of it, the edge is told to end.
        let _end = end;
        readiness.wait().await;
        stage.introduce(out)?;
        let mut teller = Teller::start(address, out)?;
        let interrupted = tokio::select! {
            told = tell(&mut stage, &mut teller, once) => { told?; false }
            () = stop => true,
        };
        Ok(teller.end(interrupted).await?)
    };
    match tokio::join!(running, telling).1 {
        Err(DemoError::Story(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        told => told,
    }
}

async fn tell(stage: &mut Stage, teller: &mut Teller<'_>, once: bool) -> Result<(), DemoError> {
    stage.play(teller).await?;
    if once {
        return Ok(());
    }
    teller.say(
        "So it goes on: shop-2 dies and returns, shop-3 joins and leaves, one line a round.",
    )?;
    teller.be_quiet();
    loop {
        stage.play(teller).await?;
        teller.end_round()?;
    }
}
