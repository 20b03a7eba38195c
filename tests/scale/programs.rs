//! The programs: an agent and an edge, and what the kernel knows of them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// As long as anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Clock ticks of `/proc/<pid>/stat` in a second; fixed at 100 for programs on Linux.
const TICKS: f64 = 100.0;

/// A directory that is removed at the end.
#[derive(Debug)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("hiveway-scale-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hiveway() -> Command {
    Command::new(std::env::var("HIVEWAY").expect("the path of the program in HIVEWAY"))
}

/// Makes the secrets of agents and edges in a directory.
pub(crate) fn make_secrets(directory: &Path) {
    let mut token = hiveway();
    token.args(["token", "--directory"]).arg(directory).stdout(Stdio::null());
    assert!(token.status().unwrap().success());
}

/// One of Hiveway's roles, until it is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    process: Child,
    log: PathBuf,
    role: &'static str,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(10).collect();
            eprintln!("the {} said last, newest first:\n{}", self.role, end.join("\n"));
        }
    }
}

impl Program {
    /// Starts a role with these options, and what it calls itself in files.
    pub(crate) fn start(role: &'static str, directory: &Path, config: &str) -> Self {
        let file = directory.join(format!("{role}.toml"));
        std::fs::write(&file, config).unwrap();
        let log = directory.join(format!("{role}.log"));
        let process = hiveway()
            .args([role, "--config"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("HIVEWAY is the program");
        Self { process, log, role }
    }

    /// Where one of its listeners is, as its log tells.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        wait_for(&format!("{} to listen", self.role), || {
            let log = std::fs::read_to_string(&self.log).ok()?;
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let said = lines.into_iter().find(|said: &serde_json::Value| {
                said["message"] == "listening" && said["listener"] == listener
            })?;
            said["address"].as_str()?.parse().ok()
        })
    }

    /// Seconds on a CPU so far. A line of `stat` is `pid (name) state parent ... utime stime ...`.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS
    }

    /// Memory in use, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }
}

/// Waits until there is something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Asks for a path of a host; status and body, none without an answer.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The sum of a metric's series with these words in their labels.
pub(crate) fn metric(admin: SocketAddr, name: &str, words: &str) -> f64 {
    let (_, body) = get(admin, &admin.to_string(), "/metrics").expect("a scrape");
    let series = body.lines().filter(|line| line.starts_with(name) && line.contains(words));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}
