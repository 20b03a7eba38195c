//! Kinds of values that only labels have.

use std::ops::RangeInclusive;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use regex::RegexBuilder;

use crate::routing::host::HostName;
use crate::routing::path::{self, PathPattern, PathPrefix};
use crate::spec::{Balance, HashBy, RetryOn, StripPrefix};
use crate::value::{self, Mistake};

/// Most memory that one compiled expression may take, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// A protocol that can be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum WrittenProtocol {
    Http,
    H2c,
    Grpc,
    Https,
    Grpcs,
    /// Known, but not spoken yet.
    Refused,
}

pub(super) fn protocol(text: &str) -> Result<WrittenProtocol, Mistake> {
    let words = [
        ("http", WrittenProtocol::Http),
        ("h2c", WrittenProtocol::H2c),
        ("grpc", WrittenProtocol::Grpc),
        ("https", WrittenProtocol::Https),
        ("grpcs", WrittenProtocol::Grpcs),
        ("tcp", WrittenProtocol::Refused),
        ("tls-passthrough", WrittenProtocol::Refused),
    ];
    value::choice(&text.to_ascii_lowercase(), &words)
}

pub(super) fn path_prefix(text: &str) -> Result<PathPattern, Mistake> {
    prefix(text).map(PathPattern::Prefix)
}

pub(super) fn path_exact(text: &str) -> Result<PathPattern, Mistake> {
    routed_path(text).map(|path| PathPattern::Exact(path.into()))
}

/// The expression is not a list: commas are part of it.
pub(super) fn path_regex(text: &str) -> Result<PathPattern, Mistake> {
    if text.is_empty() {
        return Err(Mistake::new("is empty", "write an expression", "^/v[0-9]+/"));
    }
    let regex = RegexBuilder::new(text).size_limit(REGEX_SIZE_LIMIT).build();
    regex.map(PathPattern::Regex).map_err(|error| invalid_regex(&error))
}

fn invalid_regex(error: &regex::Error) -> Mistake {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        let help = "write a simpler expression; long counted repetitions cost most";
        return Mistake::new("takes more than 1 MiB when it is compiled", help, "");
    }
    // The error is a drawing over several lines; its last one says what is wrong.
    let reason = error.to_string();
    let reason = reason.lines().last().unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    let problem = format!("is not a regular expression ({reason})");
    Mistake::new(problem, "write it in the syntax of Rust's `regex`", "^/v[0-9]+/")
}

fn prefix(text: &str) -> Result<PathPrefix, Mistake> {
    let normal = routed_path(text)?;
    normal.parse().map_err(invalid_path)
}

/// A path that requests can be routed by: without parameters, since they are matched without.
fn routed_path(text: &str) -> Result<String, Mistake> {
    if text.contains(';') {
        let help = "leave out what follows the `;`; parameters go to the replica unread";
        return Err(Mistake::new("has a parameter, and routes are found without", help, "/api"));
    }
    plain_path(text)
}

/// A path in normal form, without the query and fragment that it could never match.
fn plain_path(text: &str) -> Result<String, Mistake> {
    if text.contains(|letter: char| letter.is_whitespace() || matches!(letter, '?' | '#' | '*')) {
        let help = "write a plain path: no query, no `*`, no spaces; `path-regex` takes an \
                    expression";
        return Err(Mistake::new("is not a plain path", help, "/api"));
    }
    path::normalize(text).map(Into::into).map_err(invalid_path)
}

fn invalid_path(error: path::InvalidPath) -> Mistake {
    Mistake::new(error.to_string(), "write a path from the root on", "/api")
}

/// A path for a request of ours; it may have a query.
pub(super) fn check_path(text: &str) -> Result<PathAndQuery, Mistake> {
    let (path, query) =
        text.split_once('?').map_or((text, None), |(path, rest)| (path, Some(rest)));
    let path = plain_path(path)?;
    let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    target.parse().map_err(|_| {
        let help = "write letters, digits and `%` with two digits after the `?`";
        Mistake::new("has a query that cannot be sent", help, "/healthz?full=1")
    })
}

