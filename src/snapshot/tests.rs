use http::{HeaderMap, Method};

use super::*;
use crate::inventory::{PublishedPort, Replicas};

/// The network that edge and services share.
fn network(name: &str) -> Network {
    Network { id: format!("id-{name}"), name: name.to_owned(), subnet: "10.0.0.0/24".parse().ok() }
}

fn edge() -> Edge {
    let listener = |name: &str, default, port| EdgeListener {
        name: name.to_owned(),
        default,
        address: ([127, 0, 0, 1], port).into(),
    };
    Edge {
        listeners: vec![listener("web", true, 80), listener("intern", false, 81)],
        networks: vec![network("hiveway")],
        cores: 1,
        ..Edge::default()
    }
}

/// `name: label=value label=value`, one service a line, the oldest first. The part of the name
/// before `_` is the stack's.
fn inventory(text: &str) -> Inventory {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let services = lines.enumerate().map(|(age, line)| {
        let (name, labels) = line.split_once(':').unwrap();
        let labels = labels.split_whitespace().map(|label| {
            let (label, value) = label.split_once('=').unwrap();
            (format!("hiveway.{label}"), value.to_owned())
        });
        SwarmService {
            id: format!("id-{name}"),
            name: name.to_owned(),
            stack: name.split_once('_').map(|(stack, _)| stack.to_owned()),
            created_at: format!("{age:04}"),
            labels: labels.collect(),
            networks: vec![network("hiveway")],
            replicas: Replicas::Tasks { desired: 1, tasks: Vec::new() },
            ..SwarmService::default()
        }
    });
    Inventory { services: services.collect() }
}

fn compile(text: &str) -> Snapshot {
    Snapshot::compile(&inventory(text), &edge(), &Snapshot::default())
}

/// Where `host/path` goes on a listener, for a draw of `drawn` among the sides that share it.
fn drawn(snapshot: &Snapshot, listener: usize, url: &str, drawn: u64) -> String {
    let (host, path) = url.split_at(url.find('/').unwrap());
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host, path, query: None, method: &method, headers: &headers };
    let found = snapshot.find(listener, &head);
    found
        .and_then(|found| found.value.choose(|_| false, |total| drawn.min(total - 1)))
        .map_or_else(|| "-".to_owned(), |route| route.name.clone())
}

fn check(snapshot: &Snapshot, url: &str, route: &str) {
    assert_eq!(drawn(snapshot, 0, url, 0), route, "{url}");
}

/// All diagnostics, one line each, without their remedies.
fn complaints(snapshot: &Snapshot) -> Vec<String> {
    let line = |diagnostic: &Diagnostic| diagnostic.to_string().lines().next().unwrap().to_owned();
    snapshot.diagnostics.iter().map(line).collect()
}

#[test]
fn a_service_is_found_by_what_its_labels_say() {
    let snapshot = compile(
        "
        shop_web: port=80 host=shop.test
        shop_api: port=80 host=shop.test path=/api
        ",
    );
    check(&snapshot, "shop.test/", "shop_web/default");
    check(&snapshot, "shop.test/api/x", "shop_api/default");
    check(&snapshot, "other.test/", "-");
    assert_eq!(complaints(&snapshot), [""; 0]);
}

#[test]
fn a_route_is_offered_where_it_says_and_by_default_where_the_listener_says() {
    let snapshot = compile(
        "
        a_web: port=80 host=a.test
        a_adm: port=80 host=a.test path=/adm listener=intern,wbe
        ",
    );
    assert_eq!(drawn(&snapshot, 0, "a.test/adm", 0), "a_web/default");
    assert_eq!(drawn(&snapshot, 1, "a.test/adm", 0), "a_adm/default");
    assert_eq!(drawn(&snapshot, 1, "a.test/", 0), "-");
    assert_eq!(
        complaints(&snapshot),
        [
            "warning: service `a_adm`: label `hiveway.listener=intern,wbe` names the listener `wbe`, \
          which this edge does not have"
        ]
    );
}

#[test]
fn only_edges_of_its_instance_take_a_service() {
    let services = inventory("a_web: port=80 host=a.test instance=public");
    let with = |instance: Option<&str>| {
        let edge = Edge { instance: instance.map(str::to_owned), ..edge() };
        Snapshot::compile(&services, &edge, &Snapshot::default())
    };
    check(&with(Some("public")), "a.test/", "a_web/default");
    check(&with(Some("internal")), "a.test/", "-");
    check(&with(None), "a.test/", "-");
}

