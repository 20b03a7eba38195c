//! How near the edge is to the end of its memory, asked of the kernel four times a second.
//!
//! The kernel would end the whole process at its limit, and every connection with it; so the edge
//! gives up what costs least first. What can be given back at once, pages of files, does not count.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_millis(250);

/// A larger limit is none: the first version of control groups has a number for it.
const NO_LIMIT: u64 = 1 << 60;

/// By so many percent of the limit use must fall below a threshold before it counts as left.
const RELIEF: u64 = 5;

/// What is given up, from one level to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing: there is memory enough.
    #[default]
    None,
    /// Connections without a request.
    Idle,
    /// New requests as well.
    Requests,
    /// New connections as well.
    Connections,
}

impl Pressure {
    const ALL: [Self; 4] = [Self::None, Self::Idle, Self::Requests, Self::Connections];

    /// The level as metrics tell it, 0 to 3.
    pub const fn level(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Idle => 1,
            Self::Requests => 2,
            Self::Connections => 3,
        }
    }

    /// Percent of the limit from which on it holds.
    const fn threshold(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Idle => 85,
            Self::Requests => 92,
            Self::Connections => 97,
        }
    }

    /// What follows this level when so many bytes of so many are used.
    #[must_use]
    pub fn after(self, used: u64, limit: u64) -> Self {
        let percent = u128::from(used) * 100 / u128::from(limit.max(1));
        let holds = |level: &Self| {
            let relief = if *level <= self { RELIEF } else { 0 };
            percent >= u128::from(level.threshold().saturating_sub(relief))
        };
        Self::ALL.into_iter().rev().find(holds).unwrap_or_default()
    }
}

/// Asks the kernel not to give this process huge pages (`PR_SET_THP_DISABLE`). It clears 2 MiB for each
/// before the thread goes on: of the CPU that a thousand new connections cost a third went there, and
/// others waited four times as long meanwhile. An idle edge needs 13 MiB without them and 22 MiB with
/// them, and requests cost the same.
pub fn use_small_pages() {
    // Where the kernel does not know of it nothing else is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// The present level, for whoever acts on it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU8);

impl Gauge {
    /// The level now.
    pub fn pressure(&self) -> Pressure {
        let level = self.0.load(Relaxed);
        Pressure::ALL.into_iter().find(|known| known.level() == level).unwrap_or_default()
    }

    /// Whether at least this much is to be given up.
    pub fn is_at(&self, pressure: Pressure) -> bool {
        self.0.load(Relaxed) >= pressure.level()
    }

    /// From now on it is this one.
    pub fn set(&self, pressure: Pressure) {
        self.0.store(pressure.level(), Relaxed);
    }
}

/// What the kernel is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    limit: u64,
    /// The control group whose use counts; none for that of the process alone.
    group: Option<(PathBuf, &'static Files)>,
}

/// How a control group's files are called.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    /// What stands in `/proc/self/cgroup` before the group's path.
    line: &'static str,
    /// Below `/sys/fs/cgroup`.
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The line in `memory.stat` for pages of files that nobody has used for long.
    inactive: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files {
        line: "::",
        root: "",
        limit: "memory.max",
        used: "memory.current",
        inactive: "inactive_file ",
    },
    Files {
        line: ":memory:",
        root: "memory",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        inactive: "total_inactive_file ",
    },
];

impl Meter {
    /// The limit of the control group, or `configured` if that is less. None if there is neither.
    pub fn find(configured: Option<u64>) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::below(Path::new("/sys/fs/cgroup"), &groups, configured)
    }

    /// Reads `groups` as the kernel writes them, and the files below `mounted`. Limits of outer
    /// groups hold for inner ones: the smallest counts, and what its group uses.
    fn below(mounted: &Path, groups: &str, configured: Option<u64>) -> Option<Self> {
        let limits = VERSIONS.iter().flat_map(|files| {
            let found = groups.lines().find_map(|line| Some(line.split_once(files.line)?.1));
            let inner = mounted.join(files.root).join(found.unwrap_or("").trim_start_matches('/'));
            let outer = inner.ancestors().take_while(|group| group.starts_with(mounted));
            let limit = |group: &Path| Some((number(&group.join(files.limit))?, group.to_owned()));
            let limits: Vec<_> = outer.filter_map(limit).collect();
            limits.into_iter().map(move |(limit, group)| (limit, (group, files)))
        });
        let least = limits.filter(|(limit, _)| *limit < NO_LIMIT).min_by_key(|(limit, _)| *limit);
        let limit = least.iter().map(|(limit, _)| *limit).chain(configured).min()?;
        Some(Self { limit, group: least.map(|(_, group)| group) })
    }

    /// Bytes in use now; none if the kernel does not say.
    fn used(&self) -> Option<u64> {
        let Some((group, files)) = &self.group else {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            return Some(value(&status, "VmRSS:")?.saturating_mul(1024));
        };
        let used = number(&group.join(files.used))?;
        let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        Some(used.saturating_sub(value(&stat, files.inactive).unwrap_or(0)))
    }

    /// Keeps the gauge up to date for as long as the runtime lives.
    pub async fn follow(self, gauge: Arc<Gauge>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut pressure, limit) = (Pressure::None, self.limit);
        loop {
            ticks.tick().await;
            let Some(used) = self.used() else {
                continue;
            };
            let next = pressure.after(used, limit);
            if next == pressure {
                continue;
            }
            gauge.set(next);
            let level = next.level();
            if next > pressure {
                warn!(level, used, limit, "memory runs short");
            } else {
                info!(level, used, limit, "there is more memory again");
            }
            pressure = next;
        }
    }
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after a name at the beginning of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
