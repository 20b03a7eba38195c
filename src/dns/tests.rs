use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_millis(100);

/// A server whose answer is told by the name's first label.
struct FakeServer {
    address: SocketAddr,
    _running: JoinSet<()>,
}

/// Whether the server also listens by TCP.
#[derive(PartialEq)]
enum Tcp {
    Yes,
    No,
}

impl FakeServer {
    async fn start(tcp: Tcp) -> Self {
        let (udp, listener) = bind().await;
        let address = udp.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(serve_udp(udp));
        if tcp == Tcp::Yes {
            running.spawn(serve_tcp(listener));
        }
        Self { address, _running: running }
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(Some(self.address), PATIENCE).unwrap()
    }
}

/// Both protocols on one port: the kernel picks it for one, and another if the other has it.
async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut query).await {
        if let Some(reply) = reply(&query[..length], 16) {
            socket.send_to(&reply, client).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        while let Ok(length) = stream.read_u16().await {
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            if let Some(reply) = reply(&query, usize::MAX) {
                stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        }
    }
}

/// An answer with at most so many addresses (RFC 1035, section 4.1); none for silence.
fn reply(query: &[u8], fit: usize) -> Option<Vec<u8>> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let question = &query[12..name_end + 4];
    let (code, addresses): (u8, u16) = match &question[1..=usize::from(question[0])] {
        b"silent" => return None,
        b"unknown" => (3, 0),
        b"broken" => (2, 0),
        b"refused" => (5, 0),
        b"empty" => (0, 0),
        b"large" => (0, 100),
        _ => (0, 2),
    };
    let sent = usize::from(addresses).min(fit);
    let truncated = if sent < usize::from(addresses) { 0x02 } else { 0 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81 | truncated, 0x80 | code, 0, 1, 0, sent.try_into().unwrap(), 0, 0, 0, 0]);
    reply.extend(question);
    for last in 0..sent {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 0, last.try_into().unwrap()]);
    }
    Some(reply)
}

fn ten(range: std::ops::Range<u8>) -> Answer {
    Answer::Addresses(range.map(|last| Ipv4Addr::new(10, 0, 0, last).into()).collect())
}

#[tokio::test]
async fn names_with_underscores_are_asked_for_with_and_without_the_final_dot() {
    let server = FakeServer::start(Tcp::Yes).await;
    let resolver = server.resolver();
    assert_eq!(resolver.addresses("tasks.shop_web.web").await, ten(0..2));
    assert_eq!(resolver.addresses("tasks.shop_web.web.").await, ten(0..2));
}

#[tokio::test]
async fn each_way_to_say_nothing_is_told_apart() {
    let server = FakeServer::start(Tcp::Yes).await;
    let resolver = server.resolver();
    let overlong = "a".repeat(64);
    for (name, silence) in [
        ("unknown.web", Silence::UnknownName),
        ("broken.web", Silence::ServerFailure),
        ("refused.web", Silence::ServerFailure),
        ("empty.web", Silence::Empty),
        ("silent.web", Silence::Timeout),
        (overlong.as_str(), Silence::InvalidName),
    ] {
        assert_eq!(resolver.addresses(name).await, Answer::Nothing(silence), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again_by_tcp() {
    let server = FakeServer::start(Tcp::Yes).await;
    assert_eq!(server.resolver().addresses("large.web").await, ten(0..100));
}

#[tokio::test]
async fn an_answer_that_stays_cut_is_no_answer() {
    let server = FakeServer::start(Tcp::No).await;
    let answer = server.resolver().addresses("large.web").await;
    assert!(matches!(answer, Answer::Nothing(_)), "{answer:?}");
}

#[tokio::test]
async fn silence_costs_the_timeout_once() {
    let server = FakeServer::start(Tcp::Yes).await;
    let start = Instant::now();
    server.resolver().addresses("silent.web").await;
    assert!(start.elapsed() >= PATIENCE);
    // The resolver's own bound, with room for a machine that is busy with other tests.
    assert!(start.elapsed() < PATIENCE * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn nothing_is_remembered_of_a_server_that_was_silent() {
    let server = FakeServer::start(Tcp::Yes).await;
    let resolver = server.resolver();
    let mut questions = JoinSet::new();
    for number in 0..100 {
        let resolver = resolver.clone();
        let first = if number % 2 == 0 { "silent" } else { "tasks" };
        questions.spawn(async move { (first, resolver.addresses(&format!("{first}.x")).await) });
    }
    for (first, answer) in questions.join_all().await {
        let expected =
            if first == "silent" { Answer::Nothing(Silence::Timeout) } else { ten(0..2) };
        assert_eq!(answer, expected, "{first}");
    }
}

#[tokio::test]
async fn the_systems_resolver_reads_the_hosts_file() {
    let resolver = Resolver::new(None, PATIENCE).unwrap();
    let Answer::Addresses(addresses) = resolver.addresses("localhost").await else {
        panic!("localhost has no address");
    };
    assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
}
