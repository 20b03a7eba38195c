//! A request is noted when it comes: its account is opened, and its line in the access log begun. No
//! query string and no credentials are written. If no replica answers it, we do.

use std::sync::Arc;

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::access_line::Arrived;
use crate::counters::method_word;
use crate::proxy::Client;
use crate::proxy::account::Account;
use crate::proxy::answer::{self, Asked};
use crate::proxy::body::Body;
use crate::proxy::error::ProxyError;
use crate::telemetry::access::{Entry, Shelf};
use crate::timestamp::Timestamp;

impl Client {
    /// Opens the account of a request that has just come.
    pub(super) fn open_account(&self, request: &Request<Incoming>) -> Account {
        let method = method_word(request.method());
        let core = &self.core;
        let unrouted = &core.proxy.unrouted;
        let mut account =
            Account::open(core.index, self.listener, method, unrouted, &self.activity);
        if !request.body().is_end_stream() {
            account.has_body();
        }
        if let Some(log) = core.proxy.access_log.get() {
            account.log_to(self.entry(log.shelf(core.index), request, account.started()));
        }
        account
    }

    fn entry(&self, shelf: &Arc<Shelf>, request: &Request<Incoming>, now: Timestamp) -> Entry {
        let (side, fields, policy) = (&self.side, request.headers(), self.policy());
        // Only behind a trusted proxy the client is another one than the peer.
        let told = policy.filter(|_| side.trusted).map(|policy| {
            let client = side.client(fields, &policy.trusted_proxies);
            client.map_or_else(|| "unknown".to_owned(), |client| client.to_string())
        });
        let arrived = Arrived {
            unix_micros: shelf.unix_micros(now),
            client: told.as_ref().map_or(side.peer_text(), String::as_bytes),
            listener: policy.map_or("", |policy| &policy.name),
            method: request.method().as_str(),
            host: host(request.uri(), fields),
            path: request.uri().path(),
            protocol: protocol(request.version()),
            tls: side.tls,
            user_agent: fields.get(USER_AGENT).map(HeaderValue::as_bytes),
        };
        shelf.open(|line| line.begin(&arrived))
    }

    /// The answer to a request that no replica answers. One whose client has left is no refusal.
    pub(super) fn refuse(
        &self,
        error: ProxyError,
        asked: &Asked,
        account: &mut Account,
    ) -> Response<Body> {
        if error == ProxyError::ClientLeft {
            account.left();
        } else {
            account.refused(error.reason());
            self.core.count_refused(self.listener, error.reason());
        }
        if account.speaks_grpc() {
            account.call_ended(error.grpc_status());
            return answer::refuse_call(error);
        }
        answer::refuse(error, asked)
    }
}

/// The host as the client named it, without the user information that a target may have.
fn host<'r>(uri: &'r Uri, fields: &'r HeaderMap) -> &'r [u8] {
    let field = || fields.get(HOST).map(HeaderValue::as_bytes);
    let named = uri.authority().map(|authority| authority.as_str().as_bytes()).or_else(field);
    let named = named.unwrap_or_default();
    named.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, field: &'static str, expected: &str) {
        let fields = HeaderMap::from_iter([(HOST, HeaderValue::from_static(field))]);
        assert_eq!(host(&uri.parse().unwrap(), &fields), expected.as_bytes());
    }

    #[test]
    fn the_host_stands_without_credentials() {
        check("/cart", "shop.example.com:8080", "shop.example.com:8080");
        check("http://a.example/", "b.example", "a.example");
        check("http://user:secret@a.example/", "b.example", "a.example");
        check("/", "user:secret@a.example", "a.example");
    }
}
