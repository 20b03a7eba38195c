//! The role `sockets`: keeps the listening sockets, so that edges can come and go without a client
//! noticing.
//!
//! It binds and never listens or accepts: an edge that takes a socket listens on it once it has routes.
//! Until then clients are refused, and from then on they wait while no edge is there. Whoever starts
//! while another one runs takes over the sockets of that one, and binds only what it lacks. What it
//! hands over, and how, `handover` says.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::{self, Config};
use crate::handover::{self, Described, HandoverError, Held, LONGEST_LINE, PATIENCE, Wanted};
use crate::listener::{self, PAUSE_AFTER_ERROR};

/// Who may ask at once; there are a few edges on a node and somebody's mistake.
const GUESTS: u16 = 64;

/// What one that is asked to end waits for a successor at most: less than the 10 s that Docker gives by
/// default. A manager that has lost sight of a node has all tasks on it replaced at once, and the old ones
/// end before the new ones begin; edges of that moment would find nobody.
const SUCCESSION: Duration = Duration::from_secs(8);

/// Between two looks for a successor.
const LOOK: Duration = Duration::from_millis(100);

/// Why the sockets cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// An address is taken, or not allowed.
    #[error(
        "cannot bind {address} for `{listener}`: {source}; another program may have the port \
         (an edge that publishes it, or a web server of the host), or ports below 1024 may be \
         forbidden here: this role needs root with NET_BIND_SERVICE"
    )]
    Bind {
        /// The listener's name.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The unix socket cannot be made.
    #[error(
        "cannot hand over sockets at {path}: {source}; let Hiveway's user write in that directory, \
         or name another path of at most 80 bytes as `path` in `[sockets]`"
    )]
    Path {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing to be told, for a health check.
    #[error(
        "the sockets at {path} cannot be had: {source}\n  help: start `hiveway sockets` here, with \
         the same `path` in `[sockets]`"
    )]
    NoAnswer {
        /// Where.
        path: PathBuf,
        /// What happened.
        source: HandoverError,
    },
}

/// Keeps the sockets of the listeners and hands them to whoever asks, until `stop` completes; and then for as
/// long as an edge accepts on them and there is no successor, up to 8 s, or until `stop` completes once more.
/// The sockets stay open in the processes that have taken them.
///
/// # Errors
/// If an address cannot be bound, or the unix socket not be made.
pub async fn run(config: &Config, stop: impl AsyncFn()) -> Result<(), SocketsError> {
    let path = &config.sockets.path;
    let inherited = inherit(path);
    // Nobody knows here whether there will be a certificate.
    let sockets = complete(&config.listeners(true), config.runtime.threads(), inherited)?;
    let published = publish(path).and_then(|door| Ok((door, inode(path)?)));
    let (door, own) =
        published.map_err(|source| SocketsError::Path { path: path.clone(), source })?;
    info!(path = %path.display(), sockets = sockets.len(), "the sockets can be taken");
    let staying = Arc::new(Semaphore::new(GUESTS.into()));
    tokio::select! {
        () = welcome(door, Arc::new(sockets), Arc::clone(&staying)) => {}
        () = async {
            stop().await;
            info!("waiting for a successor or the edges' end; a second signal ends this at once");
            tokio::select! {
                () = succession(path, own) => {}
                // On a node that is drained nobody comes, and clients are not to wait for nobody.
                _ = staying.acquire_many(GUESTS.into()) => {}
                () = sleep(SUCCESSION) => {}
                () = stop() => {}
            }
        } => {}
    }
    // The name stays: it may be a successor's by now, and without anybody behind it means nothing.
    Ok(())
}

/// The sockets that are held at this path, in words, for Docker's HEALTHCHECK.
///
/// # Errors
/// If nobody answers, or holds none.
pub fn healthcheck(path: &Path) -> Result<String, SocketsError> {
    let failed = |source| SocketsError::NoAnswer { path: path.to_owned(), source };
    let sockets = handover::list(path).map_err(failed)?;
    let first = |it: &&Described| it.index == 0;
    let listeners = sockets.iter().filter(first).map(|it| {
        let Described { listener, address, count, index: _ } = it;
        format!("{listener} {address} x{count}")
    });
    Ok(listeners.collect::<Vec<_>>().join(", "))
}

