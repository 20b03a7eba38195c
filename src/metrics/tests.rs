use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus::proto::MetricFamily;
use proptest::prelude::*;

use super::series::Samples;
use super::{Metrics, Sources, example, reference, table};
use crate::counters::Histogram;

fn render(sources: Sources) -> String {
    Metrics::new(Arc::new(sources)).unwrap().render().unwrap()
}

/// Compares the lines of `text` that begin with the name of a metric of ours, without `hiveway_`.
fn check(text: &str, metric: &str, expected: &str) {
    let lines = text.lines().filter_map(|line| line.strip_prefix("hiveway_"));
    let found: Vec<_> = lines.filter(|line| line.starts_with(metric)).collect();
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected);
}

#[test]
fn requests_are_summed_over_cores_and_those_without_a_route_stand_under_none() {
    let text = render(example::serving());
    check(
        &text,
        "http_requests_",
        r#"
        http_requests_in_flight{service="shop_web"} 2
        http_requests_queued{service="shop_web"} 0
        http_requests_refused_total{listener="web",reason="no_route"} 1
        http_requests_total{listener="web",route="none",service="none",method="OTHER",code="404"} 1
        http_requests_total{listener="web",route="shop_web/default",service="shop_web",method="GET",code="200"} 2
        "#,
    );
    check(
        &text,
        "grpc_",
        r#"
        grpc_responses_total{route="shop_web/default",service="shop_web",grpc_code="OK"} 2
        "#,
    );
    check(
        &text,
        "http_request_body_bytes_total",
        r#"
        http_request_body_bytes_total{route="shop_web/default",service="shop_web"} 20
        "#,
    );
    check(
        &text,
        "http_response_body_bytes_total",
        r#"
        http_response_body_bytes_total{route="shop_web/default",service="shop_web"} 1000
        "#,
    );
}

#[test]
fn buckets_hold_everything_that_is_not_above_their_bound() {
    check(
        &render(example::serving()),
        r#"http_request_duration_seconds_bucket{route="shop_web"#,
        r#"
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.001"} 0
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.0025"} 0
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.005"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.01"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.025"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.05"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.1"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.25"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="0.5"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="1"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="2.5"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="10"} 2
        http_request_duration_seconds_bucket{route="shop_web/default",service="shop_web",le="+Inf"} 2
        "#,
    );
}

#[test]
fn endpoints_of_one_name_are_one_series() {
    let text = render(example::serving());
    check(
        &text,
        r#"upstream_endpoint_state{service="shop_web",endpoint="twin""#,
        r#"
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="down"} 0
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="draining"} 0
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="ejected"} 0
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="healthy"} 1
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="pending"} 1
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="probation"} 0
        upstream_endpoint_state{service="shop_web",endpoint="twin",state="unhealthy"} 0
        "#,
    );
    check(
        &text,
        "upstream_connections",
        r#"
        upstream_connections{service="shop_web",endpoint="shop_web.1"} 1
        upstream_connections{service="shop_web",endpoint="shop_web.2"} 1
        upstream_connections{service="shop_web",endpoint="twin"} 2
        "#,
    );
}

#[test]
fn replicas_show_what_they_did_with_their_requests() {
    let text = render(example::serving());
    for (metric, expected) in [
        (
            "upstream_requests_total",
            r#"
            upstream_requests_total{service="shop_web",endpoint="shop_web.1",outcome="ok"} 2
            upstream_requests_total{service="shop_web",endpoint="shop_web.2",outcome="reset"} 1
            upstream_requests_total{service="shop_web",endpoint="twin",outcome="ok"} 2
            "#,
        ),
        (
            "upstream_response_duration_seconds_sum",
            r#"
            upstream_response_duration_seconds_sum{service="shop_web",endpoint="shop_web.1"} 0.004
            "#,
        ),
        (
            "upstream_retries",
            r#"upstream_retries_total{service="shop_web",endpoint="shop_web.2",reason="reset"} 1"#,
        ),
        (
            "upstream_ejections",
            r#"upstream_ejections_total{service="shop_web",endpoint="shop_web.2",reason="reset"} 1"#,
        ),
        (
            "upstream_in_flight",
            r#"
            upstream_in_flight{service="shop_web",endpoint="shop_web.1"} 1
            upstream_in_flight{service="shop_web",endpoint="shop_web.2"} 0
            upstream_in_flight{service="shop_web",endpoint="twin"} 0
            "#,
        ),
    ] {
        check(&text, metric, expected);
    }
}

