//! Routes of one file that claim the same requests.

use std::collections::BTreeSet;

use crate::check::Examined;
use crate::diagnostic::Severity;
use crate::labels::PREFIX;
use crate::source::Position;
use crate::spec::{DEFAULT_ROUTE, RouteSpec};

/// Adds an error to the later of two routes that claim the same requests, unless they belong to two
/// services that share them by weight.
pub(super) fn find(services: &mut [Examined]) {
    let mut found = Vec::new();
    let all: Vec<(usize, &Examined, &RouteSpec)> = services
        .iter()
        .enumerate()
        .flat_map(|(index, service)| {
            service.routes.iter().map(move |route| (index, service, route))
        })
        .collect();
    for (place, (index, service, route)) in all.iter().enumerate() {
        let rival = all.iter().take(place).find_map(|(earlier, rival, rival_route)| {
            let is_open = service.declaration.is_partial || rival.declaration.is_partial;
            let share = earlier != index && route.weight.is_some() && rival_route.weight.is_some();
            let claim = claim(route, rival_route).filter(|_| !is_open && !share)?;
            Some((*earlier == *index, title(rival, rival_route), claim))
        });
        if let Some((is_own, rival, claim)) = rival {
            found.push((
                *index,
                place_of(service, route),
                route.name.clone(),
                is_own,
                rival,
                claim,
            ));
        }
    }
    for (index, at, route, is_own, rival, claim) in found {
        let Some(service) = services.get_mut(index) else { continue };
        let problem = format!("its route `{route}` claims {claim}, as {rival} does");
        let help = if is_own {
            "give one of the two another host, path or condition, or a `priority`"
        } else {
            "give one of the two another host, path or condition, or give both a `weight` to share \
             the traffic"
        };
        service.declaration.complain(Severity::Error, at, problem, help);
    }
}

fn title(service: &Examined, route: &RouteSpec) -> String {
    let name = &service.declaration.service.name;
    if route.name == DEFAULT_ROUTE {
        format!("service `{name}`")
    } else {
        format!("route `{}` of service `{name}`", route.name)
    }
}

/// The host and path that both routes claim under the same further conditions.
fn claim(route: &RouteSpec, rival: &RouteSpec) -> Option<String> {
    if conditions(route) != conditions(rival) {
        return None;
    }
    let (ours, theirs) = (&route.matches, &rival.matches);
    let host = ours.hosts.iter().find(|host| theirs.hosts.contains(host))?;
    let path = ours.paths.iter().find(|path| theirs.paths.contains(path))?;
    Some(format!("host `{host}` with path `{path}`"))
}

/// All but host and path that decides which requests a route takes, in an order of its own.
fn conditions(route: &RouteSpec) -> (i32, [BTreeSet<String>; 4], Option<&str>) {
    let matches = &route.matches;
    let methods = matches.methods.iter().map(ToString::to_string).collect();
    let headers = matches.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let queries = matches.queries.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let listeners = route.listeners.iter().flatten().cloned().collect();
    (matches.priority, [methods, headers, queries, listeners], route.instance.as_deref())
}

/// Where the route says which requests it takes; else where its service is named.
fn place_of(service: &Examined, route: &RouteSpec) -> Position {
    let own = format!("{PREFIX}routes.{}.", route.name);
    let settings = ["path", "path-exact", "path-regex", "host"];
    let labels_at = &service.declaration.labels_at;
    let find = |before: &str, setting: &str| {
        let wanted = format!("{before}{setting}");
        labels_at.iter().find(|(label, _)| label.eq_ignore_ascii_case(&wanted)).map(|(_, at)| *at)
    };
    [own.as_str(), PREFIX]
        .iter()
        .find_map(|before| settings.iter().find_map(|setting| find(before, setting)))
        .unwrap_or(service.declaration.at)
}
