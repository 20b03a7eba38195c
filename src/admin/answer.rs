//! What each path of the admin port answers.

use std::error::Error;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::{Answer, Asked, Speaker, Standing};
use crate::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const FORBIDDEN: &str = "this address may not read the admin port: \
                         add its network to `networks` in `[admin]`\n";
const UNKNOWN: &str = "there is /metrics, /livez, /readyz and \
                       /api/v1/{routes,services,endpoints,diagnostics,nodes,certificates,version}\n";

/// The answer to a request.
pub(super) fn answer(admin: &impl Speaker, asked: &Asked) -> Answer {
    if asked.standing == Standing::Stranger {
        return text(StatusCode::FORBIDDEN, FORBIDDEN);
    }
    if !matches!(*asked.request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "this port only reads: use GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match asked.request.uri().path() {
        "/metrics" => match admin.metrics() {
            Ok(rendered) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, rendered),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match admin.readiness() {
            Ok(words) => text(StatusCode::OK, words + "\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
        },
        path => match path.strip_prefix("/api/v1/").and_then(|list| admin.list(list)) {
            Some(written) => json(written),
            None => text(StatusCode::NOT_FOUND, UNKNOWN),
        },
    }
}

/// The answer when there is none: too many at once, or it took too long.
pub(super) fn unavailable(error: &(dyn Error + Send + Sync)) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}: try again\n"))
}

fn json(written: serde_json::Result<String>) -> Answer {
    match written {
        Ok(written) => with_type(StatusCode::OK, JSON, written + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, TEXT, body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
