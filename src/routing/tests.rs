use proptest::prelude::*;

use super::*;

/// `host [!priority] path [METHOD] [header:value] [?query=value] -> name`, one a line. A path that
/// begins with `=` is exact, with `~` a regular expression.
fn router(text: &str) -> Router<String> {
    Router::new(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(claim))
}

fn claim(line: &str) -> (Claim, String) {
    let (conditions, name) = line.split_once(" -> ").unwrap();
    let mut words = conditions.split_whitespace();
    let mut claim = Claim {
        host: words.next().unwrap().parse().unwrap(),
        priority: 0,
        path: PathPattern::Prefix(path::PathPrefix::root()),
        conditions: Conditions::default(),
    };
    for word in words {
        if let Some(priority) = word.strip_prefix('!') {
            claim.priority = priority.parse().unwrap();
        } else if let Some(path) = word.strip_prefix('=') {
            claim.path = PathPattern::Exact(path.into());
        } else if let Some(regex) = word.strip_prefix('~') {
            claim.path = PathPattern::Regex(Regex::new(regex).unwrap());
        } else if let Some((name, value)) = word.strip_prefix('?').and_then(|q| q.split_once('=')) {
            claim.conditions.queries.push((name.to_owned(), value.to_owned()));
        } else if word.starts_with('/') {
            claim.path = PathPattern::Prefix(word.parse().unwrap());
        } else if let Some((name, value)) = word.split_once(':') {
            claim.conditions.headers.push((name.to_owned(), value.to_owned()));
        } else {
            claim.conditions.methods.push(word.to_owned());
        }
    }
    (claim, name.to_owned())
}

/// `METHOD host/path?query [header:value]` is taken by the route of that name; `-` is none.
fn check(router: &Router<String>, request: &str, name: &str) {
    let mut words = request.split_whitespace();
    let method: Method = words.next().unwrap().parse().unwrap();
    let (host, target) = words.next().unwrap().split_once('/').unwrap();
    let target = format!("/{target}");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*target, None),
    };
    let mut headers = HeaderMap::new();
    for word in words {
        let (name, value) = word.split_once(':').unwrap();
        headers
            .append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let head = Head { host, path, query, method: &method, headers: &headers };
    let found = router.find(&head).map_or("-", |found| found.value);
    assert_eq!(found, name, "{request}");
}

#[test]
fn an_exact_host_beats_a_wildcard_beats_any() {
    let router = router(
        "
        *                 -> any
        *.example.com     -> wild
        shop.example.com  -> shop
        ",
    );
    check(&router, "GET shop.example.com/", "shop");
    check(&router, "GET web.example.com/", "wild");
    check(&router, "GET a.web.example.com/", "any");
    check(&router, "GET example.com/", "any");
    check(&router, "GET other.org/", "any");
}

#[test]
fn a_host_whose_routes_do_not_take_the_request_leaves_it_to_a_less_exact_one() {
    let router = router(
        "
        *               -> any
        a.example /api  -> api
        ",
    );
    check(&router, "GET a.example/api/x", "api");
    check(&router, "GET a.example/x", "any");
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let router = router(
        "
        a /       -> root
        a /api    -> api
        a /api/v2 -> v2
        ",
    );
    check(&router, "GET a/", "root");
    check(&router, "GET a/api", "api");
    check(&router, "GET a/api/", "api");
    check(&router, "GET a/apix", "root");
    check(&router, "GET a/api/v1/x", "api");
    check(&router, "GET a/api/v2/x/y/z", "v2");
    check(&router, "GET b/", "-");
}

#[test]
fn an_exact_path_beats_a_regular_expression_beats_a_prefix() {
    let router = router(
        "
        a /x/y     -> prefix
        a ~^/x/\\d -> regex
        a =/x/1    -> exact
        a /x       -> short
        ",
    );
    check(&router, "GET a/x/1", "exact");
    check(&router, "GET a/x/2", "regex");
    check(&router, "GET a/x/y", "prefix");
    check(&router, "GET a/x/z", "short");
}