/// The sockets of a predecessor that runs; none if there is none.
fn inherit(path: &Path) -> Vec<Held> {
    match handover::take(path) {
        Ok((sockets, _)) => sockets,
        Err(HandoverError::Nobody(error)) => {
            debug!(%error, "there is nobody to inherit from");
            Vec::new()
        }
        Err(error) => {
            warn!(%error, "a predecessor hands over nothing: binding beside it");
            Vec::new()
        }
    }
}

/// As many sockets for each listener as are wanted. Inherited ones are all kept, even if there are
/// more: to close one would cut off who waits in it.
fn complete(
    listeners: &[config::Listener],
    count: usize,
    mut inherited: Vec<Held>,
) -> Result<Vec<Held>, SocketsError> {
    let mut sockets = Vec::new();
    for config::Listener { name, address, .. } in listeners {
        let mut own: Vec<Held> = inherited.extract_if(.., |it| it.fits(name, *address)).collect();
        let kept = own.len();
        // With port 0 all have the one that was chosen at first.
        let address = own.first().map_or(*address, |first| first.address);
        match bind(name, address, count.saturating_sub(kept)) {
            Ok(bound) => own.extend(bound),
            Err(error) if kept > 0 => {
                warn!(listener = name, %error, kept, "there will be fewer sockets than wanted");
            }
            Err(source) => {
                return Err(SocketsError::Bind { listener: name.clone(), address, source });
            }
        }
        let bound = own.len().saturating_sub(kept);
        let address = own.first().map_or(address, |first| first.address);
        info!(listener = name, %address, inherited = kept, bound, "held");
        sockets.append(&mut own);
    }
    Ok(sockets)
}

fn bind(name: &str, address: SocketAddr, count: usize) -> io::Result<Vec<Held>> {
    let held = |socket: std::net::TcpListener| {
        let address = socket.local_addr()?;
        Ok(Held { listener: name.to_owned(), address, socket })
    };
    listener::reserve(address, count)?.into_iter().map(held).collect()
}

/// Completes when somebody else has published sockets at this path.
async fn succession(path: &Path, own: u64) {
    while inode(path).is_ok_and(|now| now == own) {
        sleep(LOOK).await;
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.ino())
}

/// A unix socket under this name, which at no moment is nobody's.
fn publish(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let new = path.with_extension(format!("{:08x}", fastrand::u32(..)));
    let published = UnixListener::bind(&new).and_then(|door| {
        // Edges are nobody in particular, and have no more rights than to connect.
        fs::set_permissions(&new, Permissions::from_mode(0o666))?;
        fs::rename(&new, path)?;
        Ok(door)
    });
    if published.is_err() {
        let _ = fs::remove_file(&new);
    }
    published
}

async fn welcome(door: UnixListener, sockets: Arc<Vec<Held>>, staying: Arc<Semaphore>) {
    let seats = Arc::new(Semaphore::new(GUESTS.into()));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match door.accept().await {
            Ok((guest, _)) => {
                let (sockets, staying) = (Arc::clone(&sockets), Arc::clone(&staying));
                tokio::spawn(async move {
                    let served = timeout(PATIENCE, serve(guest, &sockets)).await;
                    drop(seat);
                    match served.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                        Ok((wanted, guest)) => {
                            debug!(?wanted, "handed over");
                            // One too many is served as well; only its leave is not waited for.
                            let Ok(_stays) = staying.try_acquire() else { return };
                            left(guest).await;
                        }
                        Err(error) => debug!(%error, "nothing was handed over"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "nobody can ask for sockets");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Reads what a guest wants, which comes in one piece, and gives it. All of it fits into the guest's
/// buffer: one that does not read is not waited for.
async fn serve(mut guest: UnixStream, sockets: &[Held]) -> io::Result<(Wanted, UnixStream)> {
    let mut line = [0; LONGEST_LINE];
    let length = guest.read(&mut line).await?;
    let wanted = line.get(..length).and_then(Wanted::read);
    let wanted = wanted.ok_or(io::ErrorKind::InvalidData)?;
    let guest = guest.into_std()?;
    match wanted {
        Wanted::Sockets => handover::give(&guest, sockets)?,
        Wanted::List => handover::give_list(&guest, sockets)?,
    }
    Ok((wanted, UnixStream::from_std(guest)?))
}

/// Completes when a guest has closed its connection, which one that accepts does not before it ends.
async fn left(mut guest: UnixStream) {
    // It has nothing more to say.
    let _ = guest.read(&mut [0]).await;
}
