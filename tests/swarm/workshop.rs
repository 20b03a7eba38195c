//! What a team does with its services in a week, end to end.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::client::{SOON, get, service, wait_replicas, wait_status};
use crate::docker::{Deployed, Service, Stack, docker};
use crate::lab::{deploy, diagnostics, require_edge, wait_for};

/// Waits until a GET of that path is answered by a replica of that service.
fn wait_served(host: &str, path: &str, by: &str) {
    wait_for(&format!("{by} to answer {host}{path}"), SOON, || {
        (service(host, path)? == by).then_some(())
    });
}

fn wait_diagnostic(of: &str, problem: &str) {
    wait_for(&format!("a diagnostic on {of} that says `{problem}`"), SOON, || {
        let found = diagnostics();
        found.iter().any(|(service, text)| service == of && text.contains(problem)).then_some(())
    });
}

#[test]
fn a_service_is_served_by_exactly_the_replicas_that_it_has() {
    require_edge();
    let shop = Service::new("scaled").label("hiveway.host=scaled.test").replicas(2).create();
    let two = wait_replicas("scaled.test", 2);
    shop.scale(3);
    let three = wait_replicas("scaled.test", 3);
    assert!(two.is_subset(&three), "{two:?} stay when a third joins: {three:?}");
    shop.scale(2);
    wait_replicas("scaled.test", 2);
    shop.scale(1);
    wait_replicas("scaled.test", 1);
    shop.remove();
    wait_status("scaled.test", "/", 404);
}

#[test]
fn a_service_scaled_to_zero_answers_503_at_once_and_never_404() {
    require_edge();
    let shop = Service::new("zero").label("hiveway.host=zero.test").create();
    wait_replicas("zero.test", 1);
    shop.scale(0);
    let mut seen = BTreeSet::new();
    wait_for("503", SOON, || {
        let status = get("zero.test", "/").expect("an answer, whatever it is").status;
        seen.insert(status);
        (status == 503).then_some(())
    });
    // They are less than `timeout.queue`: a service that wants no task does not wait for one.
    for _ in 0..50 {
        let answer = get("zero.test", "/").expect("an answer within five seconds");
        assert_eq!(answer.status, 503);
        assert!(answer.field("retry-after").is_some(), "{answer:?}");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!seen.contains(&404), "{seen:?}");
    shop.scale(1);
    wait_replicas("zero.test", 1);
}

#[test]
fn a_global_service_is_served_by_a_replica_on_each_node() {
    require_edge();
    let _shop = Service::new("everywhere").label("hiveway.host=global.test").global().create();
    let nodes = docker(&["node", "ls", "--quiet"]).lines().count();
    wait_replicas("global.test", nodes);
}

#[test]
fn two_services_are_told_apart_by_host() {
    require_edge();
    let _one = Service::new("host-one").label("hiveway.host=one.test").create();
    let _two = Service::new("host-two").label("hiveway.host=two.test,*.two.test").create();
    wait_served("one.test", "/", "host-one");
    wait_served("two.test", "/", "host-two");
    wait_served("a.two.test", "/", "host-two");
    assert_eq!(get("three.test", "/").unwrap().status, 404);
}

#[test]
fn two_services_share_a_host_by_path_and_whole_segments_count() {
    require_edge();
    let _page = Service::new("path-page").label("hiveway.host=path.test").create();
    let api = Service::new("path-api").label("hiveway.host=path.test").label("hiveway.path=/api");
    let _api = api.create();
    wait_served("path.test", "/api/x", "path-api");
    wait_served("path.test", "/api", "path-api");
    wait_served("path.test", "/", "path-page");
    wait_served("path.test", "/apix", "path-page");
}

#[test]
fn priority_decides_between_services_with_the_same_host() {
    require_edge();
    let page = Service::new("prio-page").label("hiveway.host=prio.test");
    let _page = page.label("hiveway.priority=10").create();
    let api = Service::new("prio-api").label("hiveway.host=prio.test").label("hiveway.path=/api");
    let api = api.create();
    wait_served("prio.test", "/api", "prio-page");
    api.label("hiveway.priority=20");
    wait_served("prio.test", "/api", "prio-api");
    wait_served("prio.test", "/", "prio-page");
}

#[test]
fn the_example_application_is_deployed_and_removed_as_a_whole() {
    require_edge();
    let stack = Stack("app");
    deploy("app", "examples/app/app-stack.yml");
    wait_replicas("web.localhost", 2);
    wait_for("the page", SOON, || {
        let page = get("app.localhost", "/").ok()?;
        String::from_utf8_lossy(&page.body).contains("<h1>It works</h1>").then_some(())
    });
    wait_for("a visit counted by the database", SOON, || {
        let answer = get("app.localhost", "/api/visits").ok()?;
        String::from_utf8_lossy(&answer.body).contains("\"visits\"").then_some(())
    });
    drop(stack);
    for (host, path) in [("web.localhost", "/"), ("app.localhost", "/"), ("app.localhost", "/api")]
    {
        wait_status(host, path, 404);
    }
}

#[test]
fn wrong_labels_on_one_of_ten_services_cost_the_others_nothing() {
    require_edge();
    let host = |number: u32| format!("ten{number}.test");
    let ten: Vec<Deployed> = (0..10)
        .map(|number| {
            let service = Service::new(&format!("ten{number}"));
            service.label(&format!("hiveway.host={}", host(number))).create()
        })
        .collect();
    (0..10).for_each(|number| wait_served(&host(number), "/", &format!("ten{number}")));

    let wrong = ten.first().unwrap();
    wrong.label("hiveway.port=http");
    wrong.label("hiveway.pathh=/x");
    wait_diagnostic("ten0", "port");
    for number in 1..10 {
        for _ in 0..10 {
            assert_eq!(service(&host(number), "/"), Some(format!("ten{number}")));
        }
    }
    // The last good form of the route that is wrong now serves on.
    assert_eq!(service(&host(0), "/"), Some("ten0".to_owned()));
}

#[test]
fn a_service_on_no_shared_network_is_named_in_a_diagnostic() {
    require_edge();
    let _alone = Service::new("alone").label("hiveway.host=alone.test").off_the_network().create();
    wait_diagnostic("alone", "network");
}
