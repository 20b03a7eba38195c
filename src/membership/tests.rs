use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// A machine of service `shop` on network `web`, played through a timeline. Addresses are written
/// by their last number: 2 is 10.0.0.2.
///
/// ```text
/// 0s dns 2 3                    DNS names them; `dns` alone: it says nothing
/// 0s tasks 1a=2 2b=3! 3c=4?     slot 1, task a, running; slot 2, task b, not running; slot 3, task c, ending
/// 0s none-desired 1a=2!         the same while the service wants no tasks
/// 0s confirmed                  the list was made again and has not changed
/// 0s expect 2=shop.1 3~shop.2   2 serves, 3 drains, by these names
/// 0s disagree 3s
/// 0s wants-listing yes
/// ```
struct Timeline {
    membership: Membership,
}

impl Timeline {
    fn new() -> Self {
        let subnet = "10.0.0.0/24".parse().unwrap();
        Self { membership: Membership::new("shop", "web", Some(subnet)) }
    }

    fn play(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let now = seconds(words.next().unwrap());
        let verb = words.next().unwrap();
        let rest: Vec<&str> = words.collect();
        match verb {
            "dns" => self.membership.dns_answered(&answer(&rest), now),
            "tasks" => self.membership.tasks_listed(&tasks(&rest), 2, now, now),
            "none-desired" => self.membership.tasks_listed(&tasks(&rest), 0, now, now),
            "saved" => self.membership.tasks_listed(&tasks(&rest), 2, Timestamp::START, now),
            "confirmed" => self.membership.tasks_confirmed(now, now),
            "expect" => assert_eq!(self.members(now), rest.join(" "), "{line}"),
            "disagree" => {
                let expected = seconds(rest[0]).since(Timestamp::START);
                assert_eq!(self.membership.disagreement(now), expected, "{line}");
            }
            "wants-listing" => {
                assert_eq!(self.membership.wants_listing(), rest == ["yes"], "{line}");
            }
            _ => panic!("{line}"),
        }
    }

    fn members(&mut self, now: Timestamp) -> String {
        let members = self.membership.members(now);
        let members = members.iter().map(|Member { address, name, standing, .. }| {
            let sign = if *standing == Standing::Serving { '=' } else { '~' };
            format!("{}{sign}{name}", address.to_string().trim_start_matches("10.0.0."))
        });
        members.collect::<Vec<_>>().join(" ")
    }
}

fn check(timeline: &str) {
    let mut played = Timeline::new();
    for line in timeline.lines().filter(|line| !line.trim().is_empty()) {
        played.play(line);
    }
}

fn seconds(text: &str) -> Timestamp {
    let seconds: f64 = text.strip_suffix('s').unwrap().parse().unwrap();
    Timestamp::START + Duration::from_secs_f64(seconds)
}

fn answer(last_numbers: &[&str]) -> Answer {
    let address = |text: &&str| match text.parse() {
        Ok(last) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        Err(_) => text.parse().unwrap(),
    };
    match last_numbers {
        [] => Answer::Nothing(Silence::Timeout),
        some => Answer::Addresses(some.iter().map(address).collect()),
    }
}

/// Tasks are created in the order of their ids.
fn tasks(words: &[&str]) -> Vec<SwarmTask> {
    let task = |word: &&str| {
        let (name, address) = word.split_once('=').unwrap();
        let (slot, id) = name.split_at(1);
        let last = address.trim_end_matches(['!', '?']).parse().unwrap();
        SwarmTask {
            id: id.to_owned(),
            slot: slot.to_owned(),
            created_at: format!("2026-01-01T00:00:00.{id}"),
            running: !address.ends_with(['!', '?']),
            ending: address.ends_with('?'),
            addresses: [("web".to_owned(), Ipv4Addr::new(10, 0, 0, last))].into(),
        }
    };
    words.iter().map(task).collect()
}

#[test]
fn an_answer_of_dns_decides_who_serves_and_who_drains() {
    check(
        "
        0s    tasks 1a=2 2b=3
        0s    dns 2 3
        0s    expect 2=shop.1 3=shop.2
        1.15s dns 2
        1.15s expect 2=shop.1 3~shop.2
        2s    dns 2 3
        2s    expect 2=shop.1 3=shop.2
        ",
    );
}

#[test]
fn a_draining_address_stays_until_a_newer_list_has_no_such_task() {
    check(
        "
        0s   tasks 1a=2 2b=3
        0s   dns 2 3
        1s   dns 2
        1.1s tasks 1a=2 2b=3!
        3s   expect 2=shop.1 3~shop.2
        4s   tasks 1a=2
        4s   expect 2=shop.1
        ",
    );
}

#[test]
fn a_start_first_update_names_the_newer_task_by_its_slot() {
    check(
        "
        0s   tasks 1a=2
        0s   dns 2
        1s   dns 2 3
        1s   wants-listing yes
        1s   expect 2=shop.1 3=shop.10.0.0.3
        1.1s tasks 1a=2 1b=3
        1.1s wants-listing no
        1.1s expect 2=shop.1.old 3=shop.1
        2.3s dns 3
        2.3s expect 2~shop.1.old 3=shop.1
        2.4s tasks 1a=2! 1b=3 1c=4
        2.4s expect 2~shop.1.old 3=shop.1
        5s   tasks 1b=3
        5s   expect 3=shop.1
        ",
    );
}

#[test]
fn silence_takes_nobody_away() {
    check(
        "
        0s     tasks 1a=2 2b=3
        0s     dns 2 3
        1s     dns
        1s     wants-listing yes
        9999s  dns
        9999s  expect 2=shop.1 3=shop.2
        ",
    );
}

