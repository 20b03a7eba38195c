//! What is around the programs, all of it on loopback: Swarm's DNS, the replicas, and the wire between
//! agent and edge. Everything counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::swarm::Swarm;

/// Bytes of the head of a DNS message (RFC 1035, 4.1.1).
const DNS_HEAD: usize = 12;

/// A DNS server that answers for `tasks.<service>` as Swarm's does.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) address: SocketAddr,
    queries: Arc<AtomicU32>,
}

impl Names {
    pub(crate) async fn start(swarm: Arc<Mutex<Swarm>>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::<AtomicU32>::default();
        let count = Arc::clone(&queries);
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                count.fetch_add(1, Relaxed);
                let answer = answer(&query[..length], &swarm.lock().unwrap());
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, queries }
    }

    /// How many there were.
    pub(crate) fn queries(&self) -> u32 {
        self.queries.load(Relaxed)
    }
}

/// The answer to a query: addresses, or that there is no such name.
fn answer(query: &[u8], swarm: &Swarm) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = DNS_HEAD;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let question = &query[DNS_HEAD..at + 5];
    let addresses = match labels.as_slice() {
        [tasks, service, _network] if tasks == "tasks" => swarm.addresses(service),
        _ => None,
    };
    let code = if addresses.is_some() { 0 } else { 3 };
    let addresses = addresses.unwrap_or_default();
    let count = u8::try_from(addresses.len()).unwrap();
    // An answer, recursion available; one question, that many answers.
    let mut answer = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    answer.extend(question);
    for address in addresses {
        // The name as in the question, A, IN, 600 s, four bytes.
        answer.extend([0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 2, 0x58, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// Starts the replicas, which listen on every address of loopback; on which port.
pub(crate) async fn replicas() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                // The head of a request comes in one piece here.
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Passes connections on, and counts the bytes that come back.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    /// From whoever is connected to.
    bytes: Arc<AtomicU32>,
}

impl Wire {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::<AtomicU32>::default();
        let count = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pass(far_in, near_out, Arc::clone(&count)));
                tokio::spawn(pass(near_in, far_out, Arc::default()));
            }
        });
        Self { address, bytes }
    }

    /// Bytes from whoever is connected to, so far.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes.load(Relaxed)
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    count: Arc<AtomicU32>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        count.fetch_add(u32::try_from(length).unwrap(), Relaxed);
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
