//! Who may use a route, and how many at once.

use http::request;
use ipnet::IpNet;

use crate::proxy::Client;
use crate::proxy::error::ProxyError;
use crate::snapshot::Route;

impl Client {
    /// Whether the route is open to a request, apart from what it is like itself.
    ///
    /// # Errors
    /// If it has as many as it may, or the client is none of those that it is for.
    pub(super) fn check_policy(
        &self,
        route: &Route,
        head: &request::Parts,
        in_flight: u64,
    ) -> Result<(), ProxyError> {
        let policy = route.policy();
        let limit = policy.limits.inflight;
        if limit.is_some_and(|limit| in_flight > limit) {
            return Err(ProxyError::TooManyInFlight);
        }
        let Some(listener) = self.policy() else {
            return Ok(());
        };
        if policy.allow.is_empty() && listener.allow.is_empty() {
            return Ok(());
        }
        let client = self.side.client(&head.headers, &listener.trusted_proxies);
        let allows = |networks: &[IpNet]| {
            networks.is_empty()
                || client.is_some_and(|client| networks.iter().any(|net| net.contains(&client)))
        };
        if allows(&policy.allow) && allows(&listener.allow) {
            return Ok(());
        }
        Err(ProxyError::Forbidden)
    }

    /// Whether a request is sent to come by TLS; else its client must be who the route wants.
    ///
    /// # Errors
    /// If the client has not shown a certificate, and must.
    pub(super) fn is_redirected(&self, route: &Route, is_secure: bool) -> Result<bool, ProxyError> {
        let policy = route.policy();
        if policy.https_redirect && !is_secure {
            return Ok(true);
        }
        self.side.credential.admits(policy.client_auth).map(|()| false)
    }
}
