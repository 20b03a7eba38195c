//! The program under attack: a process of its own, and what the system and its admin port tell.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Time in which it must say where it listens.
const START: Duration = Duration::from_secs(20);
/// Clock ticks of `/proc/<pid>/stat` in a second; fixed at 100 for programs on Linux.
const TICKS: f64 = 100.0;

/// An edge; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Edge {
    process: Child,
    place: PathBuf,
    /// Where clients connect.
    pub(crate) web: SocketAddr,
    admin: SocketAddr,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        // It may have ended by itself, which its test has noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.place);
    }
}

impl Edge {
    /// Starts it with these lines of `[limits]`, and no more than so many open files if that is
    /// given. What is below `/attack` comes from another replica than everything else.
    pub(crate) fn start(
        limits: &str,
        files: Option<u32>,
        replica: SocketAddr,
        attacked: SocketAddr,
    ) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("siege-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&place).unwrap();
        let config = format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [log]\naccess = false\n\
             [provider]\nkind = \"file\"\npath = \"services.toml\"\n\
             [limits]\n{limits}\n"
        );
        fs::write(place.join("hiveway.toml"), config).unwrap();
        let service = |name, path, replica| {
            format!("[services.{name}]\nendpoints = [\"{replica}\"]\nhiveway.path = \"{path}\"\n")
        };
        let services = service("shop", "/", replica) + &service("attacked", "/attack", attacked);
        fs::write(place.join("services.toml"), services).unwrap();
        // The shell becomes the program that it runs: one process, one id. The log is read here.
        let limit = files.map_or_else(String::new, |files| format!("ulimit -n {files}; "));
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" edge --config \"$1\" 2>&1")])
            .arg(program())
            .arg(place.join("hiveway.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (complaints, told) = (Arc::default(), process.stdout.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on it is killed whatever happens.
        let edge = Self { process, place, web: nowhere, admin: nowhere, complaints };
        edge.listening(told)
    }

    /// Waits until it has told where clients and where watchers connect.
    fn listening(mut self, log: impl Read + Send + 'static) -> Self {
        let (sender, listens) = mpsc::channel();
        let complaints = Arc::clone(&self.complaints);
        thread::spawn(move || read_log(log, &sender, &complaints));
        while self.web.port() == 0 || self.admin.port() == 0 {
            let (is_admin, address) = listens.recv_timeout(START).expect("the edge did not start");
            *(if is_admin { &mut self.admin } else { &mut self.web }) = address;
        }
        self
    }

    /// Time on a CPU so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let line = self.proc("stat");
        // `pid (name) state parent ... utime stime ...`
        let fields: Vec<&str> = line.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS
    }

    /// Memory that is in use now, and the most that ever was, in MiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = self.proc("status");
        let kilobytes = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (kilobytes("VmRSS:").div_ceil(1024), kilobytes("VmHWM:").div_ceil(1024))
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        fs::read_to_string(path).expect("the edge runs no more")
    }

    /// Warnings and errors in its log so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// What its admin port tells.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the admin port answers");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        Metrics(text)
    }
}

/// The program: `SIEGE_PROGRAM`, else what was built with the tests.
fn program() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_hiveway").into();
    std::env::var_os("SIEGE_PROGRAM").map_or_else(built, PathBuf::from)
}

/// Sends on where it listens, and whether that is the admin port; counts what it complains about.
fn read_log(
    log: impl Read,
    listens: &mpsc::Sender<(bool, SocketAddr)>,
    complaints: &Mutex<Vec<String>>,
) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if value["message"] == "listening" {
            let address = value["address"].as_str().unwrap().parse().unwrap();
            // After both nobody waits for more.
            let _ = listens.send((value["listener"] == "admin", address));
        } else if value["level"] != "INFO" {
            complaints.lock().unwrap().push(line);
        }
    }
}

/// Metrics as Prometheus reads them.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of all samples of that name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let samples = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with(['{', ' ']));
        samples.map(|rest| rest.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }
}
