//! `hiveway token`: makes a new pair of secrets, and tells how Docker gets them.
//!
//! What it prints is a script, with what people should know behind `#`: it can be read, pasted or
//! piped into `sh`. Nothing is kept, so that each call makes another pair.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

use crate::keys::{AgentSecret, KEY_LENGTH, Role};

/// Why there is no new pair of secrets.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system has no randomness, or the cryptographic library fails.
    #[error("no secrets can be made: this machine gives no random numbers")]
    Randomness,
    /// A file is there, and may be the only copy of a secret in use.
    #[error(
        "{}: it exists, and is not overwritten: name another directory, or remove it if nothing \
         uses it any longer",
        .0.display()
    )]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{}: it cannot be written: {error}", file.display())]
    File {
        /// Which file or directory.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A new pair, as the commands that hand it to Docker.
///
/// # Errors
/// If there is no randomness.
pub fn as_commands() -> Result<String, TokenError> {
    let secret = new_secret()?;
    Ok(format!(
        "# A new pair of secrets, as commands for a manager of the Swarm. Whoever would rather have no\n\
         # copy in the history of his shell makes a pair with `hiveway token | sh`.\n\
         # For the agents alone: whoever has it can tell every edge where to send requests.\n\
         printf %s '{}' | docker secret create {} - &&\n\
         # For the edges; it follows from the first one, so the two belong together.\n\
         printf %s '{}' | docker secret create {} -\n",
        secret.to_text(),
        Role::Agent.secret_name(),
        secret.edge().to_text(),
        Role::Edge.secret_name(),
    ))
}

/// Writes a new pair to two files in a directory, which is made if need be, and says with which
/// commands Docker gets them. Only their owner can read them. Files that are there stay as they are.
///
/// # Errors
/// If one of the files is there already or cannot be written, or there is no randomness.
pub fn as_files(directory: &Path) -> Result<String, TokenError> {
    let secret = new_secret()?;
    let file_error = |file: &Path, error| TokenError::File { file: file.to_owned(), error };
    fs::create_dir_all(directory).map_err(|error| file_error(directory, error))?;
    let [agent, edge] = [Role::Agent, Role::Edge].map(|role| directory.join(role.secret_name()));
    let mut agent_file = create(&agent)?;
    let mut edge_file = create(&edge).inspect_err(|_| {
        let _ = fs::remove_file(&agent);
    })?;
    writeln!(agent_file, "{}", secret.to_text()).map_err(|error| file_error(&agent, error))?;
    writeln!(edge_file, "{}", secret.edge().to_text()).map_err(|error| file_error(&edge, error))?;
    let [agent, edge] = [&agent, &edge].map(|file| quoted(file));
    Ok(format!(
        "# A new pair of secrets is in these files. On a manager of the Swarm:\n\
         docker secret create {} {agent} &&\n\
         docker secret create {} {edge} &&\n\
         # Docker has them now, encrypted, and gives them to services alone.\n\
         rm {agent} {edge}\n",
        Role::Agent.secret_name(),
        Role::Edge.secret_name(),
    ))
}

fn new_secret() -> Result<AgentSecret, TokenError> {
    let mut random = [0; KEY_LENGTH];
    let filled = rand::fill(&mut random).and_then(|()| AgentSecret::new(random));
    filled.map_err(|Unspecified| TokenError::Randomness)
}

/// A new file that only its owner can read, from its first moment on.
fn create(file: &Path) -> Result<File, TokenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    made.map_err(|error| {
        let file = file.to_owned();
        let exists = error.kind() == io::ErrorKind::AlreadyExists;
        if exists { TokenError::Exists(file) } else { TokenError::File { file, error } }
    })
}

/// A path as a shell takes it, whatever letters it has.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keys::EdgeSecret;

    /// A directory of its own that is not there yet, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("hiveway-token-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name).join("it's new"))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    /// What stands between quotation marks.
    fn quotations(text: &str) -> Vec<&str> {
        text.split('\'').skip(1).step_by(2).collect()
    }

    fn commands(script: &str) -> Vec<&str> {
        script.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn a_pair_is_printed_as_commands_and_is_another_one_each_time() {
        let script = as_commands().unwrap();
        let printed = commands(&script);
        assert_eq!(printed.len(), 2);
        // Without the first one the second is of no use.
        for (command, end) in printed.iter().zip(["hiveway-agent - &&", "hiveway-edge -"]) {
            assert!(command.ends_with(&format!("' | docker secret create {end}")), "{command}");
        }
        let agent = AgentSecret::read(quotations(printed[0])[0].as_bytes()).unwrap();
        let edge = EdgeSecret::read(quotations(printed[1])[0].as_bytes()).unwrap();
        assert_eq!(edge.to_text(), agent.edge().to_text());
        assert_ne!(printed[0], commands(&as_commands().unwrap())[0]);
    }

    #[test]
    fn a_pair_is_written_to_files_that_only_their_owner_can_read() {
        let directory = Directory::new("files");
        let script = as_files(&directory.0).unwrap();
        let [agent, edge] = ["hiveway-agent", "hiveway-edge"].map(|name| directory.0.join(name));
        for file in [&agent, &edge] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let secret = AgentSecret::read(&fs::read(&agent).unwrap()).unwrap();
        let of_edges = EdgeSecret::read(&fs::read(&edge).unwrap()).unwrap();
        assert_eq!(of_edges.to_text(), secret.edge().to_text());
        assert!(!script.contains("_v1_"), "{script}");
        let first = commands(&script)[0];
        assert_eq!(first, format!("docker secret create hiveway-agent {} &&", quoted(&agent)));
        assert!(first.contains(r"/it'\''s new/"), "{script}");
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let directory = Directory::new("existing");
        fs::create_dir_all(&directory.0).unwrap();
        let [agent, edge] = ["hiveway-agent", "hiveway-edge"].map(|name| directory.0.join(name));
        fs::write(&edge, "in use").unwrap();
        let error = as_files(&directory.0).unwrap_err();
        assert!(matches!(&error, TokenError::Exists(file) if *file == edge), "{error}");
        assert_eq!(fs::read_to_string(&edge).unwrap(), "in use");
        assert!(!agent.exists());
    }
}
