use std::time::Duration;

use super::checks::Checks;
use super::*;
use crate::spec::Check;

/// Siblings that have nothing but good answers, and more of them each time one looks.
fn good() -> Siblings {
    use std::sync::atomic::AtomicU64;
    static WELL: AtomicU64 = AtomicU64::new(0);
    let well = WELL.fetch_add(1, Relaxed);
    Siblings { healthy: 2, well, ..Siblings::default() }
}

fn told(transition: Option<Transition>) -> String {
    match transition {
        None => String::new(),
        Some(Transition::Reached) => "reached".to_owned(),
        Some(Transition::Lost) => "lost".to_owned(),
        Some(Transition::Recovered) => "recovered".to_owned(),
        Some(Transition::Passed) => "passed".to_owned(),
        Some(Transition::Unwell) => "unwell".to_owned(),
        Some(Transition::Ejected { until }) => {
            format!("ejected until {}", until.as_micros() / 1_000_000)
        }
    }
}

fn seconds(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<u64>().unwrap() * 1_000_000)
}

/// An endpoint that is left out after three failures, for 10 to 25 seconds; unhealthy after two, each
/// 5 seconds, and healthy again after two successes.
#[derive(Default)]
struct Player {
    health: Health,
    checks: Checks,
}

impl Player {
    fn play(&mut self, event: &str, sent: Timestamp, at: Timestamp) -> Option<Transition> {
        let policy = Eject { consecutive: 3, max: Duration::from_secs(25), ..Eject::default() };
        let active = Check { fall: 2, rise: 2, ..Check::default() };
        let failed = Failed { sent, at, jitter: 0, cut: false };
        let Self { health, checks } = self;
        match event {
            "connected" => return health.connected(),
            "refused" => return health.refused(),
            "timeout" => return health.dial_timed_out(),
            "ok" => return health.succeeded(sent),
            "fail" => return health.failed(&failed, &policy, good),
            "cut" => return health.failed(&Failed { cut: true, ..failed }, &policy, good),
            "whole" => return health.answered_whole(sent),
            "fail-capped" => return health.failed(&failed, &policy, Siblings::default),
            "check-ok" => return checks.passed(health, &active),
            "check-fail" => return checks.failed(health, &active, at),
            "awaits" => health.await_check(),
            "unchecked" => health.forget_checks(),
            "draining" => health.set_draining(true, at),
            _ => assert_eq!(event, "look"),
        }
        None
    }
}

/// Plays lines of `<seconds> <event> [expected transition] [= state]`. An event of a request that
/// was sent before is written `ok@<seconds>`.
fn check(script: &str) {
    let mut player = Player::default();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, state) = line.split_once(" = ").unwrap_or((line, ""));
        let mut words = event.split_whitespace();
        let now = seconds(words.next().unwrap());
        let event = words.next().unwrap();
        let (event, sent) =
            event.split_once('@').map_or((event, now), |(event, sent)| (event, seconds(sent)));
        let transition = player.play(event, sent, now);
        let expected = words.collect::<Vec<_>>().join(" ");
        assert_eq!(told(transition), expected, "{line}");
        if !state.is_empty() {
            assert_eq!(player.health.state(now).word(), state, "{line}");
        }
    }
}

#[test]
fn a_new_endpoint_waits_for_its_first_connection_and_refusals_do_not_count() {
    check(
        "
        0 look = pending
        0 refused = pending
        1 connected reached = healthy
        2 connected = healthy
        ",
    );
}

#[test]
fn a_refusal_takes_it_out_at_once_and_a_connection_brings_it_back() {
    check(
        "
        0 connected reached
        1 refused lost = down
        1 refused = down
        2 connected reached = healthy
        ",
    );
}

#[test]
fn one_lost_packet_is_forgiven_and_two_timeouts_in_a_row_are_not() {
    check(
        "
        0 connected reached
        1 timeout = healthy
        2 connected
        3 timeout = healthy
        5 timeout lost = down
        ",
    );
}

#[test]
fn answers_that_break_off_in_a_row_eject_though_each_began_well() {
    check(
        "
        0 connected reached
        0 ok
        0 cut
        0 whole
        1 ok
        1 cut
        2 ok
        2 cut
        3 ok
        3 cut ejected until 13 = ejected
        13 ok = probation
        13 cut ejected until 33 = ejected
        33 ok = probation
        34 whole recovered = healthy
        35 fail = healthy
        ",
    );
}

