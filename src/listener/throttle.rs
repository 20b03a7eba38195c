//! How many handshakes a core does in a second: each costs it as much as hundreds of requests.

use std::sync::{Mutex, PoisonError};

use crate::timestamp::Timestamp;

/// What one handshake takes from the store, so that time can be counted in microseconds.
const ONE: u64 = 1_000_000;

/// So many a second, and as many at once after a second without any.
#[derive(Debug)]
pub struct Throttle {
    per_second: u64,
    store: Mutex<Store>,
}

#[derive(Debug)]
struct Store {
    left: u64,
    filled: Timestamp,
}

impl Throttle {
    /// One for a core, with a full store.
    pub fn new(per_second: u32, now: Timestamp) -> Self {
        let per_second = u64::from(per_second);
        let store = Store { left: per_second.saturating_mul(ONE), filled: now };
        Self { per_second, store: Mutex::new(store) }
    }

    /// Whether one more may be done; it is taken then.
    pub fn take(&self, now: Timestamp) -> bool {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let since = u64::try_from(now.since(store.filled).as_micros()).unwrap_or(u64::MAX);
        let most = self.per_second.saturating_mul(ONE);
        let filled = store.left.saturating_add(since.saturating_mul(self.per_second)).min(most);
        store.filled = now;
        let left = filled.checked_sub(ONE);
        store.left = left.unwrap_or(filled);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_number_is_done_in_a_second() {
        let at = |millis: u64| Timestamp::from_micros(millis * 1000);
        let throttle = Throttle::new(10, at(0));
        let done = |millis| (0..100).filter(|_| throttle.take(at(millis))).count();
        assert_eq!(done(0), 10);
        assert_eq!(done(99), 0);
        assert_eq!(done(100), 1);
        assert_eq!(done(400), 3);
        assert_eq!(done(60_000), 10, "a quiet minute saves up one second");
    }
}
