//! How values are written, in labels and options alike, and what to advise when they are not.
//!
//! Each function reads one kind of value. What a value means, and which bounds it has, its caller
//! knows.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::quantity;
use crate::routing::host::HostPattern;
use crate::suggest;

/// Why a value cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The end of a sentence that begins with what was written: `is not a port number`.
    pub problem: String,
    /// What to write: a clause without its first capital and its full stop.
    pub help: String,
    /// A value that would be right; empty if none helps.
    pub example: String,
}

impl Mistake {
    /// A mistake with the value that would be right.
    pub fn new(
        problem: impl Into<String>,
        help: impl Into<String>,
        example: impl Into<String>,
    ) -> Self {
        Self { problem: problem.into(), help: help.into(), example: example.into() }
    }
}

/// `true` or `false`, in any case of letters.
///
/// # Errors
/// If it is anything else.
pub fn boolean(text: &str) -> Result<bool, Mistake> {
    choice(&text.to_ascii_lowercase(), &[("true", true), ("false", false)])
}

/// One of a few words, each with what it stands for.
///
/// # Errors
/// If it is none of them; the closest one is proposed.
pub fn choice<T: Clone>(text: &str, words: &[(&str, T)]) -> Result<T, Mistake> {
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(meant.clone());
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let close = suggest::closest(text, words.iter().map(|(word, _)| *word)).unwrap_or_default();
    let help = format!("write {}", known.join(" or "));
    Err(Mistake::new("is not a word that is known here", help, close))
}

/// A whole number within bounds.
///
/// # Errors
/// If it is not a number, or out of bounds.
pub fn number<T>(text: &str, bounds: RangeInclusive<T>, example: &str) -> Result<T, Mistake>
where
    T: FromStr + Display + PartialOrd,
{
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && bounds.contains(number)).ok_or_else(|| {
        let range = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        Mistake::new(format!("is not {range}"), format!("write {range}"), example)
    })
}

/// A port that can be connected to, 1 to 65535.
///
/// # Errors
/// If it is anything else.
pub fn port(text: &str) -> Result<u16, Mistake> {
    number(text, 1..=u16::MAX, "8080").map_err(|_| {
        let help = "write the number the container listens on, 1 to 65535";
        Mistake::new("is not a port number", help, "8080")
    })
}

/// A duration with its unit; zero is allowed.
///
/// # Errors
/// If it is no duration.
pub fn duration(text: &str) -> Result<Duration, Mistake> {
    quantity::parse_duration(text).ok_or_else(|| {
        let help = "write a whole number with its unit: `ms`, `s`, `m`, `h` or `d`";
        Mistake::new("is not a duration", help, "10s")
    })
}

/// A duration with its unit, above zero.
///
/// # Errors
/// If it is no duration, or zero.
pub fn time_limit(text: &str) -> Result<Duration, Mistake> {
    let limit = duration(text)?;
    if limit.is_zero() {
        let help = "zero would refuse everything: write a duration above zero";
        return Err(Mistake::new("leaves no time at all", help, "10s"));
    }
    Ok(limit)
}

/// A number of bytes.
///
/// # Errors
/// If it is no size.
pub fn size(text: &str) -> Result<u64, Mistake> {
    quantity::parse_size(text).ok_or_else(|| {
        let help = "write a whole number of bytes, or one with `KiB`, `MiB`, `GiB`, `KB`, `MB` or \
                    `GB`";
        Mistake::new("is not a size", help, "10MB")
    })
}

/// `none`, or what the other function reads.
///
/// # Errors
/// Those of the other function, which then also propose `none`.
pub fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, Mistake>,
) -> Result<Option<T>, Mistake> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    read(text).map(Some).map_err(|mistake| Mistake {
        help: format!("{}, or `none` for no limit", mistake.help),
        ..mistake
    })
}

/// Entries between commas, without the spaces around them; never empty.
///
/// # Errors
/// If there is none, or one of them is empty, or the other function refuses one.
pub fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<Vec<T>, Mistake> {
    let read_entry = |entry: &str| {
        let entry = entry.trim();
        if entry.is_empty() {
            let help = "write entries separated by single commas, or remove it altogether";
            return Err(Mistake::new("has an empty entry", help, ""));
        }
        read(entry).map_err(|mistake| within_list(text, entry, mistake))
    };
    text.split(',').map(read_entry).collect()
}

fn within_list(text: &str, entry: &str, mistake: Mistake) -> Mistake {
    if text.trim() == entry {
        return mistake;
    }
    let problem = format!("has an entry `{entry}` that {}", mistake.problem);
    Mistake { problem, ..mistake }
}

/// A network as `10.0.0.0/8`, or a single address; bits behind the prefix are dropped.
///
/// # Errors
/// If it is neither.
pub fn network(text: &str) -> Result<IpNet, Mistake> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map(|net| net.trunc()).map_err(|_| {
        let help = "write networks as address and prefix length";
        Mistake::new("is not a network", help, "10.0.0.0/8")
    })
}

/// A host name, a wildcard for one label before a name, or `*`.
///
/// # Errors
/// If it is none of these.
pub fn host(text: &str) -> Result<HostPattern, Mistake> {
    text.parse().map_err(|_| {
        let help = "write host names without scheme, port or path; `*.example.com` covers one \
                    label";
        Mistake::new("is not a host name", help, "shop.example.com")
    })
}

/// A name of letters, digits, `-`, `_` and `.`, as listeners, networks and secrets have; at most
/// 128 bytes.
///
/// # Errors
/// If it is empty, too long or has other characters.
pub fn name(text: &str) -> Result<String, Mistake> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if plain && matches!(text.len(), 1..=128) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new("is not a name", "write letters, digits, `-`, `_` and `.` only", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(read: Result<T, Mistake>, expected: &str) {
        let text = match read {
            Ok(value) => format!("{value:?}"),
            Err(mistake) => format!("{}; {} [{}]", mistake.problem, mistake.help, mistake.example),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn words_are_proposed_by_likeness() {
        check(boolean("True"), "true");
        check(boolean("yes"), "is not a word that is known here; write `true` or `false` []");
        check(boolean("ture"), "is not a word that is known here; write `true` or `false` [true]");
    }

    #[test]
    fn numbers_say_their_bounds() {
        check(number("5", 0..=5, "2"), "5");
        check(number("-7", i32::MIN..=i32::MAX, "10"), "-7");
        let complaint = "is not a whole number from 0 to 5; write a whole number from 0 to 5 [2]";
        for text in ["6", "-1", "+1", "", "x", "1.0", "99999999999999999999"] {
            check(number(text, 0..=5, "2"), complaint);
        }
        check(
            port("0"),
            "is not a port number; write the number the container listens on, 1 to 65535 [8080]",
        );
    }

    #[test]
    fn a_list_names_the_entry_that_is_wrong() {
        check(list(" 10.0.0.9/8 , ::1", network), "[10.0.0.0/8, ::1/128]");
        check(
            list("10.0.0.0/8, nowhere", network),
            "has an entry `nowhere` that is not a network; write networks as address and prefix \
             length [10.0.0.0/8]",
        );
        check(
            list("10.0.0.0/8,,", network),
            "has an empty entry; write entries separated by single commas, or remove it \
             altogether []",
        );
    }

    #[test]
    fn a_limit_can_be_lifted_but_not_be_zero_time() {
        check(optional("none", time_limit), "None");
        check(optional("5s", time_limit), "Some(5s)");
        check(
            optional("0s", time_limit),
            "leaves no time at all; zero would refuse everything: write a duration above zero, or \
             `none` for no limit [10s]",
        );
    }
}
