//! Arguments, options, log, runtime, role, exit code; nothing else.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hiveway::config::{Config, ConfigErrors, Sources};
use hiveway::{app, check, demo, memory, sockets, status, supervisor, telemetry, token};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Levels of the log, the quietest first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The front door of a Docker Swarm: an ingress load balancer that learns its routes from labels.
#[derive(Parser)]
#[command(
    name = "hiveway",
    version,
    disable_help_subcommand = true,
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
    /// Tells edges what the Swarm runs
    ///
    /// Reads Docker's socket on a manager, with GET requests only, and streams what edges need to
    /// know to those that hold the edges' secret.
    Agent(AgentArgs),
    /// Keeps the listening sockets, so that edges are replaced without a client noticing
    ///
    /// Binds the addresses of the listeners and hands them to edges over a unix socket,
    /// `path` in `[sockets]`. One that starts beside another takes over its sockets.
    /// For the host's network, as root with `NET_BIND_SERVICE` and nothing else.
    #[command(verbatim_doc_comment)]
    Sockets(SocketsArgs),
    /// Shows an edge and its replicas at work in one process, without Docker, files or root
    ///
    /// Everything listens on free ports of the loopback address only. Replicas die,
    /// return and join while a modest load goes through the edge, and lines of
    /// figures tell what becomes of it. Ctrl-C ends it.
    #[command(verbatim_doc_comment)]
    Demo(DemoArgs),
    /// Finds what is wrong with an edge's options, a services file or a stack file
    ///
    /// Says where each mistake stands and what to write instead. Which of the three a
    /// file is, its name and content tell. The exit code is 1 if an error was found;
    /// warnings do not count.
    #[command(verbatim_doc_comment)]
    Check(CheckArgs),
    /// Shows routes, upstreams and endpoints of an edge that runs
    ///
    /// With state, requests in flight, rate and the 99th percentile of the time to the response
    /// head, as the admin port tells them.
    Status(StatusArgs),
    /// Makes the two secrets by which agents and edges know each other
    ///
    /// Prints them as commands that hand them to Docker; each call makes another pair.
    Token(TokenArgs),
    /// For Docker's HEALTHCHECK: succeeds if the edge is ready
    Healthcheck(HealthArgs),
}

/// Where an edge tells about itself.
#[derive(Args)]
struct AdminArgs {
    /// The edge's admin port
    #[arg(long, default_value = "http://127.0.0.1:9400", value_name = "URL")]
    admin: String,
}

#[derive(Args)]
struct StatusArgs {
    /// Goes on until Ctrl-C, once a second
    #[arg(long)]
    watch: bool,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    edge: AdminArgs,
}

#[derive(Args)]
struct EdgeArgs {
    /// The file with the options [default: /etc/hiveway/hiveway.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where services are learned from
    #[arg(long, value_name = "KIND", value_parser = ["agent", "docker", "file"])]
    provider: Option<String>,
    /// Threads that serve; 0 is one per core
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// From which level on the log speaks
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    log_level: Option<String>,
    /// Does what pid 1 of a container does anyway: runs the edge as a child, again and again
    #[arg(long, hide = true)]
    supervise: bool,
    /// This is the child
    #[arg(long, hide = true, value_name = "WHICH", value_parser = [supervisor::FIRST, supervisor::AGAIN])]
    supervised: Option<String>,
}

#[derive(Args)]
struct SocketsArgs {
    /// The file with the options [default: /etc/hiveway/hiveway.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sockets of each listener; 0 is one per core
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// From which level on the log speaks
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    log_level: Option<String>,
}

#[derive(Args)]
struct HealthArgs {
    #[command(flatten)]
    edge: AdminArgs,
    /// Whether sockets can be taken from `hiveway sockets` instead
    #[arg(long, conflicts_with = "admin")]
    sockets: bool,
}

#[derive(Args)]
struct AgentArgs {
    /// The file with the options [default: /etc/hiveway/hiveway.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// From which level on the log speaks
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    log_level: Option<String>,
}

#[derive(Args)]
struct DemoArgs {
    /// Tells the story once; the exit code is 1 if a request failed
    #[arg(long)]
    once: bool,
    /// From which level on the edge's log speaks
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS, default_value = "warn")]
    log_level: String,
}

