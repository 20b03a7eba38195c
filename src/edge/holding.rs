//! The role `sockets` as an edge sees it: somebody behind a unix socket, who may be replaced.
//!
//! A successor that could not inherit has bound sockets beside those of its predecessor. The kernel
//! spreads clients over all that are listened on, so an edge accepts on each that it has ever been
//! given, for its whole life.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::binding::complain_of_missing;
use super::intake::Intake;
use crate::config;
use crate::handover::{self, HandoverError, Held, Stay};

/// How often it is looked whether there is another unix socket under the name.
const POLL: Duration = Duration::from_millis(200);

/// What tells one unix socket from the next under the same name: device, inode, time of its last change.
type Mark = (u64, u64, i64, i64);

/// Who holds sockets, and what is known of them.
#[derive(Debug)]
pub(super) struct Holder {
    path: PathBuf,
    /// The unix socket that has been asked.
    asked: Option<Mark>,
    /// With whom this edge stays connected, for as long as it accepts.
    stay: Option<Stay>,
    /// The sockets that were given.
    known: HashSet<u64>,
    /// Whether it has been said that asking fails.
    complained: bool,
}

impl Holder {
    /// Whoever is behind this path.
    pub(super) fn at(path: &Path) -> Self {
        let (path, known) = (path.to_owned(), HashSet::new());
        Self { path, asked: None, stay: None, known, complained: false }
    }

    fn mark(&self) -> Option<Mark> {
        let found = std::fs::symlink_metadata(&self.path).ok()?;
        Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
    }

    /// Whether there is somebody who has not been asked yet.
    fn is_new(&self) -> bool {
        self.mark().is_some_and(|mark| self.asked != Some(mark))
    }

    /// All that is held; none if nobody answers. Blocks for a moment.
    pub(super) fn ask(&mut self) -> Option<Vec<Held>> {
        let mark = self.mark()?;
        match handover::take(&self.path) {
            Ok((held, stay)) => {
                (self.asked, self.stay, self.complained) = (Some(mark), Some(stay), false);
                info!(path = %self.path.display(), sockets = held.len(), "took sockets");
                Some(held)
            }
            // What a holder that was killed has left, which its successor will replace.
            Err(HandoverError::Nobody(_)) => None,
            Err(error) => {
                if !self.complained {
                    let path = self.path.display();
                    warn!(%path, %error, "no sockets can be had: asking again");
                    self.complained = true;
                }
                None
            }
        }
    }

    /// Leaves those that were not given before.
    fn only_new(&mut self, mut held: Vec<Held>) -> Vec<Held> {
        held.retain(|it| self.remember(it));
        held
    }

    /// Whether it was not given before.
    pub(super) fn remember(&mut self, held: &Held) -> bool {
        held.inode().is_ok_and(|inode| self.known.insert(inode))
    }
}

/// Accepts on what is handed out later.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) holder: Holder,
    pub(super) intake: Intake,
    pub(super) listeners: Vec<config::Listener>,
}

impl Following {
    /// Ends never. What was handed out counts as accepted on until this is dropped.
    pub(super) async fn run(self) {
        let Self { mut holder, intake, listeners } = self;
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !holder.is_new() {
                continue;
            }
            let asked = tokio::task::spawn_blocking(move || (holder.ask(), holder)).await;
            let Ok((held, same)) = asked else { return };
            holder = same;
            if let Some(held) = held {
                complain_of_missing(&listeners, &held);
                intake.open_fitting(holder.only_new(held), &listeners);
            }
        }
    }
}

/// The sockets that somebody at this path has now, so that who waits in them will be served.
pub(super) async fn held_at(path: PathBuf) -> HashSet<u64> {
    let inodes = move || {
        let held = handover::take(&path).map_or_else(|_| Vec::new(), |(held, _)| held);
        held.iter().filter_map(|it| it.inode().ok()).collect()
    };
    tokio::task::spawn_blocking(inodes).await.unwrap_or_default()
}
