//! How many requests may go a second time.
//!
//! Without a limit a service that fails under load gets each request several times over, which is
//! more load still.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::timestamp::Timestamp;

/// Thousandths of a retry.
type Milli = i64;

const ONE: Milli = 1000;
/// Always allowed, so that a service with few requests can retry too.
const FLOOR_PER_SECOND: Milli = 10 * ONE;
/// What a quiet time can save up.
const MOST: Milli = 100 * ONE;

/// Tokens that requests earn and retries spend, shared by all cores of an edge.
#[derive(Debug)]
pub struct RetryBudget {
    earned: AtomicI64,
    floor: AtomicI64,
    refilled: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            earned: AtomicI64::new(0),
            floor: AtomicI64::new(FLOOR_PER_SECOND),
            refilled: AtomicU64::new(0),
        }
    }
}

impl RetryBudget {
    /// A request came: it earns `percent` hundredths of a retry.
    pub fn earn(&self, percent: u8) {
        if self.earned.load(Relaxed) < MOST {
            self.earned.fetch_add(Milli::from(percent).saturating_mul(ONE / 100), Relaxed);
        }
    }

    /// Whether one more retry is allowed; it is spent then.
    pub fn spend(&self, now: Timestamp) -> bool {
        self.refill_floor(now);
        take_one(&self.floor) || take_one(&self.earned)
    }

    fn refill_floor(&self, now: Timestamp) {
        let before = self.refilled.load(Relaxed);
        let elapsed = now.since(Timestamp::from_micros(before)).as_millis();
        let due =
            Milli::try_from(elapsed).unwrap_or(ONE).min(ONE).saturating_mul(FLOOR_PER_SECOND / ONE);
        if due == 0 {
            return;
        }
        // The core that moves the clock hands out what has become due.
        if self.refilled.compare_exchange(before, now.as_micros(), Relaxed, Relaxed).is_ok() {
            let filled = self.floor.load(Relaxed).saturating_add(due).min(FLOOR_PER_SECOND);
            self.floor.store(filled, Relaxed);
        }
    }
}

fn take_one(tokens: &AtomicI64) -> bool {
    let enough = |have: Milli| (have >= ONE).then(|| have.saturating_sub(ONE));
    tokens.fetch_update(Relaxed, Relaxed, enough).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spendable(budget: &RetryBudget, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn a_service_without_traffic_may_retry_ten_times_a_second() {
        let budget = RetryBudget::default();
        let second = |n: u64| Timestamp::from_micros(n * 1_000_000);
        assert_eq!(spendable(&budget, second(1)), 10);
        assert_eq!(spendable(&budget, second(1)), 0);
        assert_eq!(spendable(&budget, second(2)), 10);
        assert_eq!(spendable(&budget, second(100)), 10);
    }

    #[test]
    fn five_requests_earn_one_retry_at_twenty_percent() {
        let budget = RetryBudget::default();
        assert_eq!(spendable(&budget, Timestamp::START), 10);
        for _ in 0..50 {
            budget.earn(20);
        }
        assert_eq!(spendable(&budget, Timestamp::START), 10);
    }

    #[test]
    fn a_quiet_week_saves_up_no_storm() {
        let budget = RetryBudget::default();
        for _ in 0..1_000_000 {
            budget.earn(100);
        }
        assert!(spendable(&budget, Timestamp::START) <= 111);
    }
}
