//! What came of all runs, as text for people and as `docs/events.md`.

use std::fmt::Write as _;
use std::time::Duration;

use super::case::{Case, MayLose};
use super::churn::Churn;
use super::proxy::Proxy;
use super::run::{Outcome, rate};
use crate::lab::stdout;

/// All runs of a case behind one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) runs: u32,
    pub(crate) sum: Outcome,
}

/// All rows of one proxy, in the order in which they were run first.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) proxy: Proxy,
    pub(crate) rows: Vec<Row>,
    pub(crate) churn: Option<Churn>,
}

impl Table {
    pub(crate) fn new(proxy: Proxy) -> Self {
        Self { proxy, rows: Vec::new(), churn: None }
    }

    /// Adds one run, to those of the same case if there are any.
    pub(crate) fn add(&mut self, case: Case, outcome: Outcome) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.case == case) {
            row.runs += 1;
            row.sum.add(outcome);
        } else {
            self.rows.push(Row { case, runs: 1, sum: outcome });
        }
    }

    /// Everything that is against the word of its case.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let of = |row: &Row| {
            let wrong = row.sum.wrong.clone().into_iter();
            let case = row.case.to_string();
            wrong.map(move |what| format!("{case}: {what}")).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }

    fn find(&self, case: &Case) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == *case)
    }

    /// Every row by itself.
    pub(crate) fn markdown(&self) -> String {
        let mut text = "| event | service | runs | requests | lost | later than 250 ms | longest \
                        wait | why |\n|---|---|---:|---:|---:|---:|---:|---|\n"
            .to_owned();
        for Row { case, runs, sum } in &self.rows {
            let (name, service, sent) = (case.name(), case.service(), sum.sent);
            let (late, longest, why) = (sum.late, told(sum.longest), why(case, sum));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {service} | {runs} | {sent} | {} | {late} | {longest} | {why} |",
                sum.failed()
            );
        }
        text
    }
}

fn told(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        return "-".to_owned();
    }
    format!("{:.2} s", time.as_secs_f64())
}

fn why(case: &Case, sum: &Outcome) -> String {
    let mut parts = Vec::new();
    if sum.failed() > 0 {
        parts.push(sum.lost_how());
        parts.push(match case.may_lose {
            MayLose::Nothing => "not expected".to_owned(),
            MayLose::UnderWay => "POSTs under way to the replica that died".to_owned(),
            MayLose::WhileNoneIsWanted => "the service wants no task".to_owned(),
            MayLose::Stated(why) => why.to_owned(),
        });
    }
    if sum.twice > 0 {
        parts.push(format!("{} POSTs ran twice", sum.twice));
    }
    parts.join("; ")
}

/// The same cases side by side.
fn comparison(tables: &[Table]) -> String {
    let mut text = "| event | service |".to_owned();
    for table in tables {
        let _ = write!(text, " {} |", table.proxy.name());
    }
    let _ = writeln!(text, "\n|---|---|{}", "---:|".repeat(tables.len()));
    for Row { case, .. } in tables.first().iter().flat_map(|table| &table.rows) {
        let _ = write!(text, "| {} | {} |", case.name(), case.service());
        for table in tables {
            let cell = table.find(case).map_or_else(|| "-".to_owned(), |row| cell(&row.sum));
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn cell(sum: &Outcome) -> String {
    let lost = if sum.failed() == 0 { "0".to_owned() } else { format!("**{}**", sum.failed()) };
    let twice = if sum.twice > 0 { format!(", {} ran twice", sum.twice) } else { String::new() };
    format!("{lost} of {}, {}{twice}", sum.sent, told(sum.longest))
}

fn churns(tables: &[Table]) -> String {
    let mut text = "| proxy | updates of the other service | requests | lost | later than 250 ms \
                    | longest wait | dials of the dead replica |\n|---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (table, churn) in tables.iter().filter_map(|table| Some((table, table.churn.as_ref()?))) {
        let name = table.proxy.name();
        let Churn { updates, sent, lost, late, longest, dials, .. } = churn;
        let longest = told(*longest);
        let _ = writeln!(
            text,
            "| {name} | {updates} | {sent} | {lost} | {late} | {longest} | {dials} |"
        );
    }
    text
}

/// The whole page.
pub(crate) fn page(own: &Table, tables: &[Table]) -> String {
    let date = stdout(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let kernel = stdout(std::process::Command::new("uname").arg("-r"));
    let engine = crate::docker::docker(&["version", "--format", "{{.Server.Version}}"]);
    let mut versions: Vec<_> = tables.iter().map(|table| table.proxy.version()).collect();
    versions.dedup();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let facts = format!(
        "{date}; {cores} cores shared by load, proxy, replicas and engine, Linux {kernel}, Docker \
         {engine}, {}; {} requests/s in all.",
        versions.join(", "),
        rate()
    );
    include_str!("page.md")
        .replace("FACTS", &facts)
        .replace("OWN\n", &own.markdown())
        .replace("COMPARISON\n", &comparison(tables))
        .replace("CHURN\n", &churns(tables))
}
