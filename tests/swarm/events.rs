//! What happens to services in a Swarm, under load: what it costs the clients, and what it may.
//!
//! A scenario is data ([`case`]); one runner ([`run`]) serves all of them, behind Hiveway and behind
//! the proxies that are compared with it. Set `EVENTS_RATE` for another load than 1,000 requests a
//! second, `EVENTS_RUNS` for other than 3 runs, `EVENTS_REPORT` for a file to write the tables to
//! (`docs/events.md` is one), `EVENTS_TRAEFIK` and `EVENTS_HAPROXY` for their programs. Drains and lost
//! nodes are not here: they need more than one node.

mod case;
mod churn;
mod proxy;
mod run;
mod table;

use std::time::Duration;

use case::Group;
use proxy::Proxy;
use table::Table;

use crate::docker::docker;
use crate::lab::require_edge;

/// As many runs as the environment says, else three.
fn runs() -> u32 {
    std::env::var("EVENTS_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3)
}

/// Runs every group once behind a proxy, and adds what came of it.
fn observe(table: &mut Table, groups: &[Group]) {
    let name = table.proxy.name();
    for group in groups {
        for (case, outcome) in run::run(table.proxy, group) {
            let (failed, sent) = (outcome.failed(), outcome.sent);
            eprintln!("{name}: {case}: {sent} requests, {failed} failed {}", outcome.lost_how());
            outcome.wrong.iter().for_each(|what| eprintln!("  {what}"));
            table.add(case, outcome);
        }
    }
}

/// What is compared, once, and a dead replica while another service is updated for so long.
fn compare(proxy: Proxy, groups: &[Group], churn: Duration) -> Table {
    require_edge();
    docker(&["tag", "replica:latest", "replica:next"]);
    let services = [run::service_names(), churn::NAMES.map(str::to_owned).to_vec()].concat();
    let _deployed = proxy.deploy(&services);
    let mut table = Table::new(proxy);
    observe(&mut table, groups);
    let churn = churn::run(proxy, churn);
    eprintln!("{}: {churn}", proxy.name());
    table.churn = Some(churn);
    table
}

/// The word of every case is held.
fn assert_kept(table: &Table) {
    eprintln!("{}", table.markdown());
    let wrong = table.wrong();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The dead replica is left alone.
fn assert_left_alone(table: &Table) {
    let churn = table.churn.as_ref().expect("the churn");
    assert_eq!((churn.lost, churn.requests), (0, Some(0)), "the dead replica was asked: {churn}");
}

/// Writes what there is so far, if a file is named.
fn write(own: &Table, compared: &[Table]) {
    let Some(path) = std::env::var_os("EVENTS_REPORT") else { return };
    std::fs::write(path, table::page(own, compared)).expect("the report is written");
}

#[test]
fn planned_changes_lose_nothing_and_crashes_only_what_may_have_run() {
    let table = compare(Proxy::Hiveway, &case::short(), Duration::from_secs(20));
    assert_kept(&table);
    assert_left_alone(&table);
}

#[test]
fn every_event_costs_what_is_said_and_no_more() {
    let mut compared = Vec::new();
    for proxy in Proxy::others() {
        compared.push(compare(proxy, &case::compared(), Duration::from_mins(1)));
    }
    let beside_others = compare(Proxy::Hiveway, &case::compared(), Duration::from_mins(1));
    let mut own = beside_others.clone();
    compared.insert(0, beside_others);
    write(&own, &compared);
    for group in (0..runs()).flat_map(|_| case::full()) {
        observe(&mut own, &[group]);
        write(&own, &compared);
    }
    assert_kept(&own);
    assert_left_alone(&own);
}
