use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::lines::Lines;
use super::message::{Beat, Change, Hello, Message, Standing, Whole, You};
use super::order::{INSISTENCE, Order, RaftTime};
use super::*;
use crate::timestamp::Timestamp;

fn service(id: u8, label: u8) -> SwarmService {
    SwarmService {
        id: format!("s{id}"),
        name: format!("shop_{}", 9 - id),
        labels: [("hiveway.port".to_owned(), label.to_string())].into(),
        ..SwarmService::default()
    }
}

fn inventories() -> impl Strategy<Value = Inventory> {
    prop::collection::btree_map(0_u8..9, any::<u8>(), 0..9).prop_map(|services| {
        let mut services: Vec<_> =
            services.iter().map(|(id, label)| service(*id, *label)).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Inventory { services }
    })
}

fn edition(inventory: &Inventory) -> Edition {
    Edition::of_inventory(inventory, None).unwrap()
}

/// A message as the other side reads it.
fn passed(message: &Message) -> Message {
    let mut lines = Lines::default();
    lines.push(&message.write().unwrap());
    lines.push(b"\n");
    let line = lines.next_line().unwrap().unwrap();
    Message::read(&line).unwrap().unwrap()
}

proptest! {
    #[test]
    fn what_has_changed_leads_from_any_edition_to_any_other(
        old in inventories(),
        new in inventories(),
    ) {
        let (old, next) = (edition(&old), edition(&new));
        let change = Change { from: old.version().clone(), changes: old.changes(&next) };
        let Message::Change(told) = passed(&Message::Change(change)) else { panic!() };
        prop_assert_eq!(&told.from, old.version());
        let reached = old.with(&told.changes);
        prop_assert_eq!(reached.version(), next.version());
        prop_assert_eq!(reached.inventory(), (new, 0));
    }

    #[test]
    fn a_whole_edition_arrives_as_it_is_and_its_version_is_that_of_its_content(
        one in inventories(),
        other in inventories(),
    ) {
        let edition = edition(&one);
        let whole = Message::Whole(Whole { services: edition.services().clone() });
        let Message::Whole(told) = passed(&whole) else { panic!() };
        let told = Edition::of(told.services);
        prop_assert_eq!(&told, &edition);
        prop_assert_eq!(told.inventory(), (one.clone(), 0));
        let next = Edition::of_inventory(&other, Some(&edition)).unwrap();
        prop_assert_eq!(next.version() == edition.version(), one == other);
        prop_assert_eq!(edition.changes(&next) == Changes::default(), one == other);
    }

    /// However two agents' words come, time never goes back, but for one that insists.
    #[test]
    fn time_goes_back_only_for_one_that_insists(
        words in prop::collection::vec((0_u8..2, 0_u64..9, 0_u64..12, any::<bool>()), 1..60),
    ) {
        let (mut order, mut believed, mut now) = (Order::default(), None, Timestamp::START);
        // Since when each agent has said nothing but what is older.
        let mut since = [None; 2];
        for (agent, raft, pause, well) in words {
            now = now + Duration::from_secs(pause);
            let trouble = (!well).then(|| "silent".to_owned());
            let standing = Standing { cluster: "c".to_owned(), raft, trouble, ..Standing::default() };
            let taken = order.believes(address(agent), &standing, false, now);
            let is_older = believed.is_some_and(|believed| raft < believed);
            let begin = &mut since[usize::from(agent)];
            if !is_older {
                prop_assert!(taken);
            } else if well {
                let begin = *begin.get_or_insert(now);
                prop_assert_eq!(taken, now.since(begin) > INSISTENCE);
            } else {
                prop_assert!(!taken);
                *begin = None;
            }
            if taken {
                believed = Some(raft);
                since = [None; 2];
            }
        }
    }
}

fn address(agent: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 9, agent), 9401).into()
}

fn standing(cluster: &str, raft: u64) -> Standing {
    Standing { cluster: cluster.to_owned(), raft, ..Standing::default() }
}

#[test]
fn another_swarm_is_believed_at_once_and_an_unknown_one_is_taken_for_the_same() {
    let mut order = Order::default();
    let now = Timestamp::START;
    assert!(order.believes(address(1), &standing("", 90), false, now));
    assert!(!order.believes(address(1), &standing("a", 80), false, now));
    assert!(order.believes(address(1), &standing("a", 100), false, now));
    assert!(!order.believes(address(1), &standing("", 99), false, now));
    assert!(order.believes(address(1), &standing("b", 5), false, now));
    assert!(order.believes(address(1), &standing("b", 6), false, now));
    assert!(!order.believes(address(1), &standing("b", 5), false, now));
}

#[test]
fn an_equal_state_is_never_too_old_and_does_not_make_older_ones_good() {
    let mut order = Order::default();
    let now = Timestamp::START;
    assert!(order.believes(address(1), &standing("a", 100), false, now));
    assert!(order.believes(address(2), &standing("a", 90), true, now));
    assert!(!order.believes(address(2), &standing("a", 95), false, now));
}

