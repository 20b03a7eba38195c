//! The path that a replica sees.

use http::uri::PathAndQuery;
use http::{HeaderValue, request};

use crate::proxy::admission::Target;
use crate::proxy::error::ProxyError;
use crate::proxy::headers;
use crate::routing::path::{self, PathPrefix};
use crate::snapshot::Route;
use crate::spec::StripPrefix;

/// The path for the replica: without the prefix that the route strips.
pub(super) fn path_for_replica(
    route: &Route,
    target: &Target,
    matched: &str,
    head: &mut request::Parts,
) -> Result<PathAndQuery, ProxyError> {
    let given = &target.path_and_query;
    let prefix = match &route.policy().strip_prefix {
        StripPrefix::Off => return Ok(given.clone()),
        StripPrefix::Matched => matched,
        StripPrefix::Prefix(prefix) if covers(prefix, given.path()) => prefix.as_str(),
        StripPrefix::Prefix(_) => "",
    };
    if prefix.is_empty() {
        return Ok(given.clone());
    }
    // By segments, not by bytes: one that the route was found by may have parameters.
    let segments = prefix.bytes().filter(|byte| *byte == b'/').count();
    let covered = path::head(given.path(), segments).map_or(0, str::len);
    let rest = given.as_str().get(covered..).unwrap_or_default();
    let slash = if rest.starts_with('/') { "" } else { "/" };
    if let Ok(prefix) = HeaderValue::try_from(prefix) {
        head.headers.insert(headers::X_FORWARDED_PREFIX, prefix);
    }
    PathAndQuery::try_from(format!("{slash}{rest}")).map_err(|_| ProxyError::BadTarget)
}

fn covers(prefix: &PathPrefix, path: &str) -> bool {
    prefix.strip(&path::without_parameters(path)).is_some()
}
