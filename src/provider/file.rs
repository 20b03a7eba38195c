//! Follows a file of services that a person wrote, without any Docker.
//!
//! The file is read four times a second and compared: file systems that containers mount do not
//! reliably tell of changes, and editors replace files instead of writing them. What the text means
//! is the reader's business, which is passed in.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{Provider, Publisher, channel};
use crate::clock;
use crate::inventory::{Inventory, SwarmService};

/// How often the file is looked at.
pub const POLL: Duration = Duration::from_millis(250);

/// The provider, and what drives it: to be spawned once, it never ends.
///
/// `read` turns the file's text into services, or says what is wrong with it; then the last good
/// state stands.
pub fn follow<R>(
    path: &Path,
    poll: Duration,
    read: R,
) -> (Provider, impl Future<Output = ()> + Send + use<R>)
where
    R: Fn(&str) -> Result<Vec<SwarmService>, String> + Send,
{
    let (provider, publisher) = channel();
    (provider, run(path.to_owned(), poll, read, publisher))
}

async fn run<R>(path: PathBuf, poll: Duration, read: R, publisher: Publisher)
where
    R: Fn(&str) -> Result<Vec<SwarmService>, String> + Send,
{
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The last look, and what became of the text that was read last.
    let mut seen: Option<Result<String, String>> = None;
    let mut settled = None;
    loop {
        ticks.tick().await;
        let at = clock::now();
        let text = load(path.clone()).await;
        let is_steady = seen.as_ref().is_none_or(|seen| *seen == text);
        match (is_steady, settled) {
            // Somebody is writing: half a file must not be taken for a whole one.
            (false, _) => settled = None,
            (true, Some(true)) => publisher.confirmed(at),
            (true, Some(false)) => {}
            (true, None) => {
                settled = Some(match text.as_deref().map_err(Clone::clone).and_then(&read) {
                    Ok(services) => {
                        info!(provider = "file", services = services.len(), "the file was read");
                        publisher.succeeded(Inventory { services }, None, at);
                        true
                    }
                    Err(problem) => {
                        let file = path.display();
                        warn!(provider = "file", %file, problem, "the last good state stands");
                        publisher.failed();
                        false
                    }
                });
            }
        }
        seen = Some(text);
    }
}

async fn load(path: PathBuf) -> Result<String, String> {
    match tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_shutting_down) => Err("the process is ending".to_owned()),
    }
}

fn unreadable(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "there is no such file; write it, or correct `path` in `[provider]`".to_owned()
    } else if error.kind() == io::ErrorKind::InvalidData {
        "the file is not UTF-8 text; save it as such".to_owned()
    } else {
        format!("the file cannot be read ({error}); see its permissions")
    }
}