/// Methods are told apart by case (RFC 9110, section 9.1), and all that are in use are capitals.
pub(super) fn method(text: &str) -> Result<Method, Mistake> {
    Method::from_bytes(text.to_ascii_uppercase().as_bytes())
        .map_err(|_| Mistake::new("is not a method", "write methods by their names", "GET"))
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, Mistake> {
    text.parse().map_err(|_| {
        let problem = format!("asks for `{text}`, which is not the name of a header");
        Mistake::new(problem, "write `header.` and the header's name, like `header.x-tenant`", "")
    })
}

pub(super) fn header_value(text: &str) -> Result<String, Mistake> {
    HeaderValue::from_str(text).map(|_| text.to_owned()).map_err(|_| {
        Mistake::new("is not the value of a header", "write printable characters only", "")
    })
}

/// Listeners are named in lower case.
pub(super) fn listener(text: &str) -> Result<String, Mistake> {
    value::name(&text.to_ascii_lowercase())
}

pub(super) fn host_name(text: &str) -> Result<HostName, Mistake> {
    text.parse().map_err(|_| {
        Mistake::new("is not a host name", "write it without scheme and port", "shop.example.com")
    })
}

/// A name as cookies have (RFC 9110, section 5.6.2: a token).
pub(super) fn token(text: &str, example: &str) -> Result<(), Mistake> {
    let special = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte)) {
        return Ok(());
    }
    Err(Mistake::new("is not a name", "write letters, digits, `-`, `_` and `.` only", example))
}

pub(super) fn grpc_service(text: &str) -> Result<Option<String>, Mistake> {
    if text.is_empty() { Ok(None) } else { value::name(text).map(Some) }
}

pub(super) fn percent(text: &str) -> Result<u8, Mistake> {
    value::number(text.strip_suffix('%').unwrap_or(text).trim_end(), 0..=100, "20")
}

pub(super) fn strip_prefix(text: &str) -> Result<StripPrefix, Mistake> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(StripPrefix::Matched),
        "false" => Ok(StripPrefix::Off),
        _ => prefix(text).map(StripPrefix::Prefix).map_err(|mistake| Mistake {
            help: "write `true`, `false` or the prefix to remove".to_owned(),
            ..mistake
        }),
    }
}

pub(super) fn retry_on(text: &str) -> Result<Vec<RetryOn>, Mistake> {
    let words = [
        ("reset", RetryOn::Reset),
        ("502", RetryOn::BadGateway),
        ("503", RetryOn::Unavailable),
        ("504", RetryOn::GatewayTimeout),
        ("timeout", RetryOn::Timeout),
    ];
    value::list(text, |entry| value::choice(&entry.to_ascii_lowercase(), &words))
}

pub(super) fn balance(text: &str) -> Result<Balance, Mistake> {
    if let Some(name) = text.strip_prefix("hash:header:") {
        let name = token(name, "hash:header:x-tenant").and_then(|()| header_name(name))?;
        return Ok(Balance::Hash(HashBy::Header(name)));
    }
    if let Some(name) = text.strip_prefix("hash:cookie:") {
        return token(name, "hash:cookie:session")
            .map(|()| Balance::Hash(HashBy::Cookie(name.to_owned())));
    }
    let words = [
        ("least-request", Some(Balance::LeastRequest)),
        ("round-robin", Some(Balance::RoundRobin)),
        ("ewma", Some(Balance::Ewma)),
        ("hash:client-ip", Some(Balance::Hash(HashBy::ClientIp))),
        ("hash:header:<name>", None),
        ("hash:cookie:<name>", None),
    ];
    value::choice(text, &words)?.ok_or_else(|| {
        Mistake::new("names nothing to hash", "write the name itself", "hash:header:x-tenant")
    })
}

/// The name of a session's cookie.
pub(super) fn cookie(text: &str) -> Result<String, Mistake> {
    token(text, "session").map(|()| text.to_owned())
}

/// One status or a range of them, as `200-399`.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, Mistake> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text| value::number(text, 100..=599_u16, "");
    match (status(first), status(last)) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => {
            let help = "write statuses from 100 to 599, or ranges of them";
            Err(Mistake::new("is not a range of statuses", help, "200-399"))
        }
    }
}
