//! Settings that say which requests a route takes, and where it is offered.

use super::{Draft, Scope, Setting, State, Written, add, put};
use crate::labels::value as label_value;
use crate::value::{self, Mistake};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "enable",
        value: "`true` or `false`",
        default: "`true` with any other label",
        meaning: "`false` takes the service out of Hiveway",
        scope: Scope::Service,
        state: State::Live,
        read: |_, it| super::only_check(value::boolean(it.text)),
    },
    Setting::live(
        [
            "host",
            "list of `a.example.com`, `*.example.com`",
            "any",
            "exact beats wildcard beats any; ports in the request are ignored",
        ],
        |to, it| add(&mut to.route.matches.hosts, value::list(it.text, value::host)),
    ),
    Setting::live(
        [
            "path",
            "list of prefixes",
            "`/`",
            "whole segments: `/api` covers `/api/x`, not `/apix`; the longest wins",
        ],
        |to, it| add(&mut to.route.matches.paths, value::list(it.text, label_value::path_prefix)),
    ),
    Setting::live(
        ["path-exact", "list of paths", "", "exact beats regular expression beats prefix"],
        |to, it| add(&mut to.route.matches.paths, value::list(it.text, label_value::path_exact)),
    ),
    Setting::live(
        [
            "path-regex",
            "regular expression",
            "",
            "paths in which it is found; `^` and `$` bind it to the ends",
        ],
        |to, it| {
            add(&mut to.route.matches.paths, label_value::path_regex(it.text).map(|one| vec![one]))
        },
    ),
    Setting::live(
        ["method", "list of methods", "all", "a further condition; more conditions win"],
        |to, it| add(&mut to.route.matches.methods, value::list(it.text, label_value::method)),
    ),
    Setting::live(
        ["header.*", "value", "", "a further condition: `header.<name>` has this value"],
        header,
    ),
    Setting::live(
        [
            "query.*",
            "value",
            "",
            "a further condition: the query parameter `query.<name>` has this value",
        ],
        |to, it| {
            to.route.matches.queries.push((it.name.to_owned(), it.text.to_owned()));
            Ok(())
        },
    ),
    Setting::live(
        [
            "priority",
            "whole number",
            "0",
            "orders the routes within one host, highest first; never takes another host's traffic",
        ],
        |to, it| {
            put(&mut to.route.matches.priority, value::number(it.text, i32::MIN..=i32::MAX, "10"))
        },
    ),
    Setting::live(
        [
            "listener",
            "list of names",
            "the listeners with `default = true`",
            "where the route is offered",
        ],
        |to, it| {
            put(&mut to.route.listeners, value::list(it.text, label_value::listener).map(Some))
        },
    ),
    Setting::live(
        ["instance", "name", "any", "only edges of that `[provider] instance` take it"],
        |to, it| put(&mut to.route.instance, value::name(it.text).map(Some)),
    ),
    Setting::live(
        [
            "weight",
            "0-1000",
            "100",
            "two services of one stack with the same conditions and a weight each share the traffic (canary)",
        ],
        |to, it| put(&mut to.route.weight, value::number(it.text, 0..=1000, "100").map(Some)),
    ),
];

fn header(to: &mut Draft, it: Written<'_>) -> Result<(), Mistake> {
    let name = label_value::header_name(it.name)?;
    let value = label_value::header_value(it.text)?;
    to.route.matches.headers.push((name, value));
    Ok(())
}
