//! What came of all cases, for `docs/health.md`.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Form, Outcome};
use crate::report::Report;

/// A row for each case.
pub(super) fn table(form: Form, outcomes: &[Outcome]) -> String {
    let mut text = "| the bad one | `balance` |".to_owned();
    let mut from = 0;
    for mark in form.marks {
        // Writing to a string cannot fail.
        let _ = write!(text, " {from}-{mark} s |");
        from = *mark;
    }
    text.push_str(
        " requests | failed | p99 before | p99 with it | longest | more tries |\n|---|---|",
    );
    let _ = writeln!(text, "{}", "---:|".repeat(form.marks.len() + 6));
    for Outcome { case, shares, extra, before, with, .. } in outcomes {
        let _ = write!(text, "| {case} |");
        for share in shares {
            let _ = write!(text, " {share:.1} % |");
        }
        let (failed, sent) = (failed(with), with.sent);
        let [without, p99, longest] =
            [before.latency(0.99), with.latency(0.99), with.latency(1.0)].map(told);
        let extra = extra.max(0.0);
        let _ =
            writeln!(text, " {sent} | {failed} | {without} | {p99} | {longest} | {extra:.1} % |");
    }
    text
}

fn told(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn failed(report: &Report) -> String {
    let how = report.failures.iter().map(|(failure, count)| format!("{count} x {failure}"));
    let how: Vec<_> = how.collect();
    if how.is_empty() { "0".to_owned() } else { how.join(", ") }
}
