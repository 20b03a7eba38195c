//! The one table of labels.
//!
//! A row says how a setting is written, what it means and how its value is read into a route. The
//! parser, the table in the README and "did you mean" all come from it, so they cannot differ. To
//! make a setting work that is only understood so far, change its row's [`State`].

mod conditions;
mod forwarding;
mod guarding;

use crate::spec::RouteSpec;
use crate::value::Mistake;

/// One row: everything there is to know about a setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What follows `hiveway.` or `hiveway.routes.<name>.`. A final `.*` stands for a name that the
    /// label gives: `header.*`.
    pub name: &'static str,
    /// How its value is written.
    pub value: &'static str,
    /// What holds if it is not written.
    pub default: &'static str,
    /// What it means, for the README.
    pub meaning: &'static str,
    /// Where it may be written.
    pub scope: Scope,
    /// Whether this version acts on it.
    pub state: State,
    /// Reads the value into a route.
    pub read: fn(&mut Draft, Written<'_>) -> Result<(), Mistake>,
}

/// Where a setting may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only as `hiveway.<setting>`.
    Service,
    /// Also as `hiveway.routes.<name>.<setting>`.
    Route,
}

/// Whether this version acts on a setting. Its value is validated in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Live,
    /// It does nothing yet, and to go on without it would not be safe: the route stays closed. The
    /// text says what cannot be done.
    Refused(&'static str),
}

/// A label's value, as a row reads it.
#[derive(Clone, Copy, Debug)]
pub struct Written<'l> {
    /// What stands for the `*` of the row's name; empty if it has none.
    pub name: &'l str,
    /// The value without the spaces around it.
    pub text: &'l str,
}

/// A route while its labels are read.
#[derive(Debug)]
pub struct Draft {
    /// What the labels have said so far; hosts and paths are empty until one says more.
    pub route: RouteSpec,
    /// What is worth a warning about the label that is read.
    pub remarks: Vec<Mistake>,
    /// Whether the value that was refused asks for something without which the route is not safe.
    pub is_unsafe: bool,
}

impl Setting {
    /// Whether it decides which requests a route takes.
    pub fn is_condition(&self) -> bool {
        matches!(self.name, "host" | "path" | "path-exact" | "path-regex" | "method")
            || self.family().is_some()
    }

    /// Whether it keeps somebody out: a route that was to have it is not to be open without it.
    pub fn is_guard(&self) -> bool {
        matches!(self.name, "allow" | "basic-auth" | "client-auth")
    }

    /// Whether it says something about the path; a route's own replace all that are inherited.
    pub fn is_path(&self) -> bool {
        self.name == "path" || self.name.starts_with("path-")
    }

    /// The part before the `*`, with its dot, if the label gives the last part of the name.
    pub fn family(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }

    /// A setting that can be written for a route and works.
    const fn live(
        [name, value, default, meaning]: [&'static str; 4],
        read: fn(&mut Draft, Written<'_>) -> Result<(), Mistake>,
    ) -> Self {
        Self { name, value, default, meaning, scope: Scope::Route, state: State::Live, read }
    }
}

/// Every setting, in the order of the README. Settings that change the defaults of others come
/// before these.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    conditions::SETTINGS.iter().chain(forwarding::SETTINGS).chain(guarding::SETTINGS)
}

/// The row of a setting, written in any case of letters, and what the label says for its `*`.
pub fn find(written: &str) -> Option<(&'static Setting, &str)> {
    settings().find_map(|setting| match setting.family() {
        None => setting.name.eq_ignore_ascii_case(written).then_some((setting, "")),
        Some(family) => {
            let (start, rest) = written.split_at_checked(family.len())?;
            (start.eq_ignore_ascii_case(family) && !rest.is_empty()).then_some((setting, rest))
        }
    })
}

/// The table of labels for the README, in Markdown.
pub fn reference() -> String {
    let mut table = String::from("| setting | value | default | meaning |\n|---|---|---|---|\n");
    for setting in settings() {
        let Setting { name, value, default, meaning, .. } = setting;
        let note = match setting.state {
            State::Live => "",
            State::Refused(_) => " *(not yet: a route that asks for it stays closed)*",
        };
        let row = format!("| `{name}` | {value} | {default} | {meaning}{note} |\n");
        table.push_str(&row);
    }
    table
}

/// Puts what was read where it belongs.
fn put<T>(place: &mut T, read: Result<T, Mistake>) -> Result<(), Mistake> {
    *place = read?;
    Ok(())
}

/// Adds what was read to what is there.
fn add<T>(place: &mut Vec<T>, read: Result<Vec<T>, Mistake>) -> Result<(), Mistake> {
    place.extend(read?);
    Ok(())
}

/// For settings that no part of a route stands for yet: the value is only checked.
fn only_check<T>(read: Result<T, Mistake>) -> Result<(), Mistake> {
    read.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_stands_once() {
        let names: Vec<&str> = settings().map(|setting| setting.name).collect();
        for name in &names {
            let written = name.replace('*', "X-Some.Name").to_uppercase();
            let (found, _) = find(&written).unwrap();
            assert_eq!(&found.name, name);
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        assert!(find("header.").is_none());
        assert!(find("ü").is_none());
    }

    #[test]
    fn every_row_of_the_reference_has_four_cells() {
        let reference = reference();
        assert_eq!(reference.lines().count(), settings().count() + 2);
        for line in reference.lines() {
            assert_eq!(line.matches('|').count(), 5, "{line}");
        }
    }
}