#[test]
fn failures_in_a_row_eject_and_each_ejection_lasts_longer_up_to_the_limit() {
    check(
        "
        0 connected reached
        0 fail
        0 ok
        0 fail
        0 fail
        0 fail ejected until 10 = ejected
        9 look = ejected
        10 look = probation
        10 fail ejected until 30
        30 fail ejected until 55
        55 ok recovered = healthy
        60 fail = healthy
        ",
    );
}

#[test]
fn an_ejection_is_forgotten_after_a_long_good_time_and_not_before() {
    check(
        "
        0 connected reached
        0 fail
        0 fail
        0 fail ejected until 10
        10 ok recovered
        11 fail
        11 fail
        11 fail ejected until 31
        31 ok recovered
        57 fail
        57 fail
        57 fail ejected until 77
        77 ok recovered
        200 fail
        200 fail
        200 fail ejected until 210
        ",
    );
}

#[test]
fn what_was_sent_before_an_ejection_neither_ends_nor_prolongs_it() {
    check(
        "
        0 connected reached
        5 fail
        5 fail
        5 fail ejected until 15
        6 ok@4 = ejected
        16 ok@4 = probation
        16 fail@4 = probation
        17 ok recovered = healthy
        ",
    );
}

#[test]
fn nothing_is_ejected_that_the_others_cannot_replace() {
    check(
        "
        0 connected reached
        0 fail
        0 fail
        0 fail-capped = healthy
        0 fail-capped = healthy
        0 fail ejected until 10
        ",
    );
}

#[test]
fn a_draining_endpoint_that_refuses_is_down() {
    check(
        "
        0 connected reached
        1 draining = draining
        3 refused lost = down
        ",
    );
}

#[test]
fn where_there_is_a_check_a_new_endpoint_needs_a_connection_and_a_success() {
    check(
        "
        0 awaits = pending
        0 connected reached = pending
        1 check-ok passed = healthy
        ",
    );
    check(
        "
        0 awaits
        1 check-ok passed = pending
        1 connected reached = healthy
        ",
    );
}

#[test]
fn one_that_fails_from_the_start_is_unhealthy_after_a_whole_series_of_checks() {
    check(
        "
        0 awaits
        0 connected reached
        1 check-fail = pending
        2 check-fail = pending
        10 check-fail = pending
        11 check-fail unwell = unhealthy
        12 check-ok = unhealthy
        13 check-ok passed = healthy
        ",
    );
}

#[test]
fn failures_in_a_row_make_it_unhealthy_and_successes_in_a_row_healthy() {
    check(
        "
        0 connected reached
        0 check-ok
        5 check-fail
        10 check-ok
        15 check-fail = healthy
        20 check-fail unwell = unhealthy
        25 check-fail = unhealthy
        30 check-ok = unhealthy
        35 check-fail = unhealthy
        40 check-ok
        45 check-ok passed = healthy
        ",
    );
}

#[test]
fn a_check_that_succeeds_does_not_end_an_ejection() {
    check(
        "
        0 connected reached
        0 check-ok
        1 fail
        1 fail
        1 fail ejected until 11
        5 check-ok = ejected
        6 check-fail
        7 check-fail unwell = unhealthy
        8 check-ok
        9 check-ok passed = ejected
        11 check-ok = probation
        ",
    );
}

#[test]
fn whoever_comes_back_from_the_dead_passes_a_check_first() {
    check(
        "
        0 connected reached
        0 check-ok
        1 refused lost = down
        2 connected reached = pending
        2 check-ok passed = healthy
        ",
    );
}

#[test]
fn what_its_checks_said_is_forgotten_when_nobody_checks_it_any_longer() {
    check(
        "
        0 connected reached
        0 check-fail
        5 check-fail unwell = unhealthy
        6 unchecked = healthy
        7 awaits = pending
        8 unchecked = healthy
        ",
    );
}

/// In which failure of a run an endpoint is ejected whose siblings have answered 1,000 requests well
/// before, and with each failure of the run so many well and so many badly; 0 if it never is.
fn ejected_after((well, ill): (u64, u64), failed_lately: bool) -> u32 {
    let health = Health::default();
    let policy = Eject::default();
    for run in 0..1000_u32 {
        let so_far = u64::from(run);
        let siblings = || Siblings {
            healthy: 2,
            well: 1000 + well * so_far,
            ill: ill * so_far,
            failed_lately,
            ..Siblings::default()
        };
        let at = Timestamp::from_micros(1);
        let failed = Failed { sent: at, at, jitter: 0, cut: false };
        if health.failed(&failed, &policy, siblings).is_some() {
            return run + 1;
        }
    }
    0
}

