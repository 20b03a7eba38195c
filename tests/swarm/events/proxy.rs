//! The proxies that take the traffic: Hiveway, and others in its place on another port.
//!
//! Others are images of one static program, or of a program and its libraries; where they are not
//! to be had, `./check` says so. Each service carries the labels of all of them.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::client::EDGE;
use crate::docker::{Deployed, Service, docker};
use crate::lab::{lab_root, require_edge, root, script, stdout};

/// Port of node 1 on which the others listen.
const OTHERS: u16 = 8088;

/// One of them, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// As `docker-stack.yml` deploys it, and no label but host and port.
    Hiveway,
    /// As it comes, with the labels that a route needs.
    Traefik,
    /// Polling each second, with health checks, passive ones too, and retries.
    TraefikTuned,
    /// `server-template` on `tasks.*`, checks each second, redispatch and retries, none of POST.
    Haproxy,
}

impl Proxy {
    /// Those whose programs `EVENTS_TRAEFIK` and `EVENTS_HAPROXY` name.
    pub(crate) fn others() -> Vec<Self> {
        let mut others = Vec::new();
        if traefik().is_some() {
            others.extend([Self::Traefik, Self::TraefikTuned]);
        }
        if haproxy().is_some() {
            others.push(Self::Haproxy);
        }
        others
    }

    /// What a table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hiveway => "Hiveway",
            Self::Traefik => "Traefik, defaults",
            Self::TraefikTuned => "Traefik, tuned",
            Self::Haproxy => "HAProxy",
        }
    }

    /// Where it listens.
    pub(crate) fn address(self) -> SocketAddr {
        if self == Self::Hiveway { EDGE } else { SocketAddr::new(EDGE.ip(), OTHERS) }
    }

    /// What it says of itself.
    pub(crate) fn version(self) -> String {
        let first_line = |command: &mut Command| {
            stdout(command)
                .lines()
                .next()
                .unwrap_or_default()
                .split(" - ")
                .next()
                .map(str::to_owned)
        };
        match self {
            Self::Hiveway => format!("Hiveway {}", env!("CARGO_PKG_VERSION")),
            Self::Traefik | Self::TraefikTuned => {
                let told = stdout(Command::new(traefik().unwrap_or_default()).arg("version"));
                let version = told.lines().find_map(|line| line.strip_prefix("Version:"));
                format!("Traefik {}", version.unwrap_or("unknown").trim())
            }
            Self::Haproxy => first_line(Command::new(haproxy().unwrap_or_default()).arg("-v"))
                .unwrap_or_default(),
        }
    }

    /// Starts it, if it does not run. `services` are all that it will be asked for.
    pub(crate) fn deploy(self, services: &[String]) -> Option<Deployed> {
        require_edge();
        match self {
            Self::Hiveway => None,
            Self::Traefik => Some(deploy_traefik(&[])),
            Self::TraefikTuned => Some(deploy_traefik(&[
                "--providers.swarm.refreshSeconds=1",
                "--providers.swarm.allowEmptyServices=true",
            ])),
            Self::Haproxy => Some(deploy_haproxy(services)),
        }
    }

    /// The labels with which it serves `<name>.test`.
    pub(crate) fn label(self, service: Service, name: &str) -> Service {
        match self {
            Self::Hiveway => service.label(&format!("hiveway.host={name}.test")),
            Self::Haproxy => service,
            Self::Traefik => traefik_labels(service, name, &[]),
            Self::TraefikTuned => traefik_labels(
                service,
                name,
                &[
                    "services.NAME.loadbalancer.healthcheck.path=/",
                    "services.NAME.loadbalancer.healthcheck.interval=1s",
                    "services.NAME.loadbalancer.healthcheck.timeout=1s",
                    "services.NAME.loadbalancer.passivehealthcheck.failurewindow=3s",
                    "services.NAME.loadbalancer.passivehealthcheck.maxfailedattempts=1",
                    "middlewares.NAME.retry.attempts=4",
                    "middlewares.NAME.retry.initialinterval=100ms",
                    "routers.NAME.middlewares=NAME",
                ],
            ),
        }
    }
}