#[test]
fn replicas_that_nobody_has_asked_are_a_small_part_of_a_scrape() {
    let sources = example::waiting();
    sources.proxy.snapshot.store(Arc::new(example::idle(300, 10)));
    let text = render(sources);
    let states = text.lines().filter(|line| line.contains("state=\"pending\"")).count();
    assert_eq!(states, 3000);
    assert!(!text.contains("duration_seconds") && !text.contains("_bytes_total"));
    // With their empty histograms it was three times as large.
    assert!(text.len() < 3000 * 900, "{} bytes", text.len());
}

#[test]
fn an_edge_tells_of_its_listeners_its_provider_and_its_labels() {
    let text = render(example::serving());
    for (metric, expected) in [
        (
            "downstream",
            r#"
            downstream_connections_accepted_total{listener="web"} 7
            downstream_connections_open{listener="web"} 3
            "#,
        ),
        ("snapshot", r#"snapshot_swaps_total{provider="file"} 1"#),
        (
            "provider",
            r#"
            provider_errors_total{provider="file"} 0
            provider_last_success_timestamp_seconds{provider="file"} 0
            "#,
        ),
        ("tls", r#"tls_handshakes_total{version="1.3",result="ok"} 2"#),
        (
            "certificate",
            r#"certificate_expiry_timestamp_seconds{name="shop.example.com"} 1000000000"#,
        ),
        ("label", r#"label_diagnostics{service="shop_old",severity="error"} 1"#),
        ("upstream_dis", r#"upstream_disagreement_seconds{service="shop_web"} 1.5"#),
    ] {
        check(&text, metric, expected);
    }
    check(&text, "build", &format!("build_info{{version=\"{}\"}} 1", super::VERSION));
}

#[test]
fn the_table_names_every_metric_that_is_told_and_no_other() {
    let engine = crate::docker::Engine::new(std::path::Path::new(""));
    let pace = crate::provider::docker::Pace::default();
    let (agent, _driver) = crate::agent::follow(engine, pace, String::new());
    let agent = Metrics::of_agent(agent).unwrap().render().unwrap();
    let text = render(example::serving()) + &agent;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeSet<_> = types.filter_map(|line| line.split_once(' ')).collect();
    let reference = reference();
    let rows = reference.lines().skip(2).map(|row| {
        let mut cells = row.split('|').map(str::trim);
        (cells.nth(1).unwrap().trim_matches('`'), cells.next().unwrap())
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), told);
}

#[test]
fn metrics_are_named_by_the_rules_of_prometheus() {
    for row in table::ALL {
        let counts = row.name.ends_with("_total");
        assert_eq!(counts, row.kind == table::Kind::Counter, "{}", row.name);
        assert!(row.name.starts_with("hiveway_"), "{}", row.name);
        assert!(row.help.ends_with('.') && !row.help.contains('|'), "{}", row.help);
    }
}

#[test]
fn an_edge_without_an_inventory_can_be_scraped() {
    let text = render(example::waiting());
    check(&text, "snapshot", r#"snapshot_swaps_total{provider="file"} 0"#);
    check(&text, "upstream", "");
}

proptest! {
    #[test]
    fn no_series_appears_twice_and_nothing_is_lost(
        added in prop::collection::vec(("[ab]", "[xy\"\n]", 0_u64..100), 0..20),
    ) {
        let mut samples = Samples::default();
        for (service, endpoint, count) in &added {
            samples.count(&table::UPSTREAM_IN_FLIGHT, &[service, endpoint], *count);
            samples.observe(&table::UPSTREAM_DURATION, &[service, endpoint], &Histogram::default());
        }
        let families = samples.into_families();
        for family in &families {
            let label_sets = family.get_metric().iter().map(|metric| {
                metric.get_label().iter().map(|label| label.value().to_owned()).collect::<Vec<_>>()
            });
            let different: BTreeSet<_> = label_sets.collect();
            prop_assert_eq!(different.len(), family.get_metric().len());
        }
        let all = families.iter().flat_map(MetricFamily::get_metric);
        let sum = all.fold(0.0, |sum, metric| sum + metric.get_gauge().get_value());
        let expected: u64 = added.iter().map(|(_, _, count)| count).sum();
        prop_assert_eq!(format!("{sum}"), expected.to_string());
    }
}
