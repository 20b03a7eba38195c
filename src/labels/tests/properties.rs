//! What holds for any labels whatever.

use proptest::prelude::*;

use super::*;

/// Labels that are often almost right.
fn some_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let names: Vec<&'static str> = grammar::settings().map(|setting| setting.name).collect();
    let name = prop_oneof![
        proptest::sample::select(names).prop_map(|name| name.replace('*', "x")),
        "[a-z.-]{0,8}",
    ];
    let label = (prop_oneof![Just(""), Just("routes.a."), Just("Routes.B.")], name)
        .prop_map(|(route, name)| format!("hiveway.{route}{name}"));
    let value =
        prop_oneof!["[0-9]{1,3}(s|%|KiB)?", "/[a-z/]{0,4}", "true|false|none|http", "\\PC{0,6}"];
    proptest::collection::btree_map(
        prop_oneof![9 => label, 1 => "\\PC{0,12}".boxed()],
        value,
        0..12,
    )
}

proptest! {
    #[test]
    fn any_labels_are_read_without_a_panic(labels in some_labels()) {
        let parsed = parse("s", &labels);
        let names = |parsed: &Parsed| -> Vec<String> {
            parsed.routes.iter().map(|route| route.name.clone()).collect()
        };
        prop_assert!(names(&parsed).iter().all(|name| !parsed.rejected.contains(name) && !parsed.closed.contains(name)));
        let errors = parsed.diagnostics.iter().any(|found| found.severity == Severity::Error);
        prop_assert!((parsed.rejected.is_empty() && parsed.closed.is_empty()) || errors, "a rejected route has an error");
        for route in &parsed.routes {
            prop_assert!(!route.matches.hosts.is_empty() && !route.matches.paths.is_empty());
        }
    }

    #[test]
    fn a_label_of_one_route_changes_no_other(
        labels in some_labels(),
        setting in proptest::sample::select(grammar::settings().map(|row| row.name).collect::<Vec<_>>()),
        value in prop_oneof![Just("80".to_owned()), Just("/x".to_owned()), "\\PC{0,4}"],
    ) {
        let mut more = labels.clone();
        // The route is there before and after, so the service's own labels keep their part.
        let name = setting.replace('*', "x");
        more.insert("hiveway.routes.extra.priority".to_owned(), "1".to_owned());
        let with_route = parse("s", &more);
        more.insert(format!("hiveway.routes.extra.{name}"), value);
        let after = parse("s", &more);
        let others = |parsed: &Parsed| -> (Vec<RouteSpec>, Vec<String>, Vec<String>) {
            let routes = parsed.routes.iter().filter(|route| route.name != "extra");
            let rejected = parsed.rejected.iter().filter(|name| *name != "extra");
            let closed = parsed.closed.iter().filter(|name| *name != "extra");
            (routes.cloned().collect(), rejected.cloned().collect(), closed.cloned().collect())
        };
        prop_assert_eq!(others(&with_route), others(&after));
    }
}
