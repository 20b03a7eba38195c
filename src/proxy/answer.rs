//! The responses that the proxy makes itself.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use serde_json::json;

use crate::clock;
use crate::grpc;
use crate::proxy::body::Body;
use crate::proxy::error::ProxyError;

/// What the answer to a refused request depends on; read before the head goes its way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the client accepts; looked at only when it is refused.
    pub accept: Option<HeaderValue>,
    /// HTTP/2 has no `Connection` header.
    pub version: Version,
    /// Whether nothing may follow the head: hyper sees to that in HTTP/1 only.
    pub head_only: bool,
    /// Whether it is a gRPC call by its content type.
    pub grpc: bool,
}

impl Asked {
    /// Reads it from a request's head.
    pub fn of<B>(request: &Request<B>) -> Self {
        let accept = request.headers().get(ACCEPT).cloned();
        let head_only = request.method() == Method::HEAD;
        let grpc = grpc::is_grpc(request.headers());
        Self { accept, version: request.version(), head_only, grpc }
    }

    /// Whether the client prefers JSON.
    fn prefers_json(&self) -> bool {
        self.accept.as_ref().is_some_and(|accept| prefers_json(accept.as_bytes()))
    }
}

/// Whether `application/json` and the like stand before text in the value of an `Accept`.
fn prefers_json(accept: &[u8]) -> bool {
    let position = |needle: &[u8]| accept.windows(needle.len()).position(|at| at == needle);
    match (position(b"json"), position(b"text/")) {
        (Some(json), Some(text)) => json < text,
        (json, _) => json.is_some(),
    }
}

/// What is said about a refusal: its content type, and JSON or text with the reason word.
fn words(error: ProxyError, json: bool) -> (&'static str, String) {
    let (status, reason) = (error.status(), error.reason());
    if json {
        let fields = json!({
            "status": status.as_u16(), "reason": reason, "message": error.to_string(),
        });
        ("application/json", format!("{fields}\n"))
    } else {
        ("text/plain; charset=utf-8", format!("{status} ({reason})\n{error}\n"))
    }
}

/// The answer to a request that no replica answers: JSON or text, with the reason word.
pub fn refuse(error: ProxyError, asked: &Asked) -> Response<Body> {
    let (kind, body) = words(error, asked.prefers_json());
    let mut response = Response::new(Body::own(Bytes::from(body)));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if error.is_temporary() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if error.closes() && asked.version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same as the bytes of HTTP/1.1, for a head that did not come to its end; `head` is what came
/// of it. After this answer the connection is closed.
pub fn refuse_unread(error: ProxyError, head: &[u8]) -> String {
    let mut lines = head.split(|byte| *byte == b'\n');
    let json = lines.any(|line| {
        let name = line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"accept:"));
        name && prefers_json(line)
    });
    let (kind, body) = words(error, json);
    let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(clock::date()).unwrap_or(0));
    format!(
        "HTTP/1.1 {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\ndate: {}\r\n\r\n{body}",
        error.status(),
        body.len(),
        httpdate::fmt_http_date(date),
    )
}

/// The same for a gRPC call: a response of trailers alone, whose HTTP status is always 200. Its
/// `date` is hyper's, as with every other response (RFC 9110, section 6.6.1).
pub fn refuse_call(error: ProxyError) -> Response<Body> {
    let mut response = Response::new(Body::own(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    grpc::end_with(headers, error.grpc_status(), &call_message(error));
    response
}

/// What a call's `grpc-message` says about a failure, with the reason word.
pub fn call_message(error: ProxyError) -> String {
    // SDKs know by these words that the same message will not get through the next time either.
    let known = if error == ProxyError::BodyTooLarge {
        "grpc: received message larger than max: "
    } else {
        ""
    };
    format!("{known}{error} ({})", error.reason())
}

/// A redirection of the same method to the same place on https (RFC 9110, section 15.4.9).
pub fn redirect_to_https(host: &str, path_and_query: &str) -> Option<Response<Body>> {
    let location = HeaderValue::try_from(format!("https://{host}{path_and_query}")).ok()?;
    let mut response = Response::new(Body::own(Bytes::new()));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

/// A short answer in plain text, for a listener's own `health-path`.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::own(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
