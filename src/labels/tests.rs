//! What labels come to, one rule at a time.

mod properties;

use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::spec::{
    Balance, Check, ClientAuth, Protocol, Question, RetryOn, StripPrefix, UpstreamTls,
};

/// Reads labels that are written one a line.
fn read(lines: &str) -> Parsed {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let labels = lines.map(|line| {
        let (label, text) = line.split_once('=').expect("a line is label=value");
        (label.to_owned(), text.to_owned())
    });
    parse("shop_web", &labels.collect())
}

/// Routes as `name: hosts | paths`, rejected ones as `name: rejected`, then the diagnostics.
fn summary(parsed: &Parsed) -> String {
    let mut text = String::new();
    for route in &parsed.routes {
        let hosts: Vec<String> = route.matches.hosts.iter().map(ToString::to_string).collect();
        let paths: Vec<String> = route.matches.paths.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "{}: {} | {}", route.name, hosts.join(" "), paths.join(" "));
    }
    for name in &parsed.rejected {
        let _ = writeln!(text, "{name}: rejected");
    }
    for diagnostic in &parsed.diagnostics {
        let _ = writeln!(text, "{diagnostic}");
    }
    text
}

fn check(labels: &str, expected: &str) {
    let margin = |text: &str| -> String {
        let lines: Vec<&str> = text.lines().skip_while(|line| line.trim().is_empty()).collect();
        let indent = lines.first().map_or(0, |line| line.len() - line.trim_start().len());
        lines
            .iter()
            .map(|line| line.get(indent..).unwrap_or_default())
            .filter(|line| !line.is_empty())
            .fold(String::new(), |text, line| text + line + "\n")
    };
    assert_eq!(summary(&read(labels)), margin(expected), "{labels}");
}

fn only(labels: &str) -> RouteSpec {
    let mut parsed = read(labels);
    assert_eq!(parsed.diagnostics, [], "{labels}");
    assert_eq!(parsed.routes.len(), 1, "{labels}");
    parsed.routes.remove(0)
}

#[test]
fn a_service_without_our_labels_wants_nothing() {
    assert_eq!(read("traefik.enable=true\nhivewayx.port=1"), Parsed::default());
    assert!(read("HIVEWAY.port=80").enabled);
    assert!(!read("hiveway.enable=false\nhiveway.host=a.test").enabled);
    assert!(read("hiveway.enable=true").enabled);
}

#[test]
fn the_services_own_labels_make_a_route_if_they_hold_a_condition_or_no_route_is_named() {
    check("hiveway.port=8080", "default: * | /");
    check(
        "hiveway.host=a.test\nhiveway.routes.api.path=/api",
        "
        api: a.test | /api
        default: a.test | /
    ",
    );
    check("hiveway.port=8080\nhiveway.routes.api.path=/api", "api: * | /api");
    check(
        "hiveway.header.x-a=1\nhiveway.routes.api.path=/api",
        "
        api: * | /api
        default: * | /
    ",
    );
    check("hiveway.host=a.test\nhiveway.routes.DEFAULT.path=/x", "default: a.test | /x");
}

#[test]
fn a_route_that_says_anything_of_the_path_replaces_all_that_it_inherits_of_it() {
    check(
        "
        hiveway.path=/a, /b
        hiveway.path-exact=/c
        hiveway.routes.one.path-regex=^/v[0-9]{1,3}/
        hiveway.routes.two.method=get
        ",
        "
        default: * | /a /b = /c
        one: * | ~ ^/v[0-9]{1,3}/
        two: * | /a /b = /c
        ",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of all settings, and one of what they become")]