#[test]
fn a_run_of_failures_ejects_only_if_the_siblings_do_clearly_better() {
    assert_eq!(ejected_after((2, 0), false), 5);
    // As soon as a resource fails everywhere, nobody is worse than the others.
    assert_eq!(ejected_after((0, 2), true), 0);
    // Nobody else was asked: nothing is known.
    assert_eq!(ejected_after((0, 0), false), 0);
    // The siblings have begun to fail as well: half of the requests would fail twenty times in a row
    // once in a million.
    assert_eq!(ejected_after((2, 0), true), 20);
    assert_eq!(ejected_after((9, 1), true), 20);
    assert_eq!(ejected_after((1, 9), true), 135);
}

#[test]
fn an_ejection_lasts_up_to_a_fifth_longer_at_random() {
    let until = |jitter| {
        let health = Health::default();
        let at = Timestamp::from_micros(1_000_000);
        let policy = Eject { consecutive: 1, ..Eject::default() };
        health.failed(&Failed { sent: at, at, jitter, cut: false }, &policy, good);
        health.ejected_until().since(at)
    };
    assert_eq!(until(0), Duration::from_secs(10));
    assert_eq!(until(20), Duration::from_secs(12));
}

#[test]
fn on_probation_one_request_at_a_time_enters_and_none_waits_for_ever() {
    let health = Health::default();
    health.connected();
    let second = |second: u64| Timestamp::from_micros(second * 1_000_000);
    let policy = Eject { consecutive: 1, ..Eject::default() };
    assert_eq!(health.enter(second(1)), Entry::Free);
    let failed = |at: u64| Failed { sent: second(at), at: second(at), jitter: 0, cut: false };
    health.failed(&failed(1), &policy, good);
    // While it is ejected it is fallen back on by everybody or nobody.
    assert_eq!(health.enter(second(2)), Entry::Free);
    let Entry::Lease(first) = health.enter(second(11)) else { panic!("it may be tried") };
    assert_eq!(health.enter(second(11)), Entry::Taken);
    assert!(health.is_being_tried(second(11)));
    health.leave(first);
    assert!(!health.is_being_tried(second(11)));
    let Entry::Lease(hangs) = health.enter(second(12)) else { panic!("it may be tried") };
    assert_eq!(health.enter(second(71)), Entry::Taken);
    let Entry::Lease(next) = health.enter(second(72)) else { panic!("the lease has run out") };
    health.leave(hangs);
    assert_eq!(health.enter(second(73)), Entry::Taken, "the second one is still under way");
    health.leave(next);
    health.succeeded(second(12));
    assert_eq!(health.enter(second(73)), Entry::Free);
    assert_eq!(health.enter(second(73)), Entry::Free);
}

#[test]
fn pauses_between_checks_follow_state_and_traffic_and_vary_by_a_fifth() {
    let (health, active) = (Health::default(), Check::default());
    let pause = |idle, luck| Checks::pause(&health, &active, idle, luck).as_millis();
    assert_eq!(pause(false, 20), 5000);
    assert_eq!([pause(false, 0), pause(false, 40), pause(false, 99)], [4000, 6000, 6000]);
    assert_eq!(pause(true, 20), 30_000);
    health.await_check();
    assert_eq!([pause(false, 20), pause(true, 20)], [250, 250]);
}

#[test]
fn it_is_about_to_end_around_the_time_at_which_swarm_tells_it_to() {
    let health = Health::default();
    let after = |millis| Timestamp::from_micros(60_000_000) + Duration::from_millis(millis);
    let told = |at: Timestamp| health.is_about_to_end(at);
    assert!(!told(after(2000)), "it does not leave");
    health.set_draining(true, after(0));
    // To be told again changes nothing.
    health.set_draining(true, after(600));
    let expected =
        [(0, false), (300, false), (1250, true), (2000, true), (7600, true), (8600, false)];
    assert_eq!(expected.map(|(millis, _)| (millis, told(after(millis)))), expected);
    health.set_draining(false, after(2000));
    assert!(!told(after(2000)));
}
