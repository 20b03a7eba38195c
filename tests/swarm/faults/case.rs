//! What is wrong with the bad one, and how its service is balanced.

use std::fmt;

use crate::replica::Replica;

/// In which way a replica is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers 503 half of the time.
    Failing,
    /// Accepts connections and does nothing more: the process stands still.
    Hung,
    /// Packets to it vanish.
    Dropped,
    /// Takes 20 times as long.
    Slow,
    /// Resets each connection after the head of the answer.
    Breaking,
}

impl Fault {
    pub(super) fn begin(self, replica: &Replica) {
        match self {
            Self::Failing => replica.becomes("failing"),
            Self::Hung => replica.signal("STOP"),
            Self::Dropped => replica.swallows(),
            Self::Slow => replica.becomes("slow"),
            Self::Breaking => replica.becomes("breaking"),
        }
    }

    /// Only so far that it can be ended in time.
    pub(super) fn end(self, replica: &Replica) {
        if self == Self::Hung {
            replica.signal("CONT");
        }
    }

    /// What a table calls it.
    fn words(self) -> &'static str {
        match self {
            Self::Failing => "answers 503 half of the time",
            Self::Hung => "hangs",
            Self::Dropped => "its packets are dropped",
            Self::Slow => "20 times slower",
            Self::Breaking => "resets after the head",
        }
    }
}

/// The label `hiveway.balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Balance {
    LeastRequest,
    RoundRobin,
    Ewma,
}

impl Balance {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Ewma => "ewma",
        }
    }
}

/// A fault, and how the service is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) fault: Fault,
    pub(super) balance: Balance,
}

impl Case {
    /// Every fault by default, and the slow one as others balance, too.
    pub(super) const ALL: [Self; 7] = [
        Self { fault: Fault::Failing, balance: Balance::LeastRequest },
        Self { fault: Fault::Hung, balance: Balance::LeastRequest },
        Self { fault: Fault::Dropped, balance: Balance::LeastRequest },
        Self { fault: Fault::Breaking, balance: Balance::LeastRequest },
        Self { fault: Fault::Slow, balance: Balance::RoundRobin },
        Self { fault: Fault::Slow, balance: Balance::LeastRequest },
        Self { fault: Fault::Slow, balance: Balance::Ewma },
    ];

    pub(super) fn is(self, fault: Fault, balance: Balance) -> bool {
        self == Self { fault, balance }
    }

    /// A name for its service.
    pub(super) fn name(self) -> String {
        format!("{:?}-{}", self.fault, self.balance.label()).to_lowercase()
    }

    /// Percent of all tries that may still reach it at last. A fair share is 33.
    pub(super) fn most_at_last(self) -> f64 {
        match (self.fault, self.balance) {
            (Fault::Slow, Balance::RoundRobin) => 36.0,
            (Fault::Slow, _) => 20.0,
            // While it is asked whether it has recovered.
            (Fault::Failing, _) => 10.0,
            (Fault::Hung | Fault::Dropped | Fault::Breaking, _) => 3.0,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | `{}`", self.fault.words(), self.balance.label())
    }
}
