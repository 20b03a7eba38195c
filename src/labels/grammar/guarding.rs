//! Settings that say who may use a route, how much of it, and how replicas are watched.

use std::time::Duration;

use http::HeaderValue;

use super::{Draft, Setting, State, Written, add, only_check, put};
use crate::labels::value as label_value;
use crate::spec::{ClientAuth, Question, UpstreamTls};
use crate::value::{self, Mistake};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::live(
        ["allow", "list of CIDRs", "all", "others get 403; by the client's real address"],
        |to, it| add(&mut to.route.policy.allow, value::list(it.text, value::network)),
    ),
    Setting {
        state: State::Refused("ask for a password"),
        ..Setting::live(
            ["basic-auth", "name of a secret with htpasswd lines", "off", "others get 401"],
            |_, it| only_check(value::name(it.text)),
        )
    },
    Setting::live(
        ["https-redirect", "`true` or `false`", "`false`", "plain requests get 308 to https"],
        |to, it| put(&mut to.route.policy.https_redirect, value::boolean(it.text)),
    ),
    Setting::live(
        [
            "tls",
            "`auto` or `acme`",
            "`auto`",
            "`auto` serves the host when a certificate for it is there; `acme` is to obtain one, and is `auto` so far",
        ],
        tls,
    ),
    Setting::live(
        ["hsts", "duration", "off", "Strict-Transport-Security for this long, on responses by TLS"],
        |to, it| put(&mut to.route.policy.hsts, value::duration(it.text).map(max_age)),
    ),
    Setting::live(
        [
            "client-auth",
            "`required` or `optional`",
            "off",
            "client certificates are asked for on the route's hosts, by the authorities of `client-ca` in `[tls]`; with `required` others are refused",
        ],
        client_auth,
    ),
    Setting::live(
        [
            "upstream-tls.ca",
            "name of a secret",
            "bundled roots",
            "whom to trust, for `https` and `grpcs`: a file of this name among the `certificates` of `[tls]`",
        ],
        |to, it| trust(to, |tls| &mut tls.ca, value::name(it.text).map(Some)),
    ),
    Setting::live(
        [
            "upstream-tls.server-name",
            "host name",
            "the route's first `host` without `*`",
            "whom to expect, for `https` and `grpcs`: the name that the replica's certificate is for",
        ],
        |to, it| trust(to, |tls| &mut tls.server_name, label_value::host_name(it.text).map(Some)),
    ),
    Setting::live(
        [
            "upstream-tls.verify",
            "`true` or `false`",
            "`true`",
            "whether the replica's certificate is verified; without, anybody may pose as the replica",
        ],
        |to, it| trust(to, |tls| &mut tls.verify, value::boolean(it.text)),
    ),
    Setting::live(
        ["limit.body", "size or `none`", "none", "bytes of a request's body; more get 413"],
        |to, it| put(&mut to.route.policy.limits.body, value::optional(it.text, value::size)),
    ),
    Setting::live(
        [
            "limit.inflight",
            "number or `none`",
            "none",
            "requests at once; more get 503 with `Retry-After`",
        ],
        |to, it| put(&mut to.route.policy.limits.inflight, value::optional(it.text, at_least_one)),
    ),
    Setting::live(
        [
            "limit.queue",
            "number",
            "10000",
            "requests that wait for a replica; more get 503 with `Retry-After`",
        ],
        |to, it| {
            put(&mut to.route.policy.limits.queue, value::number(it.text, 0..=u64::MAX, "10000"))
        },
    ),
    Setting::live(
        [
            "limit.connections",
            "number or `none`",
            "none",
            "connections to one replica, of one edge; further requests wait for up to `timeout.queue`",
        ],
        |to, it| {
            put(
                &mut to.route.policy.limits.connections,
                value::optional(it.text, |text| value::number(text, 1..=usize::MAX, "100")),
            )
        },
    ),
    Setting::live(
        [
            "health.path",
            "path, `tcp` or `none`",
            "off; for `grpc` its health service is asked",
            "active check; any 2xx or 3xx unless `health.status` says otherwise; for `tcp` a connection is enough",
        ],
        check_path,
    ),
    Setting::live(
        [
            "health.interval",
            "duration",
            "5s",
            "between checks, give or take 20 %; 30s without traffic",
        ],
        |to, it| put(&mut to.route.policy.check.interval, value::time_limit(it.text)),
    ),
    Setting::live(["health.timeout", "duration", "2s", "for the answer to a check"], |to, it| {
        put(&mut to.route.policy.check.timeout, value::time_limit(it.text))
    }),
    Setting::live(
        [
            "health.rise",
            "number",
            "1",
            "successes in a row that make an unhealthy replica healthy; a new one needs one",
        ],
        |to, it| put(&mut to.route.policy.check.rise, value::number(it.text, 1..=100, "1")),
    ),
    Setting::live(
        ["health.fall", "number", "3", "failures in a row that make it unhealthy"],
        |to, it| put(&mut to.route.policy.check.fall, value::number(it.text, 1..=100, "3")),
    ),
    Setting::live(
        ["health.status", "list of statuses or ranges", "200-399", "answers that count as success"],
        |to, it| {
            put(&mut to.route.policy.check.statuses, value::list(it.text, label_value::statuses))
        },
    ),
    Setting::live(
        ["health.host", "host name", "the replica's address", "`Host` of a check"],
        |to, it| put(&mut to.route.policy.check.host, label_value::host_name(it.text).map(Some)),
    ),
    Setting::live(
        ["health.port", "1-65535", "the route's port", "port that is checked"],
        |to, it| put(&mut to.route.policy.check.port, value::port(it.text).map(Some)),
    ),
    Setting::live(
        [
            "health.grpc-service",
            "name",
            "empty: the server as a whole",
            "what a gRPC check asks for; a server without a health service fails only if this is set",
        ],
        |to, it| put(&mut to.route.policy.check.grpc_service, label_value::grpc_service(it.text)),
    ),
];

fn at_least_one(text: &str) -> Result<u64, Mistake> {
    value::number(text, 1..=u64::MAX, "1000")
}

fn check_path(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    to.route.policy.check.question = if it.text.eq_ignore_ascii_case("none") {
        Question::None
    } else if it.text.eq_ignore_ascii_case("tcp") {
        Question::Connect
    } else {
        Question::Path(label_value::check_path(it.text)?)
    };
    Ok(())
}

fn tls(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    if value::choice(it.text, &[("auto", false), ("acme", true)])? {
        let problem = "asks for a certificate, which this version does not obtain";
        let help = "put one among the files of `certificates` in `[tls]`, and write `auto`";
        to.remarks.push(Mistake::new(problem, help, "auto"));
    }
    Ok(())
}

/// RFC 6797, section 6.1.1.
fn max_age(time: Duration) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={}", time.as_secs())).ok()
}

/// A route that lets everybody in when it was told to ask for certificates would be no route but a
/// hole, so a wrong word closes it.
fn client_auth(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    let words = [("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
    let read = value::choice(it.text, &words);
    to.is_unsafe = read.is_err();
    put(&mut to.route.policy.client_auth, read)
}

/// The same holds for replicas that are believed though they should not be.
fn trust<T>(
    to: &mut Draft,
    place: fn(&mut UpstreamTls) -> &mut T,
    read: Result<T, Mistake>,
) -> Result<(), Mistake> {
    to.is_unsafe = read.is_err();
    put(place(&mut to.route.target.tls), read)
}
