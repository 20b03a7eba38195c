use std::fmt::Write;

use super::*;
use crate::docker::model::decode_list;

/// What an engine 20.10 answered while a global service was updated stop-first on its first node.
fn recorded() -> Listing {
    let services = include_bytes!("../../../tests/data/docker/services.json");
    let tasks = include_bytes!("../../../tests/data/docker/tasks.json");
    Listing::read(services, tasks).unwrap()
}

/// A service as text: name, stack, labels, networks, ports, tasks wanted.
fn describe(service: &SwarmService) -> String {
    let mut text = format!("{} of {}", service.name, service.stack.as_deref().unwrap_or("-"));
    for (name, value) in &service.labels {
        write!(text, " {name}={value}").unwrap();
    }
    for (name, value) in &service.container_labels {
        write!(text, " container:{name}={value}").unwrap();
    }
    for Network { name, subnet, .. } in &service.networks {
        let subnet = subnet.map_or("?".to_owned(), |subnet| subnet.to_string());
        write!(text, " on {name}={subnet}").unwrap();
    }
    for PublishedPort { target, published, mesh } in &service.ports {
        let how = if *mesh { "mesh" } else { "host" };
        write!(text, " {how}:{}->{target}", published.unwrap_or(0)).unwrap();
    }
    let Replicas::Tasks { desired, .. } = &service.replicas else { panic!("no tasks") };
    write!(text, " wants {desired}").unwrap();
    text
}

fn describe_tasks(service: &SwarmService) -> Vec<String> {
    let Replicas::Tasks { tasks, .. } = &service.replicas else { panic!("no tasks") };
    let describe = |task: &SwarmTask| {
        let addresses: Vec<_> = task.addresses.values().map(ToString::to_string).collect();
        let state = if task.running { "running" } else { "not running" };
        format!("{} {} {state} {}", &task.id[..4], task.slot, addresses.join(" "))
    };
    tasks.iter().map(describe).collect()
}

#[test]
fn recorded_answers_become_an_inventory_in_the_order_of_names() {
    let inventory = inventory(&recorded());
    let found: Vec<String> = inventory.services.iter().map(describe).collect();
    assert_eq!(
        found,
        [
            "hostnet of - hiveway.port=7 wants 1",
            "idle of - hiveway.port=7 on web=10.0.1.0/24 wants 0",
            "lone of - hiveway.port=7 wants 1",
            "shop_agent of shop hiveway.port=81 on web=10.0.1.0/24 wants 2",
            "shop_nowhere of shop hiveway.port=82 on web=10.0.1.0/24 wants 1",
            "shop_web of shop Hiveway.Host=shop.example.com hiveway.port=80 \
             container:hiveway.port=9999 on shop_back=10.0.2.0/24 on web=10.0.1.0/24 \
             mesh:8080->80 host:9000->9000 wants 2",
        ]
    );
}

#[test]
fn a_task_that_stops_or_starts_is_listed_and_one_that_has_ended_is_not() {
    let inventory = inventory(&recorded());
    let agent = inventory.services.iter().find(|service| service.name == "shop_agent").unwrap();
    assert_eq!(
        describe_tasks(agent),
        [
            "29xx 7og56i8m2hsczwr8lhokniphd running 10.0.1.12",
            "ilv8 0jzakz2w92wr90thdmqz74ksp not running 10.0.1.13",
            "z7e0 0jzakz2w92wr90thdmqz74ksp not running 10.0.1.14",
        ]
    );
}

#[test]
fn a_replicated_task_has_its_slot_and_an_address_on_each_overlay() {
    let inventory = inventory(&recorded());
    let web = inventory.services.iter().find(|service| service.name == "shop_web").unwrap();
    assert_eq!(
        describe_tasks(web),
        ["nbs2 1 running 10.0.2.3 10.0.1.3", "pte8 2 running 10.0.2.4 10.0.1.4"]
    );
}

#[test]
fn the_order_of_the_answers_makes_no_difference() {
    let mut shuffled = recorded();
    shuffled.services.reverse();
    shuffled.tasks.reverse();
    assert_eq!(inventory(&shuffled), inventory(&recorded()));
}

#[test]
fn the_own_task_is_found_by_the_containers_host_name() {
    let names = |hostname: &str| {
        let networks = own_networks(&recorded(), hostname)?;
        Some(networks.into_iter().map(|network| network.name).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names("491da45b4294").as_deref(), Some("shop_back web"));
    assert_eq!(names("4bfefb8b9abd").as_deref(), Some(""));
    assert_eq!(names("76d97fe0c681").as_deref(), Some(""));
    assert_eq!(names("cafecafecafe"), None);
    assert_eq!(names("4"), None);
    assert_eq!(names(""), None);
}

#[test]
fn networks_of_the_old_form_and_those_that_no_task_tells_are_kept() {
    let json = r#"[{"ID": "s", "Spec": {"Name": "old", "Labels": {"hiveway.port": "1"},
        "Networks": [{"Target": "n1"}], "EndpointSpec": {"Ports": [
            {"Protocol": "udp", "TargetPort": 53}, {"TargetPort": 80}]}}}]"#;
    let (services, _) = decode_list(json.as_bytes(), |_| true).unwrap();
    let inventory = inventory(&Listing { services, ..Listing::default() });
    assert_eq!(
        inventory.services.iter().map(describe).collect::<Vec<_>>(),
        ["old of - hiveway.port=1 on =? mesh:0->80 wants 0"]
    );
}

#[test]
fn a_global_service_whose_nodes_are_all_taken_for_lost_is_not_scaled_to_zero() {
    let mode = |mode: &str| {
        let labels = r#""Labels": {"hiveway.port": "80"}"#;
        let spec = format!(r#"{{"Name": "web", {labels}, "Mode": {{"{mode}": {{}}}}}}"#);
        format!(r#"{{"ID": "{mode}", "Spec": {spec}}}"#)
    };
    let services = format!("[{}, {}]", mode("Global"), mode("GlobalJob"));
    let task = |of: &str| {
        let state = r#""DesiredState": "shutdown", "Status": {"State": "running"}"#;
        format!(r#"{{"ID": "of-{of}", "ServiceID": "{of}", {state}}}"#)
    };
    let tasks = format!("[{}, {}]", task("Global"), task("GlobalJob"));
    let inventory = inventory(&Listing::read(services.as_bytes(), tasks.as_bytes()).unwrap());
    let found = inventory.services.iter().map(|service| match &service.replicas {
        Replicas::Tasks { desired, tasks } => (&*service.id, *desired, tasks.len()),
        Replicas::Fixed(_) => panic!("no tasks"),
    });
    assert_eq!(found.collect::<Vec<_>>(), [("Global", 1, 1), ("GlobalJob", 0, 1)]);
}

#[test]
fn text_order_of_times_is_age_order() {
    assert_eq!(with_nine_digits("2026-11-21T03:43:24.5Z"), "2026-11-21T03:43:24.500000000Z");
    assert_eq!(with_nine_digits("2026-11-21T03:43:24Z"), "2026-11-21T03:43:24.000000000Z");
    assert_eq!(with_nine_digits("2026-11-21T03:43:24+01:00"), "2026-11-21T03:43:24+01:00");
    assert_eq!(with_nine_digits(""), "");
}
