//! Whom a route expects among replicas that speak TLS, where its labels leave that open.

use super::{Fault, Reader};
use crate::diagnostic::{Diagnostic, Severity};
use crate::routing::host::HostPattern;
use crate::spec::{RouteSpec, UpstreamTls};
use crate::value::Mistake;

impl Reader<'_> {
    /// Settles whom the route expects of replicas with TLS, and says what is wrong about that.
    ///
    /// # Errors
    /// If the route cannot do without.
    pub(super) fn settle_trust(&mut self, mut route: RouteSpec) -> Result<RouteSpec, Fault> {
        if let Err(Mistake { problem, help, .. }) = settle(&mut route) {
            let is_open = is_open(&route);
            let severity = if is_open { Severity::Error } else { Severity::Warning };
            self.diagnostics.push(Diagnostic::of_service(severity, self.service, problem, help));
            if is_open {
                return Err(Fault::Unsafe);
            }
        }
        Ok(route)
    }
}

/// Fills in the name that a replica's certificate must be for: the first host of the route that is
/// one name.
///
/// # Errors
/// What is wrong; whether the route cannot do without is told by [`is_open`].
fn settle(route: &mut RouteSpec) -> Result<(), Mistake> {
    let (target, name) = (&mut route.target, &route.name);
    if !target.protocol.has_tls() {
        if target.tls == UpstreamTls::default() {
            return Ok(());
        }
        let problem = format!(
            "has `hiveway.upstream-tls.*` for route `{name}`, which speaks `{}`: they do nothing",
            target.protocol.word()
        );
        let help = "write `hiveway.protocol=https` or `grpcs`, or remove them";
        return Err(Mistake::new(problem, help, ""));
    }
    if target.tls.server_name.is_none() {
        let first = route.matches.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        });
        target.tls.server_name = first;
    }
    if target.tls.server_name.is_none() && target.tls.verify {
        let problem = format!(
            "does not say whom route `{name}` expects of its replicas: it has no `hiveway.host` \
             that is one name"
        );
        let help = "write the name that the replica's certificate is for as \
                    `hiveway.upstream-tls.server-name`";
        return Err(Mistake::new(problem, help, ""));
    }
    Ok(())
}

/// Whether anybody could pose as a replica of this route, though it asks for TLS that is verified.
fn is_open(route: &RouteSpec) -> bool {
    let target = &route.target;
    target.protocol.has_tls() && target.tls.verify && target.tls.server_name.is_none()
}
