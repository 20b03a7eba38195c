//! Variables in a stack file: `$NAME`, `${NAME}`, `${NAME:-default}` and the like, and `$$`.
//!
//! The forms are those of the Compose specification, section "Interpolation". What the environment
//! would say is not known, so only defaults are filled in.

/// A text with its variables filled in as far as they can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Nothing is left open.
    Whole(String),
    /// It depends on this variable.
    Unknown(String),
    /// A `$` begins neither a variable nor another `$`: a deployment fails.
    Broken,
}

pub(super) fn interpolate(text: &str) -> Filled {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('$') {
        filled.push_str(plain);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            let name = name(after);
            return if name.is_empty() { Filled::Broken } else { Filled::Unknown(name.to_owned()) };
        };
        let Some((inner, after)) = until_closed(inner) else { return Filled::Broken };
        match braced(inner) {
            Filled::Whole(default) => filled.push_str(&default),
            open @ (Filled::Unknown(_) | Filled::Broken) => return open,
        }
        rest = after;
    }
    filled.push_str(rest);
    Filled::Whole(filled)
}

/// The variable within `${...}`. Its default may have variables of its own.
fn braced(inner: &str) -> Filled {
    let name = name(inner);
    let after = inner.get(name.len()..).unwrap_or_default();
    let default = after.strip_prefix(":-").or_else(|| after.strip_prefix('-'));
    let is_known_form = after.is_empty() || after.trim_start_matches(':').starts_with(['?', '+']);
    match default {
        _ if name.is_empty() => Filled::Broken,
        Some(default) => interpolate(default),
        None if is_known_form => Filled::Unknown(name.to_owned()),
        None => Filled::Broken,
    }
}

/// What stands before the brace that closes, and what follows it.
fn until_closed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return Some((text.get(..at)?, text.get(at + 1..)?)),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name(text: &str) -> &str {
    let in_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = text.find(|letter| !in_name(letter)).unwrap_or(text.len());
    let name = text.get(..end).unwrap_or_default();
    if name.starts_with(|letter: char| letter.is_ascii_digit()) { "" } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn defaults_are_filled_in_and_nothing_else_is_guessed() {
        let whole = |text: &str| Filled::Whole(text.to_owned());
        let unknown = |name: &str| Filled::Unknown(name.to_owned());
        for (text, filled) in [
            ("plain", whole("plain")),
            ("^/a$$", whole("^/a$")),
            ("${A:-x}.${B-y}", whole("x.y")),
            ("${A:-}", whole("")),
            ("${A:-${B:-z}}", whole("z")),
            ("${A:-${B}}", unknown("B")),
            ("x$A", unknown("A")),
            ("${A}", unknown("A")),
            ("${A:?must be set}", unknown("A")),
            ("${A:+x}", unknown("A")),
            ("^/a$", Filled::Broken),
            ("$1", Filled::Broken),
            ("${A", Filled::Broken),
            ("${}", Filled::Broken),
            ("${A!x}", Filled::Broken),
        ] {
            assert_eq!(interpolate(text), filled, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[$\\{\\}:A-Cü?-]{0,16}") {
            let _ = interpolate(&text);
        }

        #[test]
        fn doubled_dollars_are_single_ones(text in "[a-c$]{0,12}") {
            prop_assert_eq!(interpolate(&text.replace('$', "$$")), Filled::Whole(text));
        }
    }
}