fn every_setting_that_works_reaches_the_route() {
    let route = only(
        "
        hiveway.Port = 8080
        hiveway.protocol=https
        hiveway.upstream-tls.ca=root
        hiveway.upstream-tls.server-name=c.test
        hiveway.upstream-tls.verify=false
        hiveway.client-auth=required
        hiveway.network=shop_default
        hiveway.host=a.test, *.b.test
        hiveway.method=GET,post
        hiveway.header.X-Some.Name=yes
        hiveway.query.Page=1
        hiveway.priority=-3
        hiveway.listener=Web,temporal
        hiveway.instance=internal
        hiveway.weight=7
        hiveway.allow=10.0.0.0/8, fd99::1
        hiveway.strip-prefix=/api/
        hiveway.https-redirect=true
        hiveway.balance=round-robin
        hiveway.sticky=sid
        hiveway.slow-start=30s
        hiveway.retry.attempts=5
        hiveway.retry.on=reset, 503, timeout
        hiveway.retry.budget=10%
        hiveway.timeout.connect=500ms
        hiveway.timeout.response-header=none
        hiveway.timeout.stream-idle=1h
        hiveway.timeout.queue=0s
        hiveway.keepalive.idle=4s
        hiveway.keepalive.requests=100
        hiveway.keepalive.age=1h
        hiveway.limit.body=10MB
        hiveway.limit.inflight=9
        hiveway.limit.queue=8
        hiveway.limit.connections=6
        hiveway.eject.consecutive=3
        hiveway.eject.base=1s
        hiveway.eject.max=1m
        hiveway.eject.max-percent=100
        "
        .replace(" = ", "=")
        .as_str(),
    );
    let hour = Duration::from_hours(1);
    assert_eq!(route.target.port, Some(8080));
    assert_eq!(route.target.protocol, Protocol::Https);
    let tls = UpstreamTls {
        ca: Some("root".to_owned()),
        server_name: "c.test".parse().ok(),
        verify: false,
    };
    assert_eq!(route.target.tls, tls);
    assert_eq!(route.policy.client_auth, ClientAuth::Required);
    assert_eq!(route.target.network.as_deref(), Some("shop_default"));
    assert_eq!(route.matches.hosts.len(), 2);
    assert_eq!(route.matches.methods, [http::Method::GET, http::Method::POST]);
    assert_eq!(route.matches.headers.first().map(|(name, _)| name.as_str()), Some("x-some.name"));
    assert_eq!(route.matches.queries, [("Page".to_owned(), "1".to_owned())]);
    assert_eq!(route.matches.priority, -3);
    assert_eq!(route.listeners, Some(vec!["web".to_owned(), "temporal".to_owned()]));
    assert_eq!(route.instance.as_deref(), Some("internal"));
    assert_eq!(route.weight, Some(7));
    let policy = route.policy;
    assert_eq!(policy.allow.len(), 2);
    assert_eq!(policy.strip_prefix, StripPrefix::Prefix("/api".parse().unwrap()));
    assert!(policy.https_redirect);
    assert_eq!(policy.balance, Balance::RoundRobin);
    assert_eq!(policy.sticky.as_deref(), Some("sid"));
    assert_eq!(policy.slow_start, Duration::from_secs(30));
    assert_eq!(policy.retry.attempts, 5);
    assert_eq!(policy.retry.on, [RetryOn::Reset, RetryOn::Unavailable, RetryOn::Timeout]);
    assert_eq!(policy.retry.budget_percent, 10);
    assert_eq!(policy.timeouts.connect, Duration::from_millis(500));
    assert_eq!(policy.timeouts.response_header, None);
    assert_eq!((policy.timeouts.stream_idle, policy.timeouts.upgrade_idle), (hour, hour));
    assert_eq!(policy.timeouts.queue, Duration::ZERO);
    assert_eq!(policy.keepalive.idle, Some(Duration::from_secs(4)));
    assert_eq!((policy.keepalive.requests, policy.keepalive.age), (Some(100), Some(hour)));
    assert_eq!((policy.limits.body, policy.limits.inflight), (Some(10_000_000), Some(9)));
    assert_eq!((policy.limits.queue, policy.limits.connections), (8, Some(6)));
    assert_eq!((policy.eject.consecutive, policy.eject.max_percent), (3, 100));
    assert_eq!(policy.eject.base, Duration::from_secs(1));
    assert_eq!(policy.eject.max, Duration::from_mins(1));
}

