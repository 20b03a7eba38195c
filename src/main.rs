//! Arguments, options, log, runtime, role, exit code; nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hiveway::config::{Config, Sources};
use hiveway::{app, check, demo, telemetry};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The front door of a Docker Swarm: an ingress load balancer that learns its routes from labels.
#[derive(Parser)]
#[command(
    name = "hiveway",
    version,
    after_help = "To see it at work, without Docker or any file: hiveway demo"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes traffic and proxies it to the replicas of labelled services
    Edge(EdgeArgs),
    /// Shows an edge and its replicas at work in one process, without Docker, files or root
    Demo(DemoArgs),
    /// Finds what is wrong with an edge's options, a services file or a stack file
    Check(CheckArgs),
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

#[derive(Args)]
struct DemoArgs {
    /// Tells the story once; the exit code is 1 if a request failed
    #[arg(long)]
    once: bool,
    /// From which level on the edge's log speaks: error, warn, info, debug, trace [default: warn]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Finds what is wrong with an edge's options, a services file or a stack file, and says where it
/// stands and what to write instead.
///
/// Which of the three a file is, its name and content tell. The exit code is 1 if an error was
/// found; warnings do not count.
#[derive(Args)]
struct CheckArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
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
    let done = match Cli::parse().command {
        Command::Edge(args) => edge(args),
        Command::Demo(args) => demo(args),
        Command::Check(args) => check(&args),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{error}");
        ExitCode::FAILURE
    })
}

type Done = Result<ExitCode, Box<dyn std::error::Error>>;

fn edge(args: EdgeArgs) -> Done {
    let (config, warnings) = Config::load(&args.sources())?;
    telemetry::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(app::run_edge(&config))?;
    Ok(ExitCode::SUCCESS)
}

fn demo(args: DemoArgs) -> Done {
    let config = demo::options(args.log_level)?;
    telemetry::start(&config.log);
    let mut out = std::io::stdout();
    let story = demo::run(&config, args.once, &mut out, app::stop_signal());
    let summary = runtime()?.block_on(story)?;
    Ok(success_if(!args.once || summary.failed == 0))
}

fn check(args: &CheckArgs) -> Done {
    Ok(success_if(check::check(&args.files, &mut std::io::stdout())?))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn success_if(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
