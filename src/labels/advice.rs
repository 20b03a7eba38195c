//! What an unknown label was probably meant to be.

use crate::labels::PREFIX;
use crate::labels::grammar::{self, Setting};
use crate::suggest;

/// The guard that the writer of an unknown setting may have meant: it is not to be passed over.
pub(super) fn guard(setting: &str) -> Option<&'static Setting> {
    let is_meant = |guard: &&Setting| suggest::closest(setting, [guard.name]).is_some();
    grammar::settings().filter(|row| row.is_guard()).find(is_meant)
}

/// What the writer of an unknown label may have meant; `before` is what stands before the setting.
pub(super) fn advise(before: &str, setting: &str) -> Option<String> {
    let names = || grammar::settings().map(|setting| setting.name);
    let lower = setting.to_ascii_lowercase();
    let (first, last) = lower.split_once('.').unwrap_or((&lower, ""));
    if before == PREFIX && suggest::closest(first, ["routes"]).is_some() {
        return Some(format!("a route's labels are written `{PREFIX}routes.<name>.<setting>`"));
    }
    let group: Vec<String> = names()
        .filter(|name| name.strip_prefix(&*lower).is_some_and(|rest| rest.starts_with('.')))
        .map(|name| format!("`{before}{}`", name.replace('*', "<name>")))
        .collect();
    if !group.is_empty() {
        return Some(format!("write {}", group.join(" or ")));
    }
    let family = |name: &str| name.ends_with('*') && !last.is_empty();
    let close = suggest::closest(&lower, names().filter(|name| !name.ends_with('*')))
        .map(str::to_owned)
        .or_else(|| {
            let families = names().filter(|name| family(name));
            suggest::closest(first, families.map(|name| name.trim_end_matches(".*")))
                .map(|family| format!("{family}.{last}"))
        })
        .or_else(|| {
            let ends = |name: &&str| name.rsplit_once('.').is_some_and(|(_, end)| end == lower);
            names().find(ends).map(str::to_owned)
        })?;
    Some(format!("did you mean `{before}{close}`?"))
}
