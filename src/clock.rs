//! The only reader of time.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::timestamp::Timestamp;

static START: OnceLock<Instant> = OnceLock::new();

/// Time begins that long before it is first asked for: a test whose clock was stopped a moment earlier
/// would else live before its beginning, where nothing moves.
const BEFORE: Duration = Duration::from_mins(1);

/// The time now. In a test with paused time it is the paused one.
pub fn now() -> Timestamp {
    let start = START.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(BEFORE).unwrap_or(now)
    });
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(micros)
}

/// Seconds since 1970, for people and for metrics; never for a decision.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The same in whole microseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Whole seconds since 1970, for what is valid until a date that others have set.
#[expect(clippy::cast_possible_truncation, reason = "exact for longer than anything is valid")]
pub fn date() -> i64 {
    unix_seconds() as i64
}
