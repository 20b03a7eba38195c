//! Arguments, options, log, runtime, role, exit code; nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hiveway::config::{Config, Sources};
use hiveway::{app, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The front door of a Docker Swarm: an ingress load balancer that learns its routes from labels.
#[derive(Parser)]
#[command(name = "hiveway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes traffic and proxies it to the replicas of labelled services
    Edge(EdgeArgs),
}

#[derive(Args)]
struct EdgeArgs {
    /// The file with the options [default: /etc/hiveway/hiveway.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where services are learned from: `docker` or `file`
    #[arg(long, value_name = "KIND")]
    provider: Option<String>,
    /// Threads that serve; 0 is one per core
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// From which level on the log speaks: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl EdgeArgs {
    fn sources(self) -> Sources {
        let flags = [
            ("provider.kind", self.provider),
            ("runtime.workers", self.workers),
            ("log.level", self.log_level),
        ];
        let given = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Sources::of_process(self.config, given.collect::<BTreeMap<_, _>>())
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Edge(args) => edge(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn edge(args: EdgeArgs) -> Done {
    let (config, warnings) = Config::load(&args.sources())?;
    telemetry::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(app::run_edge(&config))?)
}
