//! Settings that say where requests go, and how a replica is chosen, tried again and left out.

use std::time::Duration;

use super::{Draft, Setting, Written, put};
use crate::labels::value as label_value;
use crate::labels::value::WrittenProtocol;
use crate::spec::{Protocol, Question};
use crate::value::{self, Mistake};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::live(
        [
            "port",
            "1-65535",
            "the target port, if the service publishes exactly one",
            "port the container listens on",
        ],
        |to, it| put(&mut to.route.target.port, value::port(it.text).map(Some)),
    ),
    Setting::live(
        [
            "protocol",
            "`http` `h2c` `grpc` `https` `grpcs` `tcp` `tls-passthrough`",
            "`http`",
            "how to speak to the replica; `grpc` is h2c with gRPC's own errors and health checks and no total timeout; `https` and `grpcs` are the same over TLS, `https` with HTTP/2 where the replica has it; the last two are not spoken yet: such a route stays closed",
        ],
        protocol,
    ),
    Setting::live(
        [
            "network",
            "name of an overlay network",
            "the only shared one",
            "which address of a task to use",
        ],
        |to, it| put(&mut to.route.target.network, value::name(it.text).map(Some)),
    ),
    Setting::live(
        [
            "strip-prefix",
            "`true`, `false` or a prefix",
            "`false`",
            "removed before forwarding, kept in `X-Forwarded-Prefix`",
        ],
        |to, it| put(&mut to.route.policy.strip_prefix, label_value::strip_prefix(it.text)),
    ),
    Setting::live(
        [
            "balance",
            "`least-request` `round-robin` `ewma` `hash:client-ip` `hash:header:<name>` `hash:cookie:<name>`",
            "`least-request`",
            "how a replica is chosen: of two the one with fewer requests in flight (two more count for one that was asked and has answered nobody for 0.1 s), or (`ewma`) with less of them times its response time; in turns; or by a hash, which stays with a replica while that has at most a quarter more to do than its share",
        ],
        |to, it| put(&mut to.route.policy.balance, label_value::balance(it.text)),
    ),
    Setting::live(
        [
            "sticky",
            "cookie name",
            "off",
            "clients stay with their replica by a cookie of this name, until it fails or leaves; the cookie is the same on every edge",
        ],
        |to, it| put(&mut to.route.policy.sticky, label_value::cookie(it.text).map(Some)),
    ),
    Setting::live(
        [
            "slow-start",
            "duration",
            "off",
            "a new replica's share grows over this time, compared with those that are older; not for `hash:` and `sticky`",
        ],
        |to, it| put(&mut to.route.policy.slow_start, value::duration(it.text)),
    ),
    Setting::live(
        [
            "retry.attempts",
            "0-5",
            "2",
            "further tries, each on a replica not yet tried; tries that sent no byte are not counted",
        ],
        |to, it| put(&mut to.route.policy.retry.attempts, value::number(it.text, 0..=5, "2")),
    ),
    Setting::live(
        [
            "retry.on",
            "list of `reset` `502` `503` `504` `timeout`",
            "`reset`",
            "beyond what provably never ran; only idempotent methods with a replayable body",
        ],
        |to, it| put(&mut to.route.policy.retry.on, label_value::retry_on(it.text)),
    ),
    Setting::live(
        ["retry.budget", "percent", "20", "of the service's requests, with a floor of 10 a second"],
        |to, it| put(&mut to.route.policy.retry.budget_percent, label_value::percent(it.text)),
    ),
    Setting::live(
        ["timeout.connect", "duration", "2s", "for a connection to one replica"],
        |to, it| put(&mut to.route.policy.timeouts.connect, value::time_limit(it.text)),
    ),
    Setting::live(
        [
            "timeout.response-header",
            "duration or `none`",
            "60s; none for `grpc` and upgrades",
            "from the last byte of the request to the response head",
        ],
        |to, it| {
            put(
                &mut to.route.policy.timeouts.response_header,
                value::optional(it.text, value::time_limit),
            )
        },
    ),
    Setting::live(
        [
            "timeout.stream-idle",
            "duration",
            "5m; 1h for `grpc` and upgrades",
            "without a byte in either direction",
        ],
        stream_idle,
    ),
    Setting::live(["timeout.queue", "duration", "15s", "for a replica to be there"], |to, it| {
        put(&mut to.route.policy.timeouts.queue, value::duration(it.text))
    }),
    Setting::live(
        [
            "keepalive.idle",
            "duration",
            "1500ms for HTTP/1, 5m for HTTP/2",
            "unused connections to replicas close after this; what cannot be repeated takes none that was idle for a third of it",
        ],
        |to, it| put(&mut to.route.policy.keepalive.idle, value::duration(it.text).map(Some)),
    ),
    Setting::live(
        [
            "keepalive.requests",
            "number or `none`",
            "none",
            "connections to replicas close after this many requests",
        ],
        |to, it| {
            put(
                &mut to.route.policy.keepalive.requests,
                value::optional(it.text, |text| value::number(text, 1..=u64::MAX, "1000")),
            )
        },
    ),
    Setting::live(
        [
            "keepalive.age",
            "duration or `none`",
            "none",
            "connections to replicas take no new request after this",
        ],
        |to, it| {
            put(&mut to.route.policy.keepalive.age, value::optional(it.text, value::time_limit))
        },
    ),
    Setting::live(
        [
            "eject.consecutive",
            "number",
            "5",
            "a replica is left out after this many failures in a row",
        ],
        |to, it| {
            put(&mut to.route.policy.eject.consecutive, value::number(it.text, 1..=u32::MAX, "5"))
        },
    ),
    Setting::live(["eject.base", "duration", "10s", "for how long, the first time"], |to, it| {
        put(&mut to.route.policy.eject.base, value::time_limit(it.text))
    }),
    Setting::live(["eject.max", "duration", "300s", "for how long at most"], |to, it| {
        put(&mut to.route.policy.eject.max, value::time_limit(it.text))
    }),
    Setting::live(
        [
            "eject.max-percent",
            "percent",
            "50",
            "of the replicas at once; one of two always may, the last never",
        ],
        |to, it| put(&mut to.route.policy.eject.max_percent, label_value::percent(it.text)),
    ),
];

