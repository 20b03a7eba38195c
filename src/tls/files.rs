//! The files that certificates and keys are read from.
//!
//! They are read again and again and compared: secrets and volumes do not reliably tell of changes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Remedy;

/// Where Docker puts secrets. It need not exist.
const SECRETS: &str = "/run/secrets";

/// Bytes of one file. Docker's secrets have at most 500 kB; no chain with its key has a tenth.
const LARGEST: u64 = 1 << 20;

/// What was found, by path.
pub(super) type Listing = BTreeMap<PathBuf, Found>;

/// A file, or what is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its bytes, of a file that is too large only the first ones.
    pub(super) content: Result<Vec<u8>, Remedy>,
    /// Whether the options name the file itself, not its directory.
    pub(super) is_named: bool,
}

/// Reads the paths: files, and directories of files without their subdirectories.
pub(super) fn read(paths: &[PathBuf]) -> Listing {
    let mut listing = Listing::new();
    for path in paths {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => add_directory(&mut listing, path),
            Ok(_) => add(&mut listing, path, true),
            Err(error) if path == Path::new(SECRETS) && is_missing(&error) => {}
            Err(error) => refuse(&mut listing, path, &error),
        }
    }
    listing
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn add_directory(listing: &mut Listing, directory: &Path) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return refuse(listing, directory, &error),
    };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        // Links are followed, as volumes of some drivers have them; editors' leftovers are not read.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_file = fs::metadata(&path).is_ok_and(|found| found.is_file());
        if is_file && !name.starts_with('.') && !name.ends_with('~') {
            add(listing, &path, false);
        }
    }
}

fn add(listing: &mut Listing, path: &Path, is_named: bool) {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut content));
    match read {
        // Gone since the directory was read: it is no longer there, that is all.
        Err(error) if is_missing(&error) && !is_named => {}
        Err(error) => refuse(listing, path, &error),
        Ok(_) => {
            listing.insert(path.to_owned(), Found { content: Ok(content), is_named });
        }
    }
}

fn refuse(listing: &mut Listing, path: &Path, error: &io::Error) {
    let remedy = if is_missing(error) {
        let help = "put it there, or correct `certificates` or `client-ca` in `[tls]`";
        Remedy::new("there is no such file or directory", help)
    } else {
        let help = "give the user that Hiveway runs as the right to read it";
        Remedy::new(format!("it cannot be read ({error})"), help)
    };
    listing.insert(path.to_owned(), Found { content: Err(remedy), is_named: true });
}
