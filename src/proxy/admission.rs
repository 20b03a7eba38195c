//! What is not a request is refused here, before anything is routed by it.
//!
//! hyper is strict about framing but leaves authority and target to its user: without these checks
//! some twenty forms of ambiguous request would reach a replica, which may read them differently.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, request};

use crate::proxy::error::ProxyError;
use crate::routing::host::{self, HostName};
use crate::routing::path;

/// A request's target in the one form in which it is matched and forwarded.
#[derive(Debug)]
pub struct Target {
    /// The host without port, by which the route is found.
    pub host: HostName,
    /// Host and port as the client named them, for the replica's `Host`.
    pub authority: Authority,
    /// The same as a field's value.
    pub host_field: HeaderValue,
    /// Normal form of the path, and the query as it came.
    pub path_and_query: PathAndQuery,
}

/// Reads the target of a request, and refuses what is none.
///
/// # Errors
/// Says which rule the request breaks; it is to be answered with that and not forwarded.
pub fn admit(head: &request::Parts) -> Result<Target, ProxyError> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(ProxyError::Method);
    }
    check_framing(head)?;
    check_values(head)?;
    check_expectation(&head.headers)?;
    let authority = authority(head)?;
    let host = host_of(&authority)?;
    let host_field = field_of(&authority, &head.headers)?;
    let path_and_query = path_and_query(head)?;
    Ok(Target { host, authority, host_field, path_and_query })
}

/// The one authority of a request. An absolute target wins over `Host` (RFC 9112, section 3.2.2);
/// in HTTP/2 the two must agree (RFC 9113, section 8.3.1).
fn authority(head: &request::Parts) -> Result<Authority, ProxyError> {
    let field = host_field(&head.headers)?;
    match (head.uri.authority(), field) {
        (Some(target), None) if head.version == Version::HTTP_2 => Ok(target.clone()),
        (Some(target), Some(field)) if head.version == Version::HTTP_2 && *target != field => {
            Err(ProxyError::BadHost)
        }
        // Without a scheme it is `GET example.com`, the form that only CONNECT may use.
        (Some(_), _) if head.uri.scheme().is_none() => Err(ProxyError::BadTarget),
        (Some(target), Some(_)) => Ok(target.clone()),
        // HTTP/1.1 requires the field even beside an absolute target (RFC 9112, section 3.2).
        (_, None) => Err(ProxyError::BadHost),
        (None, Some(field)) => Ok(field),
    }
}

/// The authority as a field's value: the client's own, which costs no copy, where it is the same.
fn field_of(authority: &Authority, headers: &HeaderMap) -> Result<HeaderValue, ProxyError> {
    match headers.get(HOST) {
        Some(field) if field == authority.as_str() => Ok(field.clone()),
        _ => HeaderValue::try_from(authority.as_str()).map_err(|_| ProxyError::BadHost),
    }
}

fn host_field(headers: &HeaderMap) -> Result<Option<Authority>, ProxyError> {
    let mut fields = headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => {
            Authority::try_from(field.as_bytes()).map(Some).map_err(|_| ProxyError::BadHost)
        }
        (Some(_), Some(_)) => Err(ProxyError::BadHost),
    }
}

/// The host without its port. `Authority` lets user information and odd ports pass; we do not.
fn host_of(authority: &Authority) -> Result<HostName, ProxyError> {
    let text = authority.as_str();
    let name = authority.host();
    let port = text.strip_prefix(name).ok_or(ProxyError::BadHost)?;
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        // `parse` alone would take a sign.
        Some(digits) if digits.starts_with('+') => false,
        Some(digits) => digits.is_empty() || digits.parse::<u16>().is_ok(),
    };
    if !is_port || !host::is_host(name.strip_suffix('.').unwrap_or(name)) {
        return Err(ProxyError::BadHost);
    }
    name.parse().map_err(|_| ProxyError::BadHost)
}

fn path_and_query(head: &request::Parts) -> Result<PathAndQuery, ProxyError> {
    let uri = &head.uri;
    check_scheme(uri)?;
    let given = uri.path_and_query().ok_or(ProxyError::BadTarget)?;
    if given.path() == "*" {
        // `OPTIONS *` asks about the server as a whole (RFC 9110, section 9.3.7).
        return if head.method == Method::OPTIONS {
            Ok(given.clone())
        } else {
            Err(ProxyError::BadTarget)
        };
    }
    let normal = path::normalize(given.path()).map_err(ProxyError::BadPath)?;
    // Of `http://example.com?x` the path is `/`, which stands nowhere (RFC 9110, section 4.2.3).
    if normal == given.path() && given.as_str().starts_with('/') {
        return Ok(given.clone());
    }
    let target = match given.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal.into_owned(),
    };
    PathAndQuery::try_from(target).map_err(|_| ProxyError::BadTarget)
}

/// Origin form has no scheme, and neither has a request of HTTP/2 with `Host` for `:authority`: h2
/// drops it then. Gateways from HTTP/1 may write that (RFC 9113, section 8.3.1).
fn check_scheme(uri: &Uri) -> Result<(), ProxyError> {
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(ProxyError::BadTarget),
    }
}

/// What hyper lets pass: both framings at once, of which it drops one, and codings other than
/// `chunked`, which it forwards as if they were none.
fn check_framing(head: &request::Parts) -> Result<(), ProxyError> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let only_chunked = codings.next().is_none()
        && coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
        && head.version < Version::HTTP_2;
    if only_chunked && !head.headers.contains_key(CONTENT_LENGTH) {
        return Ok(());
    }
    Err(ProxyError::BadFraming)
}

