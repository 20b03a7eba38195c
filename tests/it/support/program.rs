//! The program itself, as processes that are started, replaced and killed, and clients that count
//! what becomes of their requests meanwhile.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{PATIENCE, eventually};

/// A directory for options, services and unix sockets. Removed at the end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// For an edge in front of this replica, with these lines of options. Nothing in it depends on
    /// what else runs on this machine.
    pub(crate) fn new(replica: SocketAddr, options: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        // Short, for the paths of unix sockets are.
        let name = format!("hw-{}-{count}", std::process::id());
        let place = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&place.0).unwrap();
        let config = format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n\
             [sockets]\npath = \"s\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [provider]\nkind = \"file\"\npath = \"services.toml\"\n\
             [state]\ndir = \"state\"\n\
             [log]\naccess = false\n\
             [drain]\ndelay = \"300ms\"\ntimeout = \"3s\"\n\
             {options}\n"
        );
        place.write("hiveway.toml", &config);
        let services =
            format!("[services.shop]\nendpoints = [\"{replica}\"]\nhiveway.path = \"/\"\n");
        place.write("services.toml", &services);
        place
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    /// The unix socket of the role `sockets`.
    pub(crate) fn door(&self) -> PathBuf {
        self.0.join("s")
    }

    /// `hiveway sockets`, once its sockets can be taken, and the address of `web`.
    pub(crate) async fn holder(&self, workers: &str) -> (Program, SocketAddr) {
        let program = Program::start(&["sockets", "--workers", workers], &self.0);
        program.says("the sockets can be taken").await;
        let address = program.address("held");
        (program, address)
    }

    /// `hiveway edge`, once it accepts, and the address of `web`.
    pub(crate) async fn edge(&self, more: &[&str]) -> (Program, SocketAddr) {
        let program = Program::start(&[&["edge"], more].concat(), &self.0);
        program.says("routing table put in force").await;
        let is_web = |line: &str| line.contains("\"listening\"") && line.contains("\"web\"");
        eventually("it listens", || program.log().iter().any(|line| is_web(line))).await;
        let log = program.log();
        let line = log.iter().find(|line| is_web(line)).unwrap();
        let address = address_in(line);
        (program, address)
    }
}

fn address_in(line: &str) -> SocketAddr {
    let fields: serde_json::Value = serde_json::from_str(line).unwrap();
    fields["address"].as_str().unwrap().parse().unwrap()
}

/// A process of the program, which is killed when it is dropped.
pub(crate) struct Program {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which its test has noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    /// Starts it with these arguments and the options of that place.
    pub(crate) fn start(arguments: &[&str], place: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hiveway"))
            .args(arguments)
            .arg("--config")
            .arg(place.join("hiveway.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, told) = (Arc::<Mutex<Vec<String>>>::default(), process.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        std::thread::spawn(move || read(told, &lines));
        Self { process, log }
    }

    /// Its log so far, line by line.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until its log has these words; the line that has them.
    pub(crate) async fn says(&self, words: &str) -> String {
        let find = || self.log().into_iter().find(|line| line.contains(words));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(line) = find() {
                return line;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {words:?} in {:#?}", self.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The address in the line with that message.
    fn address(&self, message: &str) -> SocketAddr {
        let (log, message) = (self.log(), format!("\"message\":\"{message}\""));
        address_in(log.iter().find(|line| line.contains(&message)).expect("such a line"))
    }

    /// The processes that it has started, each with the letter of its state.
    pub(crate) fn children(&self) -> Vec<(Pid, char)> {
        let processes = std::fs::read_dir("/proc").unwrap();
        let processes = processes.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
        let child = |process: i32| {
            let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // `pid (name) state parent ...`
            let mut fields = line.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?.chars().next()?;
            let is_ours = fields.next()? == self.process.id().to_string();
            is_ours.then_some((Pid::from_raw(process)?, state))
        };
        processes.filter_map(child).collect()
    }

    /// Kills its one child, and waits until there is nothing left of it. Which one it was.
    pub(crate) async fn lose_child(&self) -> Pid {
        eventually("there is a child", || self.children().len() == 1).await;
        let child = self.children()[0].0;
        kill_process(child, Signal::KILL).unwrap();
        let is_gone = || self.children().iter().all(|(process, _)| *process != child);
        eventually("the child is gone", is_gone).await;
        child
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ended", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Tells it to end as Docker does, and waits until it has, with success.
    pub(crate) async fn stop(mut self) {
        self.send(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}: {:#?}", self.log());
    }
}

fn read(told: impl Read, log: &Mutex<Vec<String>>) {
    for line in BufReader::new(told).lines().map_while(Result::ok) {
        log.lock().unwrap().push(line);
    }
}

/// Clients that ask one after the other, some on a connection that they keep, some on a new one each
/// time. They repeat nothing: what fails has failed.
pub(crate) struct Load {
    clients: JoinSet<Result<usize, String>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (mut clients, stop, done) = (JoinSet::new(), Arc::default(), Arc::default());
        for number in 0..8 {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            clients.spawn(ask_on(address, number % 2 == 0, stop, done));
        }
        Self { clients, stop, done }
    }

    /// Waits until that many more requests have been answered.
    pub(crate) async fn goes_on(&mut self, requests: usize) {
        let wanted = self.done.load(Relaxed) + requests;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.done.load(Relaxed) < wanted {
            let ended = self.clients.try_join_next();
            let late = tokio::time::Instant::now() >= deadline;
            assert!(ended.is_none() && !late, "requests are no longer answered: {ended:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends it. How many requests were answered, and why others failed.
    pub(crate) async fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Relaxed);
        let mut failed = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            failed.extend(ended.unwrap().err());
        }
        (self.done.load(Relaxed), failed)
    }
}

/// Asks until it is told to stop, or a request fails.
async fn ask_on(
    address: SocketAddr,
    keeps: bool,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<usize, String> {
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Relaxed) {
        let stream = match kept.take() {
            Some(stream) => Ok(stream),
            None => TcpStream::connect(address).await,
        };
        let mut stream = stream.map_err(|error| format!("connecting: {error}"))?;
        let asked = tokio::time::timeout(PATIENCE, ask(&mut stream)).await;
        let stays = asked.map_err(|_| "no answer in time")??;
        done.fetch_add(1, Relaxed);
        kept = (keeps && stays).then_some(stream);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(done.load(Relaxed))
}

/// One request, which is answered with 200. Whether the connection stays.
pub(crate) async fn ask(stream: &mut TcpStream) -> Result<bool, String> {
    let failed = |error: std::io::Error| format!("asking: {error}");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").await.map_err(failed)?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await.map_err(failed)? == 0 {
            return Err(format!("closed after {:?}", String::from_utf8_lossy(&read)));
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200") {
            return Err(text.into_owned());
        }
        let length = super::field(head, "content-length").unwrap().parse::<usize>().unwrap();
        if body.len() == length {
            return Ok(super::field(head, "connection") != Some("close"));
        }
    }
}
