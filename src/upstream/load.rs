//! What a gRPC call weighs when replicas are compared: nothing if it is a long poll, and nothing any
//! more once it has been open for long.
//!
//! Long polls and streams are parked at a replica for minutes and cost it next to nothing, while calls
//! of milliseconds come and go: counted alike, the parked ones alone would decide, and a replica
//! that has just started, with none of them, would draw all calls. So calls of methods that often
//! take long do not count, and those of others for one to two seconds. A replica that hangs gains
//! nothing by that: its calls count for longer than those that others answer; and where no call
//! counts, all have the same share.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::timestamp::Timestamp;

/// A call that was not answered by then may be a long poll; how quick its replica is, it does not say.
pub const LONG: Duration = Duration::from_secs(1);

/// Calls count in the span of 2^20 us, about a second, in which they begin, and in the next.
const SPAN_BITS: u32 = 20;

/// The span in which a call began. Numbers are used again after 142 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(u32);

impl Span {
    #[expect(clippy::cast_possible_truncation, reason = "the numbers begin anew")]
    const fn at(now: Timestamp) -> Self {
        Self((now.as_micros() >> SPAN_BITS) as u32)
    }

    const fn before(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }
}

/// The open calls of an endpoint that began in this span and in the last: those of even spans, and
/// those of odd ones. Each half holds its span in the upper 32 bits and the count in the lower.
#[derive(Debug, Default)]
pub struct YoungCalls([AtomicU64; 2]);

impl YoungCalls {
    /// A call begins. What it returns is to be handed to [`Self::ended`].
    pub fn began(&self, now: Timestamp) -> Span {
        let span = Span::at(now);
        self.change(span, |held| {
            let (counted, count) = unpack(held);
            let count = if counted == span { count } else { 0 };
            Some(pack(span, count.saturating_add(1)))
        });
        span
    }

    /// A call has ended, which may count no longer.
    pub fn ended(&self, began: Span) {
        self.change(began, |held| {
            let (counted, count) = unpack(held);
            (counted == began).then(|| pack(began, count.saturating_sub(1)))
        });
    }

    /// How many count now.
    pub fn count(&self, now: Timestamp) -> usize {
        let span = Span::at(now);
        let counts = self.0.iter().map(|half| match unpack(half.load(Relaxed)) {
            (counted, count) if counted == span || counted == span.before() => count as usize,
            _ => 0,
        });
        counts.sum()
    }

    fn change(&self, span: Span, change: impl FnMut(u64) -> Option<u64>) {
        let [even, odd] = &self.0;
        let half = if span.0.is_multiple_of(2) { even } else { odd };
        // There is nothing to change if the half is another span's by now.
        let _ = half.fetch_update(Relaxed, Relaxed, change);
    }
}

/// Which methods are long polls, learned from how long their calls take. Methods are kept by a hash: as
/// many as a client can think of need no more room, and two that share a place share its verdict.
#[derive(Debug)]
pub struct Methods([AtomicU8; 256]);

/// Where a method is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc(u8);

impl Rpc {
    /// The method of that path.
    pub fn of(path: &str) -> Self {
        let [low, ..] = FixedState::default().hash_one(path).to_le_bytes();
        Self(low)
    }
}

impl Default for Methods {
    fn default() -> Self {
        Self([const { AtomicU8::new(0) }; 256])
    }
}

impl Methods {
    /// Whether the method's calls take long at times.
    pub fn is_poll(&self, rpc: Rpc) -> bool {
        self.place(rpc).is_some_and(|place| place.load(Relaxed) > 0)
    }

    /// A call has been answered, or given up, after that time. One that takes long outweighs 255 that do not:
    /// polls of a busy queue are answered at once.
    pub fn took(&self, rpc: Rpc, time: Duration) {
        let Some(place) = self.place(rpc) else { return };
        // Nothing is written for methods that are always quick: all cores read the same lines.
        match place.load(Relaxed) {
            0 if time < LONG => {}
            _ if time >= LONG => place.store(u8::MAX, Relaxed),
            so_far => place.store(so_far.saturating_sub(1), Relaxed),
        }
    }

    fn place(&self, rpc: Rpc) -> Option<&AtomicU8> {
        self.0.get(usize::from(rpc.0))
    }
}

const fn pack(span: Span, count: u32) -> u64 {
    (span.0 as u64) << 32 | count as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of it")]
const fn unpack(held: u64) -> (Span, u32) {
    (Span((held >> 32) as u32), held as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn a_call_counts_for_a_second_at_least_and_two_at_most() {
        let calls = YoungCalls::default();
        let began: Vec<_> = [0, 900, 1100].map(|at| calls.began(millis(at))).into();
        assert_eq!([1100, 2090, 2100, 3150].map(|at| calls.count(millis(at))), [3, 3, 1, 0]);
        // The end of a call that counts no longer changes nothing.
        calls.began(millis(2200));
        calls.ended(began[0]);
        assert_eq!(calls.count(millis(2200)), 2);
        calls.ended(began[2]);
        assert_eq!(calls.count(millis(2200)), 1);
    }

    #[test]
    fn a_method_is_a_poll_while_one_of_its_last_256_calls_took_long() {
        let methods = Methods::default();
        let (poll, other) = (Rpc::of("/shop.Shop/Poll"), Rpc::of("/shop.Shop/Buy"));
        assert_ne!(poll, other);
        methods.took(poll, Duration::from_millis(999));
        assert!(!methods.is_poll(poll));
        methods.took(poll, LONG);
        for _ in 0..254 {
            methods.took(poll, Duration::ZERO);
        }
        assert!(methods.is_poll(poll) && !methods.is_poll(other));
        methods.took(poll, Duration::ZERO);
        assert!(!methods.is_poll(poll));
    }

    proptest! {
        #[test]
        fn exactly_the_open_calls_of_two_spans_count(
            steps in prop::collection::vec((0_u64..400_000, any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let (calls, mut open, mut now) = (YoungCalls::default(), Vec::new(), 0);
            for (pause, begins, which) in steps {
                now += pause;
                let at = Timestamp::from_micros(now);
                if begins || open.is_empty() {
                    open.push((now >> SPAN_BITS, calls.began(at)));
                } else {
                    calls.ended(open.swap_remove(which.index(open.len())).1);
                }
                let young = open.iter().filter(|(span, _)| span + 1 >= now >> SPAN_BITS).count();
                prop_assert_eq!(calls.count(at), young);
            }
        }
    }
}
