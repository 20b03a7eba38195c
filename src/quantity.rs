//! Durations and sizes as people write them: `500ms`, `5m`, `64KiB`, `10MB`.
//!
//! A unit is always written, but for plain bytes: a bare `30` means seconds to one reader and
//! milliseconds to another.

use std::time::Duration;

/// Longest duration that can be written: a hundred years, so that adding it to a time is safe.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Units of time and their length in milliseconds, longest first.
const TIMES: [(&str, u64); 5] =
    [("d", DAY * 1000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes, largest first; the binary one of two that are about as large.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

/// Reads a whole number and one of `ms`, `s`, `m`, `h`, `d`; none if it is anything else or longer
/// than [`LONGEST`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = TIMES.iter().find(|(name, _)| *name == unit)?;
    let duration = Duration::from_millis(number.checked_mul(*millis)?);
    (duration <= LONGEST).then_some(duration)
}

/// Writes a duration in the largest unit that divides it; what is below a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    in_largest_unit(millis, &TIMES)
}

/// Reads a whole number of bytes, alone or with one of `B`, `KB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`
/// in any case of letters; none if it is anything else or does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Some(number);
    }
    let (_, bytes) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*bytes)
}

/// Writes a number of bytes in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    in_largest_unit(bytes, &SIZES)
}

fn in_largest_unit(amount: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, unit)| amount.is_multiple_of(*unit))
        .map_or_else(|| amount.to_string(), |(name, unit)| format!("{}{name}", amount / unit))
}

/// The digits at the beginning as a number, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("5 m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("365d", Some(31_536_000_000)),
            ("36500d", Some(3_153_600_000_000)),
            ("36501d", None),
            ("99999999999999999d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
        for text in ["", "10", "s", "-1s", "+1s", "1.5s", "10sec", "1h30m", "10S", "١s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_unless_a_unit_says_otherwise() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64KiB", Some(65_536)),
            ("64kib", Some(65_536)),
            ("10MB", Some(10_000_000)),
            ("2 GiB", Some(2_147_483_648)),
            ("1B", Some(1)),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MB", "64K", "64KiBs"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_as_it_was_written(millis in 0_u64..=3_153_600_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn a_size_reads_as_it_was_written(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