#[test]
fn a_route_overrides_what_the_service_says_and_inherits_the_rest() {
    let parsed = read(
        "
        hiveway.port=80
        hiveway.limit.inflight=10
        hiveway.routes.api.port=81
        hiveway.routes.api.limit.inflight=none
        hiveway.routes.web.host=w.test
    ",
    );
    let found: Vec<_> = parsed
        .routes
        .iter()
        .map(|route| (route.name.as_str(), route.target.port, route.policy.limits.inflight))
        .collect();
    assert_eq!(found, [("api", Some(81), None), ("web", Some(80), Some(10))]);
}

#[test]
fn a_wrong_value_disables_the_routes_that_inherit_it_and_no_other() {
    check(
        "
        hiveway.host=a.test
        hiveway.port=http
        hiveway.routes.api.port=81
        hiveway.routes.api.path=/api
        hiveway.routes.old.path=/old
        ",
        "
        api: a.test | /api
        default: rejected
        old: rejected
        error: service `shop_web`: label `hiveway.port=http` is not a port number
          help: write the number the container listens on, 1 to 65535, for example `hiveway.port=8080`
        ",
    );
}

#[test]
fn an_unknown_label_is_ignored_and_the_right_one_proposed() {
    let unknown = |label: &str| {
        let parsed = read(&format!("hiveway.port=80\n{label}=x"));
        assert_eq!(parsed.routes.len(), 1);
        parsed.diagnostics.first().map(|found| (found.severity, found.help.clone())).unwrap()
    };
    for (label, help) in [
        ("hiveway.prot", "did you mean `hiveway.port`?"),
        ("hiveway.routes.api.pth", "did you mean `hiveway.routes.api.path`?"),
        (
            "hiveway.route.api.path",
            "a route's labels are written `hiveway.routes.<name>.<setting>`",
        ),
        ("hiveway.routes.api", "a route's labels are written `hiveway.routes.<name>.<setting>`"),
        ("hiveway.attempts", "did you mean `hiveway.retry.attempts`?"),
        ("hiveway.headers.x-a", "did you mean `hiveway.header.x-a`?"),
        ("hiveway.header", "write `hiveway.header.<name>`"),
        (
            "hiveway.retry",
            "write `hiveway.retry.attempts` or `hiveway.retry.on` or `hiveway.retry.budget`",
        ),
        ("hiveway.middlewares", "see the table of labels in the README"),
    ] {
        assert_eq!(unknown(label), (Severity::Warning, help.to_owned()), "{label}");
    }
}

