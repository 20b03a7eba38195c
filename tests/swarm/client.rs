//! A client outside the Swarm: single requests, a WebSocket and a download that stay open.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use crate::exchange::{Answer, Connection, Failure, request};
use crate::lab::wait_for;

/// Port 80 of node 1.
pub(crate) const EDGE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1)), 80);

/// Time in which every change must have come through, with room for a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// One GET on a connection of its own, five seconds at most.
pub(crate) fn get_from(address: SocketAddr, host: &str, path: &str) -> Result<Answer, Failure> {
    get_with(address, host, path, &[])
}

/// As [`get_from`], with further fields.
pub(crate) fn get_with(
    address: SocketAddr,
    host: &str,
    path: &str,
    fields: &[&str],
) -> Result<Answer, Failure> {
    let host = format!("Host: {host}");
    let request = request("GET", path, &[&[&host, "Connection: close"], fields].concat(), &[]);
    on_a_runtime(async {
        let exchange = async { Connection::open(address).await?.exchange(&request).await };
        tokio::time::timeout(Duration::from_secs(5), exchange)
            .await
            .unwrap_or(Err(Failure::Timeout))
    })
}

/// As [`get_from`], at the edge.
pub(crate) fn get(host: &str, path: &str) -> Result<Answer, Failure> {
    get_from(EDGE, host, path)
}

/// Waits until a GET is answered with that status.
pub(crate) fn wait_status(host: &str, path: &str, status: u16) {
    wait_for(&format!("{status} from {host}{path}"), SOON, || {
        (get(host, path).ok()?.status == status).then_some(())
    });
}

/// Waits until exactly so many replicas answer `GET /`, each seen in ten requests for each of them.
pub(crate) fn wait_replicas(host: &str, count: usize) -> BTreeSet<String> {
    wait_for(&format!("{count} replicas to answer for {host}"), SOON, || {
        let seen: BTreeSet<_> = (0..10 * count.max(1)).filter_map(|_| replica(host)).collect();
        (seen.len() == count).then_some(seen)
    })
}

/// Who answers `GET /`, if it is answered with 200.
pub(crate) fn replica(host: &str) -> Option<String> {
    let answer = get(host, "/").ok()?;
    let name = answer.field("x-replica").map(str::to_owned);
    name.filter(|_| answer.status == 200)
}

/// Who answers `GET path`: the task's name up to its slot, so the service.
pub(crate) fn service(host: &str, path: &str) -> Option<String> {
    let answer = get(host, path).ok()?;
    let replica = answer.field("x-replica").filter(|_| answer.status == 200)?;
    Some(replica.split('.').next().unwrap_or_default().to_owned())
}

/// A WebSocket on which a message goes to and fro five times a second.
#[derive(Debug)]
pub(crate) struct OpenWebSocket {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<u32, String>>,
}

impl OpenWebSocket {
    /// Opens it.
    pub(crate) fn open(address: SocketAddr, host: &str) -> Self {
        let (stop, stopped) = oneshot::channel();
        let url = format!("ws://{host}/ws");
        let thread = thread::spawn(move || on_a_runtime(echo(address, url, stopped)));
        Self { stop, thread }
    }

    /// Closes it.
    ///
    /// # Errors
    ///
    /// What ended it before, or what it did wrong; else how many messages came back.
    pub(crate) fn close(self) -> Result<u32, String> {
        // It may have ended by itself, which is what the result tells.
        let _ = self.stop.send(());
        self.thread.join().expect("the WebSocket's thread")
    }
}

async fn echo(
    address: SocketAddr,
    url: String,
    mut stopped: oneshot::Receiver<()>,
) -> Result<u32, String> {
    let told = |error: tokio_tungstenite::tungstenite::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(told)?;
    for number in 0_u32.. {
        let text = format!("message {number}");
        socket.send(Message::text(text.clone())).await.map_err(told)?;
        let next = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
        let answer = next.map_err(|_| format!("no echo of {text} within 5 s"))?;
        let answer = answer.ok_or("closed without a word")?.map_err(told)?;
        if answer != Message::text(text) {
            return Err(format!("message {number} came back as {answer:?}"));
        }
        tokio::select! {
            _ = &mut stopped => return socket.close(None).await.map(|()| number + 1).map_err(told),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
    Ok(u32::MAX)
}

/// A download that takes its time.
#[derive(Debug)]
pub(crate) struct SlowDownload {
    expected: usize,
    thread: JoinHandle<Result<Answer, Failure>>,
}

impl SlowDownload {
    /// One kilobyte every 100 ms, for so many seconds.
    pub(crate) fn start(address: SocketAddr, host: &str, seconds: usize) -> Self {
        let expected = seconds * 10 * 1000;
        let host = format!("Host: {host}");
        let path = format!("/bytes?n={expected}&chunk=1000&every=100");
        let request = request("GET", &path, &[&host], &[]);
        let thread = thread::spawn(move || {
            on_a_runtime(async { Connection::open(address).await?.exchange(&request).await })
        });
        Self { expected, thread }
    }

    /// Waits for its last byte.
    ///
    /// # Errors
    ///
    /// How it failed, a missing byte included.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        let answer = self.thread.join().expect("the download's thread")?;
        let whole = answer.status == 200 && answer.body.len() == self.expected;
        whole.then_some(()).ok_or(Failure::WrongBody)
    }
}
