//! Options of the edge as a whole.

use std::time::Duration;

use super::Sample::{Default, Example};
use super::{Setting, Written, address, put};
use crate::config::{AgentAddress, Config, LogFormat, LogLevel, ProviderKind, TlsVersion};
use crate::routing::host;
use crate::value::{self, Mistake};

/// Largest window of HTTP/2 (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Those that stand before the listeners in `config/hiveway.toml`.
pub(super) const FIRST: &[Setting] = &[Setting::edge(
    "runtime.workers",
    Default("0"),
    "Threads that serve traffic; 0 is one per core.",
    |to, it| put(&mut to.runtime.workers, value::number(it.text, 0..=1024, "4")),
)];

pub(super) const SETTINGS: &[Setting] = &[
    Setting::edge(
        "sockets.path",
        Default(r#""/run/hiveway/sockets.sock""#),
        "Unix socket of the role that keeps the listening sockets; an edge takes them if it is there.",
        |to, it| put(&mut to.sockets.path, it.path()),
    ),
    Setting::edge(
        "agent.address",
        Default(r#""[::]:9401""#),
        "Where the role `agent` listens for edges; never publish it.",
        |to, it| put(&mut to.agent.address, address(it.text)),
    ),
    Setting::edge(
        "agent.secret",
        Default(r#""/run/secrets/hiveway-agent""#),
        "The agents' secret; one with `-previous` behind its name counts too.",
        |to, it| put(&mut to.agent.secret, it.path()),
    ),
    Setting::edge(
        "provider.kind",
        Default(r#""agent""#),
        "Where services are learned: \"agent\", \"docker\" (from its socket) or \"file\".",
        kind,
    ),
    Setting::edge(
        "provider.instance",
        Example(r#""internal""#),
        "Name of this group of edges, for the label `instance`.",
        |to, it| put(&mut to.provider.instance, value::name(it.text).map(Some)),
    ),
    Setting::edge(
        "provider.networks",
        Default("[]"),
        "Overlay networks that the edge is attached to; empty to find them out from its own task.",
        |to, it| put(&mut to.provider.networks, it.list(value::name)),
    ),
    Setting::edge(
        "provider.agents",
        Default(r#"["tasks.agent:9401"]"#),
        "Where agents are, for kind \"agent\"; each address of a name is one.",
        |to, it| put(&mut to.provider.agents, value::list(it.text, agent)),
    ),
    Setting::edge(
        "provider.secret",
        Default(r#""/run/secrets/hiveway-edge""#),
        "The edges' secret, for kind \"agent\"; one with `-previous` behind its name counts too.",
        |to, it| put(&mut to.provider.secret, it.path()),
    ),
    Setting::edge(
        "provider.socket",
        Default(r#""/var/run/docker.sock""#),
        "Docker's socket, for kind \"docker\" and for the role `agent`.",
        docker_socket,
    ),
    Setting::edge(
        "provider.path",
        Example(r#""services.toml""#),
        "The services file, for kind \"file\"; it is watched.",
        |to, it| put(&mut to.provider.path, it.path().map(Some)),
    ),
    Setting::edge(
        "provider.resync",
        Default(r#""10s""#),
        "How often everything is listed anew, besides events.",
        |to, it| put(&mut to.provider.resync, value::time_limit(it.text)),
    ),
    Setting::edge(
        "provider.hosts.*",
        Example(r#""*.shop.com" = ["shop"]"#),
        "Which stacks may claim which hosts. By default any stack may claim any host. For example:",
        hosts,
    ),
    Setting::edge(
        "dns.server",
        Example(r#""127.0.0.11:53""#),
        "Who is asked for replicas: Docker's server, with kind \"file\" the system's.",
        |to, it| put(&mut to.dns.server, address(it.text).map(Some)),
    ),
    Setting::edge(
        "dns.timeout",
        Default(r#""400ms""#),
        "For one answer; none is repeated.",
        |to, it| put(&mut to.dns.timeout, value::time_limit(it.text)),
    ),
    Setting::edge(
        "dns.interval-active",
        Default(r#""500ms""#),
        "Between questions for a service with traffic in the last 30 s or a change under way.",
        |to, it| put(&mut to.dns.interval_active, pause(it)),
    ),
    Setting::edge(
        "dns.interval-idle",
        Default(r#""5s""#),
        "Between questions for any other service.",
        |to, it| put(&mut to.dns.interval_idle, pause(it)),
    ),
    Setting::edge(
        "tls.certificates",
        Default(r#"["/run/secrets"]"#),
        "PEM files of certificates and keys, of any names, or directories of them; they are watched.",
        |to, it| put(&mut to.tls.certificates, it.list(|path| Written { text: path, ..it }.path())),
    ),
    Setting::edge(
        "tls.min-version",
        Default(r#""1.2""#),
        "Oldest version of TLS: \"1.2\" or \"1.3\".",
        |to, it| {
            let words = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
            put(&mut to.tls.min_version, value::choice(it.text, &words))
        },
    ),
    Setting::edge(
        "tls.client-ca",
        Example(r#""/run/secrets/clients.pem""#),
        "PEM file of the authorities of client certificates, for the label client-auth; it is watched.",
        |to, it| put(&mut to.tls.client_ca, it.path().map(Some)),
    ),
    Setting::edge(
        "limits.head-size",
        Default(r#""32KiB""#),
        "Bytes of a request's head, at least 8KiB; more get 431.",
        |to, it| put(&mut to.limits.head_size, bytes(it, 8 << 10, 1 << 20)),
    ),
    Setting::edge(
        "limits.head-fields",
        Default("100"),
        "Header fields of a request; more get 431.",
        |to, it| put(&mut to.limits.head_fields, value::number(it.text, 1..=10_000, "100")),
    ),
    Setting::edge(
        "limits.head-time",
        Default(r#""10s""#),
        "From the first byte to the end of a request's head.",
        |to, it| put(&mut to.limits.head_time, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.handshake-time",
        Default(r#""10s""#),
        "For a TLS handshake.",
        |to, it| put(&mut to.limits.handshake_time, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.handshakes",
        Default(r#""none""#),
        "TLS handshakes a second on each core, the rest is closed; \"none\" for any number.",
        |to, it| {
            let read = |text: &str| value::number(text, 1..=1_000_000, "1000");
            put(&mut to.limits.handshakes, value::optional(it.text, read))
        },
    ),
    Setting::edge(
        "limits.keepalive-idle",
        Default(r#""1m""#),
        "Without a request on a client's connection; 2s when 9 of 10 `connections` are open.",
        |to, it| put(&mut to.limits.keepalive_idle, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.ping-interval",
        Default(r#""20s""#),
        "Between signs of life on a client's HTTP/2 connection.",
        |to, it| put(&mut to.limits.ping_interval, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.ping-timeout",
        Default(r#""20s""#),
        "For the answer to one.",
        |to, it| put(&mut to.limits.ping_timeout, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.stream-window",
        Default(r#""256KiB""#),
        "Bytes under way from a client on one HTTP/2 stream, 64KiB to 2GiB less 1.",
        |to, it| put(&mut to.limits.stream_window, window(it)),
    ),
    Setting::edge(
        "limits.connection-window",
        Default(r#""1MiB""#),
        "The same for all streams of a connection.",
        |to, it| put(&mut to.limits.connection_window, window(it)),
    ),
    Setting::edge(
        "limits.send-buffer",
        Default(r#""32KiB""#),
        "Bytes kept for one HTTP/2 stream whose client reads slowly, 1KiB to 16MiB.",
        |to, it| put(&mut to.limits.send_buffer, bytes(it, 1 << 10, 16 << 20)),
    ),
    Setting::edge(
        "limits.body-rate",
        Default(r#""1KiB""#),
        "Bytes per second that a client must send of a body, or take (in steps of 32KiB); \"none\" for no limit.",
        |to, it| put(&mut to.limits.body_rate, value::optional(it.text, positive_size)),
    ),
    Setting::edge(
        "limits.body-grace",
        Default(r#""20s""#),
        "How long it may be slower at first; later its average over half that time counts.",
        |to, it| put(&mut to.limits.body_grace, value::time_limit(it.text)),
    ),
    Setting::edge(
        "limits.connections",
        Default(r#""none""#),
        "Client connections at once; \"none\" for what the limit of open files allows, at most 50000.",
        |to, it| {
            let read = |text: &str| value::number(text, 1..=usize::MAX, "10000");
            put(&mut to.limits.connections, value::optional(it.text, read))
        },
    ),
    Setting::edge(
        "limits.memory",
        Default(r#""none""#),
        "Memory in use; \"none\" for the limit of the control group, which holds in any case.",
        |to, it| put(&mut to.limits.memory, value::optional(it.text, positive_size)),
    ),
    Setting::edge(
        "admin.address",
        Default(r#""[::]:9400""#),
        "Where metrics and status are read; never publish it.",
        |to, it| put(&mut to.admin.address, address(it.text)),
    ),
    Setting::edge(
        "admin.networks",
        Default("[]"),
        "Networks that it answers besides loopback; empty for all.",
        |to, it| put(&mut to.admin.networks, it.list(value::network)),
    ),
    Setting::edge(
        "state.dir",
        Default(r#""/var/lib/hiveway""#),
        "Where the last good inventory is kept, to start from while the provider is silent.",
        |to, it| put(&mut to.state.dir, it.path()),
    ),
    Setting::edge(
        "log.level",
        Default(r#""info""#),
        "Least severe level that is written: \"error\", \"warn\", \"info\", \"debug\" or \"trace\".",
        |to, it| put(&mut to.log.level, log_level(it)),
    ),
    Setting::edge("log.format", Default(r#""json""#), "\"json\" or \"text\".", |to, it| {
        let words = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        put(&mut to.log.format, value::choice(it.text, &words))
    }),
    Setting::edge(
        "log.access",
        Default("true"),
        "Whether a line about each request goes to standard output.",
        |to, it| put(&mut to.log.access, value::boolean(it.text)),
    ),
    Setting::edge(
        "drain.delay",
        Default(r#""2s""#),
        "How long a stopping edge still accepts, so that load balancers in front notice.",
        |to, it| put(&mut to.drain.delay, value::duration(it.text)),
    ),
    Setting::edge(
        "drain.timeout",
        Default(r#""30s""#),
        "How long requests under way may then take; less than `stop_grace_period`.",
        |to, it| put(&mut to.drain.timeout, value::duration(it.text)),
    ),
];

fn kind(to: &mut Config, it: Written<'_>) -> Result<(), Mistake> {
    let words = [
        ("docker", ProviderKind::Docker),
        ("file", ProviderKind::File),
        ("agent", ProviderKind::Agent),
    ];
    put(&mut to.provider.kind, value::choice(it.text, &words))
}

/// An address or a name, and a port.
fn agent(text: &str) -> Result<AgentAddress, Mistake> {
    if let Ok(address) = text.parse() {
        return Ok(AgentAddress::Address(address));
    }
    let named = text.rsplit_once(':').and_then(|(name, port)| {
        // What is all digits and dots is a mistyped address, not a name.
        let has_letter = name.contains(|letter: char| letter.is_ascii_alphabetic());
        (host::is_host(name) && has_letter && !name.starts_with('['))
            .then_some(AgentAddress::Name(name.to_ascii_lowercase(), port.parse().ok()?))
    });
    let help = "write the name or the address of agents, and their port";
    named.ok_or_else(|| Mistake::new("is not a name with a port", help, "tasks.agent:9401"))
}

fn docker_socket(to: &mut Config, it: Written<'_>) -> Result<(), Mistake> {
    let text = it.text.strip_prefix("unix://").unwrap_or(it.text);
    if text.contains("://") {
        let help = "write the path of a unix socket";
        return Err(Mistake::new("is not a unix socket", help, "/var/run/docker.sock"));
    }
    put(&mut to.provider.socket, Written { text, ..it }.path())
}

fn hosts(to: &mut Config, it: Written<'_>) -> Result<(), Mistake> {
    let stacks = it.list(value::name)?;
    to.provider.hosts.insert(value::host(it.name)?, stacks);
    Ok(())
}

/// A pause between questions that leaves the server time for others.
fn pause(it: Written<'_>) -> Result<Duration, Mistake> {
    let pause = value::duration(it.text)?;
    if pause < Duration::from_millis(50) {
        let help = "write at least 50ms";
        return Err(Mistake::new("would ask without a pause", help, "500ms"));
    }
    Ok(pause)
}

fn bytes(it: Written<'_>, least: usize, most: usize) -> Result<usize, Mistake> {
    let size = usize::try_from(value::size(it.text)?).unwrap_or(usize::MAX);
    if (least..=most).contains(&size) {
        return Ok(size);
    }
    Err(out_of_bounds(least as u64, most as u64))
}

fn positive_size(text: &str) -> Result<u64, Mistake> {
    let size = value::size(text)?;
    if size == 0 {
        return Err(Mistake::new("is nothing", "write a size above zero", "1KiB"));
    }
    Ok(size)
}

fn window(it: Written<'_>) -> Result<u32, Mistake> {
    let least = 64 << 10;
    let size = u32::try_from(value::size(it.text)?).unwrap_or(u32::MAX);
    if (least..=MAX_WINDOW).contains(&size) {
        return Ok(size);
    }
    Err(out_of_bounds(u64::from(least), u64::from(MAX_WINDOW)))
}

fn out_of_bounds(least: u64, most: u64) -> Mistake {
    let show = crate::quantity::format_size;
    let help = format!("write a size from {} to {}", show(least), show(most));
    Mistake::new("is out of bounds", help, "256KiB")
}

fn log_level(it: Written<'_>) -> Result<LogLevel, Mistake> {
    let words = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    value::choice(it.text, &words)
}