#[test]
fn the_older_of_two_services_keeps_what_both_ask_for() {
    let snapshot = compile(
        "
        a_web: port=80 host=a.test
        b_web: port=80 host=a.test,b.test
        ",
    );
    check(&snapshot, "a.test/", "a_web/default");
    check(&snapshot, "b.test/", "b_web/default");
    assert_eq!(snapshot.complaints("b_web", Severity::Error), 1);
    assert_eq!(snapshot.complaints("a_web", Severity::Error), 0);
    // That two stacks name one host is a doubt on both.
    assert_eq!(snapshot.complaints("a_web", Severity::Warning), 1);
    assert_eq!(snapshot.complaints("b_web", Severity::Warning), 1);
}

#[test]
fn services_of_one_stack_that_both_have_a_weight_share_the_traffic() {
    let snapshot = compile(
        "
        s_old: port=80 host=a.test weight=90
        s_new: port=80 host=a.test weight=10
        t_web: port=80 host=a.test weight=50
        ",
    );
    assert_eq!(drawn(&snapshot, 0, "a.test/", 89), "s_old/default");
    assert_eq!(drawn(&snapshot, 0, "a.test/", 90), "s_new/default");
    assert_eq!(snapshot.complaints("t_web", Severity::Error), 1);
}

#[test]
fn a_side_without_endpoints_yields_its_share() {
    let snapshot = compile(
        "
        s_old: port=80 host=a.test weight=90
        s_new: port=80 host=a.test weight=10
        ",
    );
    let new = snapshot.routes.iter().find(|route| route.name == "s_new/default").unwrap();
    let endpoint = Endpoint::new(([10, 0, 0, 1], 80).into(), "s_new.1", 1);
    let endpoint = Arc::new(endpoint);
    new.upstream.set_endpoints(vec![Arc::clone(&endpoint)]);
    assert_eq!(drawn(&snapshot, 0, "a.test/", 0), "s_old/default", "nobody accepts anywhere");
    endpoint.health.connected();
    for draw in [0, 5, 89] {
        assert_eq!(drawn(&snapshot, 0, "a.test/", draw), "s_new/default");
    }
    endpoint.health.refused();
    assert_eq!(drawn(&snapshot, 0, "a.test/", 0), "s_old/default");
}

#[test]
fn a_session_stays_on_its_side() {
    let snapshot = compile(
        "
        s_old: port=80 host=a.test weight=90
        s_new: port=80 host=a.test weight=10
        ",
    );
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host: "a.test", path: "/", query: None, method: &method, headers: &headers };
    let split = snapshot.find(0, &head).unwrap().value;
    for side in ["s_old/default", "s_new/default"] {
        let chosen = split.choose(|route| route.name == side, |_| 0).unwrap();
        assert_eq!(chosen.name, side);
    }
}

#[test]
fn hosts_can_be_kept_for_stacks() {
    let edge =
        Edge { hosts: vec![("*.shop.test".parse().unwrap(), vec!["shop".to_owned()])], ..edge() };
    let services = inventory(
        "
        evil_web: port=80 host=a.shop.test,evil.test
        shop_web: port=80 host=a.shop.test
        ",
    );
    let snapshot = Snapshot::compile(&services, &edge, &Snapshot::default());
    check(&snapshot, "a.shop.test/", "shop_web/default");
    check(&snapshot, "evil.test/", "evil_web/default");
    assert_eq!(snapshot.complaints("evil_web", Severity::Error), 1);
    assert_eq!(snapshot.complaints("shop_web", Severity::Error), 0);
}

#[test]
fn a_wrong_label_costs_its_own_route_only_and_the_last_good_form_is_kept() {
    let good = compile(
        "
        a_web: port=80 host=a.test routes.api.path=/api
        b_web: port=80 host=b.test
        ",
    );
    let services = inventory(
        "
        a_web: port=80 host=a.test routes.api.path=/new routes.api.timeout.connect=soon
        b_web: port=80 host=b.test
        c_web: port=http host=c.test
        ",
    );
    let snapshot = Snapshot::compile(&services, &edge(), &good);
    check(&snapshot, "a.test/", "a_web/default");
    check(&snapshot, "a.test/api", "a_web/api");
    check(&snapshot, "a.test/new", "a_web/default");
    check(&snapshot, "b.test/", "b_web/default");
    check(&snapshot, "c.test/", "-");
    assert_eq!(snapshot.complaints("a_web", Severity::Error), 1);
    assert_eq!(snapshot.complaints("c_web", Severity::Error), 1);
}

#[test]
fn a_network_that_is_not_there_costs_a_route_nothing_that_it_had() {
    let good = compile("a_web: port=80 host=a.test");
    let services = inventory("a_web: port=80 host=a.test network=lan");
    let snapshot = Snapshot::compile(&services, &edge(), &good);
    check(&snapshot, "a.test/", "a_web/default");
    assert_eq!(snapshot.complaints("a_web", Severity::Error), 1);
    // The good form is remembered, not the wrong one.
    let again = Snapshot::compile(&services, &edge(), &snapshot);
    check(&again, "a.test/", "a_web/default");
}

