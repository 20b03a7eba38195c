//! Time as RFC 3339 writes it, in UTC.

use super::push_number;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// Writes `2026-11-21T06:43:38.123Z` for a time in microseconds since 1970.
pub(super) fn push_time(to: &mut Vec<u8>, unix_micros: u64) {
    let (seconds, millis) = (unix_micros / 1_000_000, unix_micros / 1000 % 1000);
    let (year, month, day) = date(seconds / SECONDS_A_DAY);
    let of_day = seconds % SECONDS_A_DAY;
    for (number, digits, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3600, 2, b':'),
        (of_day / 60 % 60, 2, b':'),
        (of_day % 60, 2, b'.'),
        (millis, 3, b'Z'),
    ] {
        push_number(to, number, digits);
        to.push(after);
    }
}

/// Year, month and day for a number of days since 1970, in years that begin with March: the leap day
/// is then the last of its year, and months have lengths that a line through them tells.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // From 0000-03-01 on.
    let days = days + 719_468;
    let (era, of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_micros: u64, expected: &str) {
        let mut text = Vec::new();
        push_time(&mut text, unix_micros);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999_999, "2000-02-28T23:59:59.999Z");
        check(951_868_799_000_000, "2000-02-29T23:59:59.000Z");
        check(1_709_251_200_001_000, "2024-03-01T00:00:00.001Z");
        check(1_798_761_599_999_000, "2026-12-31T23:59:59.999Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut before = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let follows = match (month, day) {
                (1, 1) => before == (year - 1, 12, 31),
                (_, 1) => before.0 == year && before.1 == month - 1 && before.2 >= 28,
                _ => before == (year, month, day - 1),
            };
            assert!(follows, "{before:?} and then {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