#[test]
fn a_misspelt_guard_closes_the_route_and_no_other() {
    check("
        hiveway.port=80
        hiveway.routes.api.path=/api
        hiveway.routes.api.alow=10.0.0.0/8
        hiveway.routes.api.allow=10.0.0.0/8
        hiveway.routes.open.path=/open
    ", "
        open: * | /open
        error: service `shop_web`: label `hiveway.routes.api.alow=10.0.0.0/8` is not a label that this version knows, but may be meant to keep somebody out; the route stays closed
          help: write `hiveway.routes.api.allow`, or remove it
    ");
    assert_eq!(read("hiveway.routes.api.alow=10.0.0.0/8").closed, ["api"]);
    for label in ["hiveway.Allow-", "hiveway.basicauth", "hiveway.basic_auth", "hiveway.clientauth"]
    {
        let parsed = read(&format!("{label}=x"));
        assert_eq!(parsed.closed, [DEFAULT_ROUTE], "{label}");
    }
}

#[test]
fn what_does_nothing_yet_says_so_and_what_would_be_unsafe_closes_the_route() {
    check("hiveway.health.interval=often", "
        default: rejected
        error: service `shop_web`: label `hiveway.health.interval=often` is not a duration
          help: write a whole number with its unit: `ms`, `s`, `m`, `h` or `d`, for example `hiveway.health.interval=10s`
    ");
    for closed in [
        "hiveway.basic-auth=users",
        "hiveway.client-auth=requird",
        "hiveway.upstream-tls.verify=maybe",
        "hiveway.protocol=tcp",
        "hiveway.protocol=tls-passthrough",
    ] {
        let parsed = read(closed);
        assert_eq!(parsed.closed, ["default"], "{closed}: the last good form must not be kept");
        assert_eq!(parsed.rejected, [""; 0], "{closed}");
        assert_eq!(parsed.diagnostics.len(), 1, "{closed}");
    }
    let parsed = read("hiveway.tls=acme");
    assert_eq!((parsed.routes.len(), parsed.diagnostics.len()), (1, 1));
}

#[test]
fn a_route_is_closed_by_what_it_inherits_unless_it_overrides_it() {
    let parsed = read(
        "
        hiveway.host=a.test
        hiveway.port=http
        hiveway.client-auth=requird
        hiveway.routes.open.port=80
        hiveway.routes.open.client-auth=optional
        hiveway.routes.wrong.client-auth=optional
        hiveway.routes.shut.port=80
    ",
    );
    let open: Vec<&str> = parsed.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(open, ["open"]);
    assert_eq!(parsed.rejected, ["wrong"]);
    assert_eq!(parsed.closed, ["default", "shut"]);
    assert_eq!(read("hiveway.basic-auth=no name").closed, ["default"]);
}

#[test]
fn a_replica_with_tls_must_be_the_first_host_of_its_route_unless_another_name_is_given() {
    let expected = |labels: &str| {
        let parsed = read(&format!("hiveway.protocol=https\n{labels}"));
        let name =
            |route: &RouteSpec| route.target.tls.server_name.as_ref().map(ToString::to_string);
        let severity = parsed.diagnostics.first().map(|diagnostic| diagnostic.severity);
        (parsed.routes.first().and_then(name), parsed.closed.len(), severity)
    };
    let named = |name: &str| (Some(name.to_owned()), 0, None);
    assert_eq!(expected("hiveway.host=*.a.test,b.test,c.test"), named("b.test"));
    assert_eq!(
        expected("hiveway.host=a.test\nhiveway.upstream-tls.server-name=B.test"),
        named("b.test")
    );
    assert_eq!(expected("hiveway.path=/"), (None, 1, Some(Severity::Error)));
    assert_eq!(expected("hiveway.host=*.a.test"), (None, 1, Some(Severity::Error)));
    assert_eq!(expected("hiveway.upstream-tls.verify=false"), (None, 0, None));
    check("hiveway.host=a.test\nhiveway.upstream-tls.ca=root", "
        default: a.test | /
        warning: service `shop_web`: has `hiveway.upstream-tls.*` for route `default`, which speaks `http`: they do nothing
          help: write `hiveway.protocol=https` or `grpcs`, or remove them
    ");
}

#[test]
fn grpc_has_no_total_timeout_and_may_be_silent_for_long() {
    let parsed = read("hiveway.protocol=grpc\nhiveway.timeout.stream-idle=2h");
    let route = parsed.routes.first().unwrap();
    assert_eq!(route.target.protocol, Protocol::Grpc);
    assert_eq!(route.policy.timeouts.response_header, None);
    assert_eq!(route.policy.timeouts.stream_idle, Duration::from_hours(2));
    assert_eq!(parsed.diagnostics, []);
    let parsed = read("hiveway.protocol=grpcs\nhiveway.host=a.test");
    let timeouts = &parsed.routes.first().unwrap().policy.timeouts;
    assert_eq!(timeouts.stream_idle, Duration::from_hours(1));
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    for label in [
        "host=https://a.test",
        "host=",
        "host=a.test,,b.test",
        "path=api",
        "path=/a?b=1",
        "path=/a/*",
        "path=/a;b",
        "path-exact=/a;b",
        "path=/..",
        "path-regex=(",
        "path-regex=(a{1000}){1000}",
        "path-regex=",
        "method=G T",
        "header.a b=1",
        "header.x=ü\u{7f}",
        "port=0",
        "port=65536",
        "priority=high",
        "listener=a b",
        "weight=1001",
        "allow=nowhere",
        "strip-prefix=yes",
        "https-redirect=1",
        "balance=random",
        "balance=hash:header:",
        "retry.attempts=6",
        "retry.on=500",
        "retry.budget=101",
        "timeout.connect=0s",
        "timeout.connect=none",
        "timeout.response-header=10",
        "timeout.stream-idle=0s",
        "keepalive.requests=0",
        "limit.body=1.5MB",
        "limit.queue=none",
        "eject.consecutive=0",
        "sticky=a;b",
        "health.status=399-200",
        "health.path=up",
        "tls=yes",
        "enable=no",
        "routes.a.enable=false",
        "routes.a b.port=80",
        "protocol=htp",
    ] {
        let parsed = read(&format!("hiveway.{label}"));
        let errors = parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        assert_eq!(errors.count(), 1, "{label}: {}", summary(&parsed));
    }
}

#[test]
fn a_check_is_asked_for_by_a_path_and_comes_by_itself_with_grpc() {
    let check_of = |labels: &str| only(labels).policy.check;
    assert_eq!(check_of("hiveway.port=80"), Check::default());
    let check = check_of(
        "hiveway.health.path=/up?full=1
         hiveway.health.interval=1s
         hiveway.health.status=200, 418-420
         hiveway.health.host=shop.internal
         hiveway.health.port=9000",
    );
    assert_eq!(check.question, Question::Path("/up?full=1".parse().unwrap()));
    assert_eq!((check.interval, check.fall), (Duration::from_secs(1), 3));
    assert_eq!(check.statuses, [200..=200, 418..=420]);
    assert_eq!((check.host, check.port), ("shop.internal".parse().ok(), Some(9000)));
    let question = |more: &str| check_of(&format!("hiveway.protocol=grpc\n{more}")).question;
    assert_eq!(question("hiveway.port=80"), Question::Grpc);
    assert_eq!(question("hiveway.health.grpc-service=shop.Shop"), Question::Grpc);
    assert_eq!(question("hiveway.health.path=/up"), Question::Path("/up".parse().unwrap()));
    assert_eq!(question("hiveway.health.path=none"), Question::None);
    assert_eq!(question("hiveway.health.path=tcp"), Question::Connect);
}

#[test]
fn control_characters_are_refused_and_never_printed() {
    let labels =
        BTreeMap::from([("hiveway.header.x".to_owned(), "a\nerror: forged\u{1b}".to_owned())]);
    let parsed = parse("shop", &labels);
    assert_eq!(parsed.rejected, ["default"]);
    assert_eq!(
        parsed.diagnostics.first().unwrap().value.as_deref(),
        Some("a\\nerror: forged\\u{1b}")
    );
}

#[test]
fn the_same_label_in_other_capitals_is_refused() {
    check(
        "hiveway.Port=80\nhiveway.port=81",
        "
        default: rejected
        error: service `shop_web`: label `hiveway.port=81` is written twice, in different capitals
          help: remove one of the two
    ",
    );
}

#[test]
fn sizes_are_bounded() {
    let long = format!("hiveway.host=a.test\nhiveway.header.x={}", "a".repeat(MAX_BYTES));
    let parsed = read(&long);
    assert_eq!((parsed.routes.len(), parsed.rejected), (0, vec!["default".to_owned()]));

    let route = |number| format!("hiveway.routes.r{number:03}.path=/{number}");
    let many: Vec<String> = (0..=MAX_ROUTES).map(route).collect();
    let parsed = read(&many.join("\n"));
    assert_eq!((parsed.routes.len(), parsed.rejected), (64, vec!["r064".to_owned()]));
    assert_eq!(parsed.diagnostics.len(), 1);
}
