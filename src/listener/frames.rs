//! The frames that a client of HTTP/2 sends, by their heads alone (RFC 9113, section 4.1), and how
//! many of them may be about nothing.
//!
//! h2 answers control frames without an end, as fast as they come. Here they are paid for: from an
//! allowance that time refills, and that requests and bodies add to, since both entail some. Nothing
//! is read or decided about a frame otherwise, and no clock is asked.

use crate::timestamp::Timestamp;

/// What precedes the first frame.
const PREFACE: usize = 24;
/// Length, type, flags and stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Bytes of control frames that a client may send in a second, whatever else it does.
const PER_SECOND: u64 = 32 << 10;
/// What a quiet time can save up. One of many connections that floods is closed after one or two
/// milliseconds of work.
const MOST: u64 = PER_SECOND;

/// For a request's head: it may be reprioritised, given more window, and reset.
const PER_HEAD: u64 = 128;
/// For a frame of a body, either way: two updates of windows and a PING that measures the round trip.
const PER_DATA: u64 = 64;
/// For so many of its bytes one more.
const DATA_FOR_ONE: u64 = 8;

/// Follows what a client sends from frame to frame.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// How much of the head has come.
    came: usize,
    /// Bytes before the next head.
    left: usize,
}

impl Default for Frames {
    /// At the beginning of a connection.
    fn default() -> Self {
        Self { head: [0; HEAD], came: 0, left: PREFACE }
    }
}

/// What a frame is about, and its length without its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Part of a body, maybe none.
    Data(usize),
    /// Of a request: its head, what goes on with it, or trailers.
    Head,
    /// Everything else, known or not.
    Control(usize),
}

impl Frame {
    /// Steps of a turn that it takes: h2 answers a control frame in half a microsecond, and a request
    /// that has just begun takes ten times as long and more until it waits for its replica.
    pub(super) fn steps(self) -> usize {
        match self {
            Self::Data(_) => 0,
            Self::Head => 16,
            Self::Control(_) => 1,
        }
    }

    fn of(head: [u8; HEAD]) -> (Self, usize) {
        let [high, middle, low, kind, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let frame = match kind {
            DATA => Self::Data(length),
            HEADERS | CONTINUATION => Self::Head,
            _ => Self::Control(length),
        };
        (frame, length)
    }
}

impl Frames {
    /// Tells of each frame whose head is complete with these bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left = self.left.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some(head) = self.next_head(&mut bytes) else {
                return;
            };
            let (frame, length) = Frame::of(head);
            self.left = length;
            each(frame);
        }
    }

    /// Takes a head off the bytes; none if it is not all there, what is there is kept then.
    fn next_head(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEAD]> {
        if self.came == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(*head);
        }
        let (now, rest) = bytes.split_at(bytes.len().min(HEAD.saturating_sub(self.came)));
        *bytes = rest;
        for (place, byte) in self.head.iter_mut().skip(self.came).zip(now) {
            *place = *byte;
        }
        self.came = self.came.saturating_add(now.len());
        if self.came < HEAD {
            return None;
        }
        self.came = 0;
        Some(self.head)
    }
}

/// How many bytes of control frames a client may still send.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    refilled: Timestamp,
}

impl Allowance {
    /// All that can be saved up.
    pub(super) fn full(now: Timestamp) -> Self {
        Self { left: MOST, refilled: now }
    }

    /// A frame came. Whether that was within the allowance.
    pub(super) fn pay(&mut self, frame: Frame) -> bool {
        let cost = match frame {
            Frame::Data(0) => return true,
            Frame::Data(length) => {
                self.earn_by_data(1, length as u64);
                return true;
            }
            Frame::Head => {
                self.earn(PER_HEAD);
                return true;
            }
            Frame::Control(length) => length.saturating_add(HEAD) as u64,
        };
        let enough = self.left >= cost;
        self.left = self.left.saturating_sub(cost);
        enough
    }

    /// That many frames of bodies went one way or the other, with so many bytes.
    pub(super) fn earn_by_data(&mut self, frames: u64, bytes: u64) {
        self.earn(frames.saturating_mul(PER_DATA).saturating_add(bytes / DATA_FOR_ONE));
    }

    fn earn(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(MOST);
    }

    /// Whether it is worth while to look at the time.
    pub(super) fn is_low(&self) -> bool {
        self.left < MOST / 2
    }

    /// Time went by.
    pub(super) fn refill(&mut self, now: Timestamp) {
        let micros = u64::try_from(now.since(self.refilled).as_micros()).unwrap_or(u64::MAX);
        self.refilled = now;
        self.earn(micros.saturating_mul(PER_SECOND) / 1_000_000);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, 0, 0, 0, 0, 1];
        bytes.resize(HEAD + length, 0xff);
        bytes
    }

    fn second(n: u64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000)
    }

    /// How many PINGs in a row are within the allowance.
    fn pings(allowance: &mut Allowance) -> u64 {
        (0..1_000_000).take_while(|_| allowance.pay(Frame::Control(8))).count() as u64
    }

    #[test]
    fn control_frames_are_paid_from_what_time_gives() {
        let mut allowance = Allowance::full(second(1));
        assert_eq!(pings(&mut allowance), MOST / 17);
        allowance.refill(second(1));
        assert_eq!(pings(&mut allowance), 0);
        allowance.refill(second(2));
        assert_eq!(pings(&mut allowance), PER_SECOND / 17);
        allowance.refill(second(1000));
        assert_eq!(pings(&mut allowance), MOST / 17);
    }

    #[test]
    fn bodies_and_requests_pay_for_the_frames_that_they_entail() {
        let mut allowance = Allowance::full(second(1));
        for _ in 0..1_000_000 {
            // A message of a byte that is answered with one, both windows updated, the trip measured.
            assert!(allowance.pay(Frame::Data(1)));
            for length in [4, 4, 8] {
                assert!(allowance.pay(Frame::Control(length)));
            }
            assert!(allowance.pay(Frame::Head));
            assert!(allowance.pay(Frame::Control(4)));
        }
        for _ in 0..10_000 {
            // A download whose client gives back each KiB by itself.
            allowance.earn_by_data(1, 16 << 10);
            for _ in 0..32 {
                assert!(allowance.pay(Frame::Control(4)));
            }
        }
    }

    #[test]
    fn empty_data_earns_nothing() {
        let mut allowance = Allowance::full(second(1));
        pings(&mut allowance);
        for _ in 0..1000 {
            allowance.pay(Frame::Data(0));
        }
        assert_eq!(pings(&mut allowance), 0);
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(
            sent in prop::collection::vec((0_u8..12, 0_usize..40), 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..20),
        ) {
            let mut bytes = vec![b'P'; PREFACE];
            for (kind, length) in &sent {
                bytes.extend(frame(*kind, *length));
            }
            let mut frames = Frames::default();
            let mut found = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                frames.follow(now, |frame| found.push(frame));
                rest = later;
            }
            let expected: Vec<_> = sent.into_iter().map(|(kind, length)| match kind {
                0 => Frame::Data(length),
                1 | 9 => Frame::Head,
                _ => Frame::Control(length),
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