#[test]
fn who_is_behind_what_an_earlier_process_knew_is_not_believed() {
    let told = RaftTime { cluster: "a".to_owned(), index: 100 };
    let now = Timestamp::START;
    for (cluster, index, expected) in [("a", 99, false), ("a", 100, true), ("b", 5, true)] {
        let mut order = Order::after(Some(told.clone()));
        assert_eq!(order.believes(address(1), &standing(cluster, index), false, now), expected);
    }
}

#[test]
fn lists_that_are_not_made_anew_are_no_insistence() {
    let mut order = Order::default();
    let mut now = Timestamp::START + Duration::from_secs(100);
    assert!(order.believes(address(1), &standing("a", 100), false, now));
    for age_ms in (0..90_000).step_by(600) {
        let standing = Standing { age_ms, ..standing("a", 90) };
        assert!(!order.believes(address(2), &standing, false, now), "{age_ms}");
        now = now + Duration::from_millis(600);
    }
}

#[test]
fn the_time_of_an_agent_falls_only_with_another_swarm() {
    let mut time = RaftTime::default();
    for (cluster, index, expected) in
        [("", 5, 5), ("a", 3, 5), ("a", 9, 9), ("", 4, 9), ("a", 8, 9), ("b", 2, 2), ("b", 1, 2)]
    {
        time.advance(cluster, index);
        assert_eq!(time.index, expected, "{cluster} {index}");
    }
}

#[test]
fn what_a_newer_agent_adds_is_passed_over_and_yet_counts() {
    let mut newer = edition(&Inventory { services: vec![service(1, 80)] }).services().clone();
    let written = newer["s1"].text().replace("\"name\"", "\"colour\":[\"red\"],\"name\"");
    newer.insert("s1".to_owned(), serde_json::from_str(&written).unwrap());
    let odd = r#"{"id":"s2","replicas":{"Levitating":[]}}"#;
    newer.insert("s2".to_owned(), serde_json::from_str(odd).unwrap());
    let whole = Message::Whole(Whole { services: newer.clone() });
    let Message::Whole(told) = passed(&whole) else { panic!() };
    let told = Edition::of(told.services);
    assert_eq!(told.version(), Edition::of(newer).version());
    assert_eq!(told.inventory(), (Inventory { services: vec![service(1, 80)] }, 1));
}

#[test]
fn unknown_fields_and_kinds_are_passed_over_and_missing_ones_have_defaults() {
    for (line, expected) in [
        (r#"{"kind":"song","text":[{}]}"#, None),
        (r#"{"kind":"hello","mood":{"x":1}}"#, Some(Message::Hello(Hello::default()))),
        (r#"{"near":[],"kind":"you"}"#, Some(Message::You(You::default()))),
        (r#"{"kind":"beat"}"#, Some(Message::Beat(Beat::default()))),
        (
            r#"{"kind":"beat","standing":{"raft":7,"tides":3}}"#,
            Some(Message::Beat(Beat { standing: Standing { raft: 7, ..Standing::default() } })),
        ),
    ] {
        assert_eq!(Message::read(line.as_bytes()).unwrap(), expected, "{line}");
    }
    for line in ["", "{}", "[]", "{\"kind\":7}", "{\"kind\":\"whole\"}", "{\"kind\":\"beat\""] {
        assert!(Message::read(line.as_bytes()).is_err(), "{line}");
    }
}

/// A changed form needs another [`PROTOCOL`], or agents and edges misread each other.
#[test]
fn the_form_of_this_protocol_stays_as_it_is() {
    assert_eq!(PROTOCOL, 1);
    let edition = edition(&Inventory { services: vec![SwarmService::default()] });
    let standing = Standing { version: Some(Version::named("v")), raft: 3, ..Standing::default() };
    let messages = [
        Message::Hello(Hello { hiveway: "0.1.0".to_owned() }),
        Message::You(You { networks: Some(vec![]), near: vec![Ipv4Addr::LOCALHOST] }),
        Message::Whole(Whole { services: edition.services().clone() }),
        Message::Change(Change { from: Version::named("u"), changes: Changes::default() }),
        Message::Beat(Beat { standing }),
    ];
    let written: Vec<_> =
        messages.iter().map(|it| String::from_utf8(it.write().unwrap()).unwrap()).collect();
    assert_eq!(
        written,
        [
            r#"{"kind":"hello","hiveway":"0.1.0"}"#,
            r#"{"kind":"you","networks":[],"near":["127.0.0.1"]}"#,
            r#"{"kind":"whole","services":{"":{"id":"","name":"","stack":null,"created_at":"","labels":{},"container_labels":{},"networks":[],"ports":[],"replicas":{"Tasks":{"desired":0,"tasks":[]}}}}}"#,
            r#"{"kind":"change","from":"u","changes":{"changed":{},"removed":[]}}"#,
            r#"{"kind":"beat","standing":{"version":"v","cluster":"","raft":3,"age_ms":0,"trouble":null}}"#,
        ]
    );
    assert_eq!(edition.version().as_str().len(), 32);
}