#[test]
fn routes_that_share_replicas_share_their_check_and_say_so_if_they_differ() {
    let paths = |text: &str| {
        let snapshot = compile(text);
        let questions = snapshot.checks.values().map(|check| match &check.question {
            Question::Path(path) => path.to_string(),
            Question::None | Question::Connect | Question::Grpc => "-".to_owned(),
        });
        (questions.collect::<Vec<_>>(), complaints(&snapshot))
    };
    let (checks, wrong) = paths("shop: port=80 health.path=/up routes.a.path=/a routes.b.path=/b");
    assert_eq!((checks, wrong), (vec!["/up".to_owned()], vec![]));
    let (checks, wrong) = paths(
        "shop: port=80 routes.a.path=/a routes.b.path=/b routes.b.health.path=/up
         other: port=80 routes.a.host=other.test routes.b.host=other.test routes.a.health.path=/one routes.b.health.path=/two routes.b.path=/b",
    );
    assert_eq!(checks, ["/one", "/up"]);
    assert_eq!(
        wrong,
        ["warning: service `other`: route `b` asks for another health check of the same \
             replicas than the routes before it; theirs is used"]
    );
    let (checks, wrong) = paths(
        "shop: port=80 routes.a.health.path=/up routes.b.path=/b routes.b.port=81 \
         routes.b.health.path=/ready",
    );
    assert_eq!((checks.len(), wrong), (2, vec![]), "these are other replicas");
}

#[test]
fn what_survives_a_change_keeps_its_upstream_and_its_counts() {
    let before = compile("a_web: port=80 host=a.test");
    let after = Snapshot::compile(
        &inventory("a_web: port=80 host=new.test routes.x.host=x.test"),
        &edge(),
        &before,
    );
    let route = |snapshot: &Snapshot, name: &str| {
        let mut routes = snapshot.routes.iter();
        Arc::clone(routes.find(|route| route.name == name).unwrap())
    };
    let (old, new) = (route(&before, "a_web/default"), route(&after, "a_web/default"));
    assert!(Arc::ptr_eq(&old.upstream, &new.upstream));
    assert!(Arc::ptr_eq(&old.counters, &new.counters));
    assert!(Arc::ptr_eq(&old.upstream, &route(&after, "a_web/x").upstream));
}

#[test]
fn a_service_on_no_shared_network_or_without_a_port_is_named_with_the_remedy() {
    let mut services = inventory(
        "
        a_web: port=80 host=a.test
        b_web: host=b.test
        c_web: host=c.test
        d_web: port=80 host=d.test
        e_web: port=80 host=e.test network=lan
        ",
    );
    services.services[0].networks = vec![network("private")];
    services.services[2].ports =
        vec![PublishedPort { target: 8080, published: Some(80), mesh: true }];
    services.services[3].networks.push(network("second"));
    let edge = Edge { networks: vec![network("hiveway"), network("second")], ..edge() };
    let snapshot = Snapshot::compile(&services, &edge, &Snapshot::default());
    check(&snapshot, "c.test/", "c_web/default");
    assert_eq!(
        complaints(&snapshot),
        [
            "warning: service `c_web`: publishes port 80 through the routing mesh, where it meets \
             the edge's own",
            "error: service `a_web`: shares no network with the edge, so its replicas cannot be \
             reached",
            "error: service `b_web`: does not say which port its containers listen on",
            "error: service `d_web`: shares several networks with the edge: `hiveway`, `second`",
            "error: service `e_web`: label `hiveway.network=lan` names a network that service and \
             edge do not share",
        ]
    );
}

#[test]
fn labels_on_containers_are_named() {
    let mut services = inventory("a_web:");
    services.services[0].container_labels = [("hiveway.port".to_owned(), "80".to_owned())].into();
    let snapshot = Snapshot::compile(&services, &edge(), &Snapshot::default());
    assert_eq!(
        complaints(&snapshot),
        [
            "warning: service `a_web`: label `hiveway.port=80` is set on the containers, where it does \
          nothing"
        ]
    );
}

#[test]
fn an_unchanged_inventory_gives_the_same_table() {
    let text = "
        a_web: port=80 host=a.test
        b_web: port=x
        ";
    let first = compile(text);
    let second = Snapshot::compile(&inventory(text), &edge(), &first);
    assert_eq!(first.diagnostics, second.diagnostics);
    assert!(first.upstreams.iter().zip(&second.upstreams).all(
        |((a, (one, from)), (b, (other, same)))| a == b && from == same && Arc::ptr_eq(one, other)
    ));
}
