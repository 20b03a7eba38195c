//! Options of one listener.

use super::Sample::{Default, Example};
use super::{Setting, Written, address, put};
use crate::config::Protocols;
use crate::value::{self, Mistake};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::listener(
        "listeners.*.address",
        Default(r#""[::]:80""#),
        "Where it listens; [::]:443 for `websecure`; must be written for others than these two.",
        |to, it| put(&mut to.address, address(it.text)),
    ),
    Setting::listener(
        "listeners.*.default",
        Default("true"),
        "Whether routes that name no listener are offered here.",
        |to, it| put(&mut to.default, value::boolean(it.text)),
    ),
    Setting::listener(
        "listeners.*.tls",
        Default("false"),
        "Whether it speaks TLS; true for `websecure`, which is there by default with a certificate.",
        |to, it| put(&mut to.tls, value::boolean(it.text)),
    ),
    Setting::listener(
        "listeners.*.protocols",
        Default(r#"["http1", "h2"]"#),
        "Versions of HTTP; `h2` by ALPN, in clear text by prior knowledge.",
        |to, it| put(&mut to.protocols, protocols(it)),
    ),
    Setting::listener(
        "listeners.*.max-streams",
        Default("1000"),
        "Most streams at once on one HTTP/2 connection; a route for Temporal wants 10000.",
        |to, it| put(&mut to.max_streams, value::number(it.text, 1..=1_000_000, "1000")),
    ),
    Setting::listener(
        "listeners.*.allow",
        Default("[]"),
        "Client networks that may connect; empty for all.",
        |to, it| put(&mut to.allow, it.list(value::network)),
    ),
    Setting::listener(
        "listeners.*.proxy-protocol",
        Default("false"),
        "Whether each connection begins with a PROXY header. This version refuses `true`.",
        |to, it| put(&mut to.proxy_protocol, no_proxy_protocol(it)),
    ),
    Setting::listener(
        "listeners.*.trusted-proxies",
        Default("[]"),
        "Networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
        |to, it| put(&mut to.trusted_proxies, it.list(value::network)),
    ),
    Setting::listener(
        "listeners.*.health-path",
        Example(r#""/hiveway-health""#),
        "Path on which a load balancer in front asks whether this edge takes traffic.",
        |to, it| put(&mut to.health_path, health_path(it).map(Some)),
    ),
];

/// What cannot be done is refused: to go on without it would take every header for a bad request.
fn no_proxy_protocol(it: Written<'_>) -> Result<bool, Mistake> {
    if value::boolean(it.text)? {
        let problem = "asks for what this version cannot do: read PROXY headers";
        return Err(Mistake::new(problem, "write `false`", ""));
    }
    Ok(false)
}

fn protocols(it: Written<'_>) -> Result<Protocols, Mistake> {
    let words =
        value::list(it.text, |word| value::choice(word, &[("http1", true), ("h2", false)]))?;
    Ok(Protocols { http1: words.contains(&true), h2: words.contains(&false) })
}

fn health_path(it: Written<'_>) -> Result<String, Mistake> {
    let plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '?' | '#');
    if it.text.starts_with('/') && it.text.chars().all(plain) {
        return Ok(it.text.to_owned());
    }
    Err(Mistake::new("is not a path", "write a path from the root on", "/hiveway-health"))
}