#[test]
fn under_silence_a_newer_list_decides() {
    check(
        "
        0s   tasks 1a=2 2b=3
        0s   dns 2 3
        1s   dns
        1.1s tasks 1a=2 2b=3! 3c=4
        1.1s wants-listing no
        1.1s expect 2=shop.1 3~shop.2 4=shop.3
        4s   tasks 1a=2
        4s   expect 2=shop.1
        5s   tasks
        5s   expect
        ",
    );
}

#[test]
fn under_silence_an_older_list_decides_of_tasks_that_end() {
    check(
        "
        0s   tasks 1a=2 2b=3
        0s   dns 2 3
        1s   dns 2 3 4
        1.1s tasks 1a=2? 2b=3 2c=4!
        1.1s expect 2=shop.1 3=shop.2.old 4=shop.2
        2s   dns
        2s   expect 2~shop.1 3=shop.2.old 4=shop.2
        2s   wants-listing yes
        3s   dns 3 4
        3s   expect 2~shop.1 3=shop.2.old 4=shop.2
        ",
    );
}

#[test]
fn a_task_that_no_list_has_seen_run_ends_as_well() {
    check(
        "
        0s   tasks 1a=2!
        1s   dns 2
        2s   expect 2=shop.1
        3s   dns
        3s   wants-listing yes
        3.1s tasks 1a=2?
        3.1s expect 2~shop.1
        3.1s wants-listing no
        ",
    );
}

#[test]
fn a_single_replica_that_stops_first_drains_until_the_next_one_is_there() {
    check(
        "
        0s   tasks 1a=2
        0s   dns 2
        1.1s dns
        1.1s expect 2=shop.1
        1.2s tasks 1a=2! 1b=3!
        1.2s expect 2~shop.1
        3.2s tasks 1b=3!
        3.2s expect
        4.3s dns 3
        4.3s expect 3=shop.1
        ",
    );
}

#[test]
fn addresses_outside_the_subnet_are_no_answer() {
    check(
        "
        0s dns 2
        1s dns 192.0.2.7 ::1
        1s expect 2=shop.10.0.0.2
        2s dns 192.0.2.7 3
        2s expect 2~shop.10.0.0.2 3=shop.10.0.0.3
        ",
    );
}

#[test]
fn after_thirty_seconds_of_disagreement_a_confirmed_list_is_right() {
    check(
        "
        0s  dns 2 4
        0s  tasks 1a=2 2b=3
        0s  expect 2=shop.1 4=shop.10.0.0.4
        10s confirmed
        10s disagree 10s
        29s expect 2=shop.1 4=shop.10.0.0.4
        31s dns 2 4
        31s expect 2=shop.1 4=shop.10.0.0.4
        31s confirmed
        31s expect 2=shop.1 3=shop.2 4~shop.10.0.0.4
        31s disagree 31s
        32s dns 2 3
        32s disagree 0s
        32s expect 2=shop.1 3=shop.2
        ",
    );
}

#[test]
fn a_list_that_is_not_confirmed_never_drains_anybody() {
    check(
        "
        0s    tasks 1a=2!
        0s    dns 2 3
        9999s dns 2 3
        9999s expect 2=shop.1 3=shop.10.0.0.3
        ",
    );
}

#[test]
fn a_lasting_update_is_many_short_disagreements_and_no_long_one() {
    check(
        "
        0s  tasks 1a=2 2b=3
        0s  dns 2 4
        20s tasks 1a=2 2c=4
        20s disagree 0s
        21s dns 5 4
        40s tasks 1d=5 2c=4
        40s disagree 0s
        40s expect 4=shop.2 5=shop.1
        ",
    );
}

#[test]
fn before_the_first_answer_the_saved_tasks_that_run_serve() {
    check(
        "
        0.1s saved 1a=2 2b=3!
        0.1s expect 2=shop.1
        0.5s dns
        99s  expect 2=shop.1
        99s  dns 3
        99s  expect 2~shop.1 3=shop.2
        ",
    );
}

#[test]
fn a_service_scaled_to_zero_ends_although_dns_is_not_asked_again() {
    check(
        "
        0s tasks 1a=2
        0s dns 2
        1s none-desired 1a=2!
        1s expect 2~shop.1
        4s none-desired
        4s expect
        ",
    );
}

#[test]
fn an_address_that_nobody_knows_of_drains_for_a_minute() {
    check(
        "
        0s  dns 2 3
        1s  dns 2
        60s expect 2=shop.10.0.0.2 3~shop.10.0.0.3
        62s expect 2=shop.10.0.0.2
        ",
    );
}

proptest! {
    #[test]
    fn failures_of_dns_alone_never_empty_a_service(
        first in proptest::collection::btree_set(2u8..8, 1..5),
        answers in proptest::collection::vec(proptest::collection::btree_set(2u8..8, 0..4), 0..20),
        confirmed in any::<bool>(),
    ) {
        let words: Vec<String> = first.iter().map(|last| format!("{last}t{last}={last}")).collect();
        let mut timeline = Timeline::new();
        timeline.play(&format!("0s tasks {}", words.join(" ")));
        for (second, named) in answers.iter().enumerate() {
            let second = second * 7;
            let named: Vec<String> = named.iter().map(ToString::to_string).collect();
            timeline.play(&format!("{second}s dns {}", named.join(" ")));
            if confirmed {
                timeline.play(&format!("{second}s confirmed"));
            }
            let members = timeline.membership.members(seconds(&format!("{second}s")));
            prop_assert!(!members.is_empty());
        }
    }
}