/// A value that begins or ends with a space makes a request of HTTP/2 malformed (RFC 9113, section
/// 8.2.1): HTTP/1 has no way to tell it from one without. There hyper has taken the spaces off.
fn check_values(head: &request::Parts) -> Result<(), ProxyError> {
    let padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        [value.first(), value.last()].iter().any(|end| matches!(end, Some(b' ' | b'\t')))
    };
    if head.version == Version::HTTP_2 && head.headers.values().any(padded) {
        return Err(ProxyError::BadField);
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), ProxyError> {
    let met = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let mut expectations = headers.get_all(EXPECT).iter();
    if expectations.all(met) { Ok(()) } else { Err(ProxyError::Expectation) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// `METHOD target VERSION [Name: value]...`, fields separated by `|`.
    fn admit_text(text: &str) -> Result<Target, ProxyError> {
        let mut parts = text.split('|').map(str::trim);
        let mut line = parts.next().unwrap().split(' ');
        let (method, target) = (line.next().unwrap(), line.next().unwrap());
        let version = if line.next() == Some("h2") { Version::HTTP_2 } else { Version::HTTP_11 };
        let mut request = Request::builder().method(method).uri(target).version(version);
        for field in parts {
            let (name, value) = field.split_once(':').unwrap();
            request = request.header(name, value.trim());
        }
        admit(&request.body(()).unwrap().into_parts().0)
    }

    fn accepts(text: &str, host: &str, target: &str) {
        let admitted = admit_text(text).unwrap();
        assert_eq!(admitted.host.as_str(), host, "{text}");
        assert_eq!(admitted.path_and_query.as_str(), target, "{text}");
    }

    fn refuses(text: &str, error: ProxyError) {
        assert_eq!(admit_text(text).map(|target| target.authority), Err(error), "{text}");
    }

    #[test]
    fn a_request_is_known_by_one_host_without_its_port() {
        accepts("GET / h1 | Host: Shop.Example.com:8080", "shop.example.com", "/");
        accepts("GET / h1 | Host: shop.example.com.", "shop.example.com", "/");
        accepts("GET / h1 | Host: [fd99::1]:80", "[fd99::1]", "/");
        accepts("GET http://a.example/x?y h1 | Host: b.example", "a.example", "/x?y");
        accepts("GET http://a.example?y h1 | Host: a.example", "a.example", "/?y");
        accepts("GET http://a.example h1 | Host: a.example", "a.example", "/");
        accepts("GET https://a.example?y h2", "a.example", "/?y");
        accepts("GET https://a.example/x h2", "a.example", "/x");
        accepts("GET https://a.example/x h2 | Host: a.example", "a.example", "/x");
        accepts("GET /x h2 | Host: a.example", "a.example", "/x");
        accepts("OPTIONS * h1 | Host: a", "a", "*");
    }

    #[test]
    fn a_request_without_one_valid_host_is_refused() {
        for text in [
            "GET / h1",
            "GET / h1 | Host: a | Host: a",
            "GET / h1 | Host:",
            "GET / h1 | Host: a@b",
            "GET / h1 | Host: a,b",
            "GET / h1 | Host: a/x",
            "GET / h1 | Host: a b",
            "GET / h1 | Host: a:80x",
            "GET / h1 | Host: a:99999",
            "GET / h1 | Host: a:+80",
            "GET / h1 | Host: :80",
            "GET http://u@evil/ h1 | Host: evil",
            "GET http://a/ h1",
            "GET / h2",
            "GET https://a/ h2 | Host: b",
            "GET https://u@a/ h2",
        ] {
            refuses(text, ProxyError::BadHost);
        }
    }

    #[test]
    fn a_target_of_another_form_is_refused() {
        refuses("GET foo h1 | Host: a", ProxyError::BadTarget);
        refuses("GET a:80 h1 | Host: a", ProxyError::BadTarget);
        refuses("GET ftp://a/ h1 | Host: a", ProxyError::BadTarget);
        refuses("GET * h1 | Host: a", ProxyError::BadTarget);
        refuses("CONNECT a:80 h1 | Host: a", ProxyError::Method);
        refuses("TRACE / h1 | Host: a", ProxyError::Method);
    }

    #[test]
    fn the_path_is_forwarded_as_it_is_matched() {
        accepts("GET //a/./b/%7Ec?q=%2f h1 | Host: a", "a", "/a/b/~c?q=%2f");
        refuses("GET /a%2fb h1 | Host: a", ProxyError::BadPath(path::InvalidPath::Ambiguous));
        refuses("GET /../x h1 | Host: a", ProxyError::BadPath(path::InvalidPath::ClimbsOut));
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        accepts("POST / h1 | Host: a | Transfer-Encoding: Chunked", "a", "/");
        for framing in [
            "Transfer-Encoding: chunked | Content-Length: 3",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: chunked | Transfer-Encoding: chunked",
        ] {
            refuses(&format!("POST / h1 | Host: a | {framing}"), ProxyError::BadFraming);
        }
    }

    #[test]
    fn only_the_one_expectation_that_exists_is_met() {
        accepts("POST / h1 | Host: a | Expect: 100-Continue", "a", "/");
        refuses("POST / h1 | Host: a | Expect: banana", ProxyError::Expectation);
    }
}
