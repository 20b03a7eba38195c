//! The programs: an edge with services from a file, and the Prometheus that scrapes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// As long as a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed at the end.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("hiveway-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is ended, whatever happens.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago: for programs that cannot say which one they got.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The body of the answer to a GET; none if there is no good answer.
fn get(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let host = format!("Host: {address}\r\nConnection: close");
    write!(stream, "GET {target} HTTP/1.0\r\n{host}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// An edge of two cores. What it writes about requests goes to a file: that is never too slow.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Running,
    log: PathBuf,
}

impl Edge {
    pub(crate) fn start(directory: &Directory, services: &str) -> Self {
        let program = std::env::var("HIVEWAY").expect("the path of the program in HIVEWAY");
        let admin = free_port();
        directory.put("services.toml", services);
        let config = format!(
            "[runtime]\nworkers = 2\n[listeners.web]\naddress = \"127.0.0.1:0\"\n[admin]\n\
             address = \"{admin}\"\n[drain]\ndelay = \"0s\"\ntimeout = \"5s\"\n[provider]\n\
             kind = \"file\"\npath = \"services.toml\"\n"
        );
        let config = directory.put("hiveway.toml", &config);
        let log = directory.0.join("access.log");
        let mut process = Command::new(program)
            .args(["edge", "--config"])
            .arg(config)
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .expect("HIVEWAY is the program");
        let mut messages = BufReader::new(process.stderr.take().unwrap()).lines();
        let process = Running(process);
        let address = messages.by_ref().find_map(|line| {
            let said: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            (said["message"] == "listening" && said["listener"] == "web")
                .then(|| said["address"].as_str().unwrap().to_owned())
        });
        let address = address.expect("an edge that listens").parse().unwrap();
        // Or it would wait for somebody to read.
        thread::spawn(move || messages.for_each(drop));
        Self { address, admin, process, log }
    }

    /// What Prometheus's own tool says about a scrape of this edge: nothing.
    pub(crate) fn check_scrape(&self) {
        let scrape = get(self.admin, "/metrics").expect("a scrape");
        let mut check = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool comes with prometheus");
        check.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "promtool: {said}");
    }

    /// Ends as SIGTERM asks it to; then the lines of its access log.
    pub(crate) fn end(mut self) -> Vec<serde_json::Value> {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let started = Instant::now();
        while self.process.0.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "the edge does not end");
            thread::sleep(Duration::from_millis(20));
        }
        let lines = BufReader::new(File::open(&self.log).unwrap()).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }
}

/// A Prometheus that scrapes an edge every second.
#[derive(Debug)]
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Running,
}

impl Prometheus {
    pub(crate) fn start(directory: &Directory, edge: SocketAddr) -> Self {
        let address = free_port();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n\
             - job_name: hiveway\n  static_configs:\n  - targets: [\"{edge}\"]\n"
        );
        let config = directory.put("prometheus.yml", &config);
        let messages = File::create(directory.0.join("prometheus.log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.0.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .expect("Debian's package `prometheus`");
        let prometheus = Self { address, _process: Running(process) };
        let started = Instant::now();
        while prometheus.ask("up == 1", "job").is_empty() {
            let messages = || std::fs::read_to_string(directory.0.join("prometheus.log"));
            assert!(started.elapsed() < PATIENCE, "nothing was scraped: {:?}", messages());
            thread::sleep(Duration::from_millis(100));
        }
        prometheus
    }

    /// The values of a query by one label; what is 0 is left out.
    pub(crate) fn ask(&self, query: &str, label: &str) -> BTreeMap<String, f64> {
        let all = percent_encoding::NON_ALPHANUMERIC;
        let query = percent_encoding::utf8_percent_encode(query, all);
        let Some(answer) = get(self.address, &format!("/api/v1/query?query={query}")) else {
            return BTreeMap::new();
        };
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let series = answer["data"]["result"].as_array().expect("a query that is answered");
        let value = |series: &serde_json::Value| {
            let name = series["metric"][label].as_str().unwrap_or_default().to_owned();
            (name, series["value"][1].as_str().unwrap().parse::<f64>().unwrap())
        };
        series.iter().map(value).filter(|(_, value)| *value != 0.0).collect()
    }
}