#[test]
fn priority_comes_before_the_path_but_stays_within_its_host() {
    let router = router(
        "
        a /long/path   -> long
        a !5 /long     -> important
        * !1000 /      -> greedy
        ",
    );
    check(&router, "GET a/long/path", "important");
    check(&router, "GET a/other", "greedy");
}

#[test]
fn more_conditions_win_and_unmet_ones_fall_back() {
    let router = router(
        "
        a /                      -> plain
        a / POST                 -> post
        a / POST x-beta:1        -> beta
        a / ?debug=a%20b         -> never
        a / GET ?q=a+b           -> nor
        ",
    );
    check(&router, "GET a/", "plain");
    check(&router, "POST a/", "post");
    check(&router, "POST a/ x-beta:0", "post");
    check(&router, "POST a/ x-beta:0 x-beta:1", "beta");
    check(&router, "GET a/?debug=a%20b", "plain");
}

#[test]
fn query_parameters_are_compared_decoded() {
    let (mut claim, name) = claim("a / -> spaced");
    claim.conditions.queries.push(("the name".to_owned(), "a b&c".to_owned()));
    let router = Router::new([(claim, name)]);
    check(&router, "GET a/?x=1&the+name=a%20b%26c", "spaced");
    check(&router, "GET a/?the+name=a", "-");
    check(&router, "GET a/", "-");
}

#[test]
fn of_two_equal_claims_the_first_is_found() {
    let router = router(
        "
        a /x -> old
        a /x -> new
        ",
    );
    check(&router, "GET a/x", "old");
}

#[test]
fn the_prefix_that_chose_the_route_is_told() {
    let router = router("a /api/v2 -> v2");
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head =
        Head { host: "a", path: "/api/v2/x", query: None, method: &method, headers: &headers };
    assert_eq!(router.find(&head).unwrap().prefix, "/api/v2");
}

/// What the table must agree with: every claim is looked at, the best one taken.
fn naive<'c>(claims: &'c [(Claim, String)], host: &str, path: &str) -> Option<&'c str> {
    let host_rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name.as_str() == host).then_some(2),
        HostPattern::Wildcard(parent) => (host::parent(host) == Some(parent.as_str())).then_some(1),
        HostPattern::Any => Some(0),
    };
    let path_rank = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(exact) => (&**exact == path).then_some((2, 0)),
        PathPattern::Regex(regex) => regex.is_match(path).then_some((1, 0)),
        PathPattern::Prefix(prefix) => prefix.strip(path).map(|_| (0, prefix.depth())),
    };
    let mut best = None;
    for (claim, name) in claims {
        let (Some(host), Some(path)) = (host_rank(&claim.host), path_rank(&claim.path)) else {
            continue;
        };
        let rank = (host, claim.priority, path);
        if best.is_none_or(|(other, _): (_, &str)| rank > other) {
            best = Some((rank, name));
        }
    }
    best.map(|(_, name)| name)
}

proptest! {
    #[test]
    fn the_table_agrees_with_looking_at_every_claim(
        lines in prop::collection::vec(
            ("(a|b|a\\.b|\\*\\.b|\\*)", "( !-1| !1|)", "( =/x| =/x/y| ~x| /| /x| /x/y| /x/y/z)"),
            0..12,
        ),
        host in "(a|b|a\\.b|c\\.b)",
        path in "(/|/x|/x/y|/x/y/z|/xx)",
    ) {
        let claims: Vec<_> = lines.iter().enumerate()
            .map(|(at, (host, priority, path))| claim(&format!("{host}{priority}{path} -> {at}")))
            .collect();
        let router = Router::new(claims.iter().cloned());
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = Head { host: &host, path: &path, query: None, method: &method, headers: &headers };
        let found = router.find(&head).map(|found| found.value.as_str());
        prop_assert_eq!(found, naive(&claims, &host, &path));
    }
}
