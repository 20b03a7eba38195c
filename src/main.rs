//! Arguments, options, log, runtime, role, exit code; nothing else.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
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
    /// Tells what is wrong with options, services or the labels of stack files
    Check {
        /// Files of any of these kinds
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Shows routes, upstreams and endpoints of an edge that runs
    Status(StatusArgs),
    /// For Docker's HEALTHCHECK: succeeds if the edge is ready
    Healthcheck {
        /// The edge's admin port
        #[arg(long, default_value = ADMIN, value_name = "URL")]
        admin: String,
    },
}

const ADMIN: &str = "http://127.0.0.1:9400";

#[derive(Args)]
struct StatusArgs {
    /// Goes on until Ctrl-C, once a second
    #[arg(long)]
    watch: bool,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    /// The edge's admin port
    #[arg(long, default_value = ADMIN, value_name = "URL")]
    admin: String,
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
        Command::Check { files } => check(&files),
        Command::Status(args) => status(args),
        Command::Healthcheck { admin } => healthcheck(&admin),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<ExitCode, Box<dyn std::error::Error>>;

fn check(files: &[PathBuf]) -> Done {
    let fine = hiveway::check::check(files, &mut std::io::stdout().lock())?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn status(args: StatusArgs) -> Done {
    let terminal = std::io::stdout().is_terminal();
    let StatusArgs { watch, json, admin } = args;
    let options = hiveway::status::Options { admin, watch, json, terminal };
    runtime()?.block_on(hiveway::status::run(&options, &mut std::io::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn healthcheck(admin: &str) -> Done {
    let text = runtime()?.block_on(hiveway::status::healthcheck(admin))?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn edge(args: EdgeArgs) -> Done {
    let (config, warnings) = Config::load(&args.sources())?;
    telemetry::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(app::run_edge(&config))?;
    Ok(ExitCode::SUCCESS)
}
