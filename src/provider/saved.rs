//! Keeps what another provider says in a file, and begins with it when that one is silent.
//!
//! An edge that restarts while no engine answers serves the last table that was known. The file is
//! replaced as a whole or not at all; what stands in it, `saved_inventory` says. Nothing here ever
//! stops the other provider from being heard: what fails is warned of once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::{Provider, Publisher, Update};
use crate::feed::order::RaftTime;
use crate::saved_inventory::{self, MOST_BYTES, SavedError, SavedInventory};

/// The file's name in the directory.
pub const FILE: &str = "inventory.json";

/// How long the other provider may be silent. An engine that is well answers within some 50 ms, but in a new
/// container DNS may need seconds to tell where agents are; and where another edge still serves, to begin
/// with what was saved before the last change would take that back.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Between two writes at least. A rolling update changes the inventory several times a second, and
/// each write waits for the disk.
const DISTANCE: Duration = Duration::from_secs(1);

/// After a write that failed, if nothing changes before.
const AGAIN: Duration = Duration::from_mins(1);

/// The time of what was saved in the directory: whoever tells what is older is behind.
pub fn time(directory: &Path) -> Option<RaftTime> {
    // What is wrong with the file is said when it is needed.
    read(&directory.join(FILE)).ok()?.time
}

type Updates = watch::Receiver<Option<Update>>;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Form(#[from] SavedError),
    #[error("the process is ending")]
    Ending,
}

/// A provider that says what `live` says, and before its first word, once `patience` is over, what
/// was saved in the directory; and what drives it: to be spawned once. It ends with `live`.
pub fn follow(
    live: &Provider,
    directory: &Path,
    patience: Duration,
) -> (Provider, impl Future<Output = ()> + Send + use<>) {
    let (sender, receiver) = watch::channel(None);
    // When `live` has listed is when this one has: never, for what was saved.
    let asked = Arc::clone(&live.asked);
    let provider = Provider { updates: receiver, asked, shared: Arc::clone(&live.shared) };
    let publisher = Publisher { updates: sender, shared: Arc::clone(&live.shared) };
    let file = directory.join(FILE);
    let relaying = relay(live.updates(), publisher, file.clone(), patience);
    let keeping = keep(live.updates(), file);
    (provider, async move {
        tokio::join!(relaying, keeping);
    })
}

/// Passes on what is said.
async fn relay(mut live: Updates, publisher: Publisher, file: PathBuf, patience: Duration) {
    if timeout(patience, live.wait_for(Option::is_some)).await.is_err() {
        let saved = load(file).await;
        if let (Some(saved), None) = (saved, &*live.borrow()) {
            publisher.publish(saved);
        }
    }
    loop {
        let update = live.borrow_and_update().clone();
        if let Some(update) = update {
            publisher.publish(update);
        }
        if live.changed().await.is_err() {
            return;
        }
    }
}

async fn load(file: PathBuf) -> Option<Update> {
    let name = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || read(&file));
    match read.await.unwrap_or(Err(FileError::Ending)) {
        Ok(SavedInventory { inventory, networks, time }) => {
            let services = inventory.services.len();
            warn!(
                file = name,
                services,
                "the provider has said nothing yet: starting from the inventory that was saved"
            );
            let networks = networks.map(Arc::from);
            Some(Update { inventory: Arc::new(inventory), networks, time })
        }
        Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            debug!(file = name, "the provider is silent, and no inventory was saved");
            None
        }
        Err(error) => {
            warn!(
                "the provider is silent, and the inventory saved in {name} cannot be used: {error}; \
                 waiting for the provider, whose next inventory will replace it"
            );
            None
        }
    }
}

fn read(file: &Path) -> Result<SavedInventory, FileError> {
    let mut bytes = Vec::new();
    // One byte more than it may have, so that it is seen to be too long.
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)?.take(most).read_to_end(&mut bytes)?;
    Ok(saved_inventory::read(&bytes)?)
}

/// Saves what is said.
async fn keep(mut live: Updates, file: PathBuf) {
    let mut failed = false;
    loop {
        let update = live.borrow_and_update().clone();
        if let Some(update) = update {
            let outcome = store(update, file.clone()).await;
            tell(&outcome, failed, &file);
            failed = outcome.is_err();
            sleep(DISTANCE).await;
        }
        let changed = live.changed();
        let ended = if failed {
            matches!(timeout(AGAIN, changed).await, Ok(Err(_)))
        } else {
            changed.await.is_err()
        };
        if ended {
            return;
        }
    }
}

/// Says that writing has failed, or works again; not more often than that changes.
fn tell(outcome: &Result<(), FileError>, failed: bool, file: &Path) {
    let file = file.display();
    match outcome {
        Ok(()) if failed => info!(%file, "the inventory is saved again"),
        Ok(()) => debug!(%file, "the inventory was saved"),
        Err(error) if failed => debug!(%file, %error, "the inventory cannot be saved"),
        Err(error) => warn!(
            "the inventory cannot be saved in {file}, so that a restart needs the provider: \
             {error}; let Hiveway's user write there, or name another directory as `dir` in \
             `[state]`"
        ),
    }
}

async fn store(update: Update, file: PathBuf) -> Result<(), FileError> {
    let write = move || {
        let Update { inventory, networks, time } = &update;
        let bytes = saved_inventory::write(inventory, networks.as_deref(), time.as_ref())?;
        Ok(replace(&file, &bytes)?)
    };
    tokio::task::spawn_blocking(write).await.unwrap_or(Err(FileError::Ending))
}

/// Replaces the file: whoever reads it, also after a power failure, finds the old one or the new.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Of a name of its own: the edge that is being replaced may write at the same time.
    let new = file.with_extension(format!("{:016x}", fastrand::u64(..)));
    let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}