/// Traefik's program, if there is one.
fn traefik() -> Option<String> {
    program("EVENTS_TRAEFIK")
}

/// That of `HAProxy`, likewise.
fn haproxy() -> Option<String> {
    program("EVENTS_HAPROXY")
}

fn program(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|path| Path::new(path).exists())
}

fn traefik_labels(service: Service, name: &str, more: &[&str]) -> Service {
    let route =
        ["routers.NAME.rule=Host(`NAME.test`)", "services.NAME.loadbalancer.server.port=8080"];
    let service = service.label("traefik.enable=true");
    route.iter().chain(more).fold(service, |service, label| {
        service.label(&format!("traefik.http.{}", label.replace("NAME", name)))
    })
}

fn deploy_traefik(args: &[&str]) -> Deployed {
    let program = traefik().expect("EVENTS_TRAEFIK names the program");
    image("traefik:peer", "/traefik", &[format!("{program}=/traefik")]);
    let fixed = [
        "--providers.swarm=true",
        "--providers.swarm.network=hiveway",
        "--providers.swarm.exposedByDefault=false",
        "--entrypoints.web.address=:80",
    ];
    let socket = "type=bind,src=/var/run/docker.sock,dst=/var/run/docker.sock";
    create("traefik", "traefik:peer", &["--mount", socket], &[&fixed, args].concat())
}

/// Each service has a section of its own: labels are not read.
fn haproxy_configuration(services: &[String]) -> String {
    let fixed = "\
global
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout queue 15s
  option redispatch 1
  retries 5
  retry-on all-retryable-errors
resolvers docker
  nameserver dns 127.0.0.11:53
  accepted_payload_size 8192
  resolve_retries 1
  timeout resolve 500ms
  timeout retry 400ms
  hold valid 500ms
  hold obsolete 0s
  hold nx 0s
frontend web
  bind :80
";
    let mut text = fixed.to_owned();
    for name in services {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  use_backend {name} if {{ hdr(host) -i {name}.test }}");
    }
    for name in services {
        let _ = write!(
            text,
            "backend {name}\n  balance leastconn\n  option httpchk GET /\n  \
             http-request disable-l7-retry if METH_POST\n  server-template r 8 \
             tasks.{name}:8080 check inter 1s fall 1 rise 1 observe layer4 error-limit 1 \
             on-error mark-down resolvers docker init-addr none resolve-prefer ipv4\n"
        );
    }
    text
}

fn deploy_haproxy(services: &[String]) -> Deployed {
    let program = haproxy().expect("EVENTS_HAPROXY names the program");
    let libraries = stdout(Command::new("ldd").arg(&program));
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let files = libraries.chain([program.as_str()]).map(|path| format!("{path}={path}"));
    image("haproxy:peer", &program, &files.collect::<Vec<_>>());
    let file = lab_root().join("1/haproxy.cfg");
    fs::write(&file, haproxy_configuration(services)).expect("HAProxy's configuration");
    let mount = format!("type=bind,src={},dst=/haproxy.cfg", file.display());
    create("haproxy", "haproxy:peer", &["--mount", &mount], &["-W", "-db", "-f", "/haproxy.cfg"])
}

/// An image of these files, unless the lab has it.
fn image(tag: &str, program: &str, files: &[String]) {
    if !docker(&["image", "ls", "--quiet", tag]).is_empty() {
        return;
    }
    let entry = format!("ENTRYPOINT [\"{program}\"]");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    stdout(
        script("image.sh", &[&[tag, "-c", &entry], files.as_slice()].concat()).current_dir(root()),
    );
}

fn create(name: &str, image: &str, options: &[&str], args: &[&str]) -> Deployed {
    let publish = format!("published={OTHERS},target=80,mode=host");
    let fixed = ["service", "create", "--quiet", "--detach", "--no-resolve-image", "--name", name];
    let fixed = [fixed.as_slice(), &["--network", "hiveway", "--publish", &publish], options];
    docker(&[fixed.concat().as_slice(), &[image], args].concat());
    Deployed::named(name)
}