#[derive(Args)]
struct CheckArgs {
    /// Files of any of these kinds
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct TokenArgs {
    /// Writes them to files there instead, which only you can read
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl EdgeArgs {
    fn sources(self) -> Sources {
        let flags = [
            ("provider.kind", self.provider),
            ("runtime.workers", self.workers),
            ("log.level", self.log_level),
        ];
        sources(self.config, flags)
    }
}

impl SocketsArgs {
    fn sources(self) -> Sources {
        // What the role has in common with an edge are the listeners. It needs no provider, whatever
        // the edge's options say of theirs.
        let provider = Some("docker".to_owned());
        let flags = [
            ("provider.kind", provider),
            ("runtime.workers", self.workers),
            ("log.level", self.log_level),
        ];
        sources(self.config, flags)
    }
}

fn sources<const N: usize>(file: Option<PathBuf>, flags: [(&str, Option<String>); N]) -> Sources {
    let given = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Sources::of_process(file, given.collect::<BTreeMap<_, _>>())
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Edge(args) => edge(args),
        Command::Agent(args) => agent(args),
        Command::Sockets(args) => keep_sockets(args),
        Command::Demo(args) => demo(args),
        Command::Check(args) => check(&args),
        Command::Status(args) => show_status(args),
        Command::Token(args) => make_token(args),
        Command::Healthcheck(args) => healthcheck(args),
    };
    done.unwrap_or_else(|error| {
        report(&*error);
        ExitCode::FAILURE
    })
}

fn report(error: &(dyn Error + 'static)) {
    // Whoever reads our output may have had enough of it, as `head` has.
    let is_unread = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(is_unread) {
        return;
    }
    // What is wrong with options says itself how severe it is.
    let severity = if error.is::<ConfigErrors>() { "" } else { "error: " };
    let _ = writeln!(io::stderr(), "{severity}{error}");
}

type Done = Result<ExitCode, Box<dyn Error>>;

fn edge(args: EdgeArgs) -> Done {
    memory::use_small_pages();
    let supervised = args.supervised.clone();
    if supervised.is_none() && (args.supervise || supervisor::is_called_for()) {
        // The edge itself says what is wrong with its options.
        if let Ok((config, _)) = Config::load(&args.sources()) {
            telemetry::start(&config.log);
        }
        return Ok(runtime()?.block_on(async { supervisor::run().await })?);
    }
    let parent = supervised.map(|word| supervisor::Parent::find(&word)).transpose()?;
    let config = load(&args.sources())?;
    runtime()?.block_on(app::run_edge(&config, parent))?;
    Ok(ExitCode::SUCCESS)
}

fn agent(args: AgentArgs) -> Done {
    let config = load(&sources(args.config, [("log.level", args.log_level)]))?;
    runtime()?.block_on(app::run_agent(&config))?;
    Ok(ExitCode::SUCCESS)
}

fn keep_sockets(args: SocketsArgs) -> Done {
    let config = load(&args.sources())?;
    runtime()?.block_on(async { sockets::run(&config, app::stop_signal).await })?;
    Ok(ExitCode::SUCCESS)
}

/// The options, with the log ready for what is to be said about them.
fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let (config, warnings) = Config::load(sources)?;
    telemetry::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn demo(args: DemoArgs) -> Done {
    let config = demo::options(args.log_level)?;
    telemetry::start(&config.log);
    let mut out = io::stdout();
    let story = demo::run(&config, args.once, &mut out, app::stop_signal());
    let failed = runtime()?.block_on(story)?;
    Ok(success_if(!args.once || failed == 0))
}

fn check(args: &CheckArgs) -> Done {
    Ok(success_if(check::check(&args.files, &mut io::stdout())?))
}

fn show_status(args: StatusArgs) -> Done {
    let StatusArgs { watch, json, edge: AdminArgs { admin } } = args;
    let terminal = io::stdout().is_terminal();
    let options = status::Options { admin, watch, json, terminal };
    runtime()?.block_on(status::run(&options, &mut io::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn make_token(TokenArgs { directory }: TokenArgs) -> Done {
    let script = match directory {
        Some(directory) => token::as_files(&directory)?,
        None => token::as_commands()?,
    };
    write!(io::stdout(), "{script}")?;
    Ok(ExitCode::SUCCESS)
}

fn healthcheck(args: HealthArgs) -> Done {
    let HealthArgs { edge: AdminArgs { admin }, sockets } = args;
    let text = if sockets {
        let role = SocketsArgs { config: None, workers: None, log_level: None };
        let (config, _) = Config::load(&role.sources())?;
        sockets::healthcheck(&config.sockets.path)?
    } else {
        runtime()?.block_on(status::healthcheck(&admin))?
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn success_if(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