fn stream_idle(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    let idle = value::time_limit(it.text)?;
    to.route.policy.timeouts.stream_idle = idle;
    to.route.policy.timeouts.upgrade_idle = idle;
    Ok(())
}

/// What is not spoken yet closes the route: to speak plain HTTP instead would send requests in
/// clear text, or to a server that reads them as something else.
fn protocol(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    to.route.target.protocol = match label_value::protocol(it.text)? {
        WrittenProtocol::Http => Protocol::Http,
        WrittenProtocol::H2c => Protocol::H2c,
        WrittenProtocol::Https => Protocol::Https,
        WrittenProtocol::Grpc => calls(to, Protocol::Grpc),
        WrittenProtocol::Grpcs => calls(to, Protocol::Grpcs),
        WrittenProtocol::Refused => {
            let problem = "asks for a protocol that this version cannot speak; the route stays \
                           closed";
            let help = "write a protocol that the replica speaks and this version knows: `http`, \
                        `h2c`, `grpc`, `https` or `grpcs`";
            to.is_unsafe = true;
            return Err(Mistake::new(problem, help, "http"));
        }
    };
    Ok(())
}

/// A call may rightly be silent for as long as it takes: polls and server streams.
fn calls(to: &mut Draft, protocol: Protocol) -> Protocol {
    to.route.policy.timeouts.response_header = None;
    to.route.policy.timeouts.stream_idle = Duration::from_hours(1);
    to.route.policy.check.question = Question::Grpc;
    protocol
}
