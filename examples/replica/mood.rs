//! How this replica answers at present: a test turns one of several bad while it runs.

use std::sync::atomic::{AtomicU8, Ordering};

/// One way to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// 503 every other time, by chance.
    Failing,
    /// Pauses are longer.
    Slow,
    /// Reset after the head.
    Breaking,
}

impl Mood {
    const ALL: [(&str, Self); 4] = [
        ("well", Self::Well),
        ("failing", Self::Failing),
        ("slow", Self::Slow),
        ("breaking", Self::Breaking),
    ];

    /// The mood of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find_map(|&(known, mood)| (known == name).then_some(mood))
    }

    /// How many times longer pauses are.
    pub(crate) fn slowness(self) -> u32 {
        if self == Self::Slow { 20 } else { 1 }
    }
}

/// The present mood, shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct MoodNow(AtomicU8);

impl MoodNow {
    pub(crate) fn get(&self) -> Mood {
        let at = usize::from(self.0.load(Ordering::Relaxed));
        Mood::ALL.get(at).map_or(Mood::Well, |&(_, mood)| mood)
    }

    pub(crate) fn set(&self, mood: Mood) {
        let at = Mood::ALL.iter().position(|&(_, other)| other == mood);
        self.0.store(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0), Ordering::Relaxed);
    }
}
