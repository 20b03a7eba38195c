//! Who stands on the control network without belonging there, and an edge that somebody has taken over.
//!
//! The attacks run as a process of their own, in the network of a task: this program again, asked for
//! its test [`inside`], which does nothing by itself.

use std::env;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hiveway::feed::PROTOCOL;
use hiveway::feed::request::{FOLLOW, HOSTNAME, PROTOCOL_NUMBER};
use hiveway::identity::{AgentKeys, EdgeKeys};
use hiveway::keys::{AgentSecret, EdgeSecret};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::entry::addresses_inside;
use super::everywhere::Everywhere;
use super::managers::kill_edge;
use super::{NODES, real_service, require_stack, served, wait_served};
use crate::lab::{AGENT, edges_secret, extended, script, stdout, wait_for};

/// Connections that are opened and left alone.
const CROWD: usize = 10_000;

/// More than an agent needs for a Swarm of any size that these tests have, in KiB.
const MOST_MEMORY: u64 = 64 << 10;

fn attack_time() -> Duration {
    Duration::from_secs(if extended() { 60 } else { 15 })
}

#[test]
fn strangers_on_the_control_network_and_an_edge_taken_over_disturb_nobody() {
    require_stack();
    let target = served(real_service("calm").replicas(2), "calm", &NODES);
    // One of the addresses that edges find agents at is his.
    let network = ["--network", "name=hiveway-control,alias=agent"];
    let intruder = real_service("intruder").on_node(2).args(&network);
    let _intruder = served(intruder, "intruder", &[1]);
    let before = Condition::of_agent();
    let load = Everywhere::start("calm.test", &[1, 2]);
    let attack = attack(&address_on_control(1, AGENT));
    let end = Instant::now() + attack_time() / 2;
    let mut worst = (Duration::ZERO, 0);
    for change in 0.. {
        let host = format!("calm{change}.test");
        let begun = Instant::now();
        target.label(&format!("hiveway.host=calm.test,{host}"));
        for node in [1, 2] {
            wait_served(node, &host);
        }
        worst = (worst.0.max(begun.elapsed()), worst.1.max(Condition::of_agent().memory));
        if Instant::now() > end {
            break;
        }
        // It looks for an agent anew, and finds the wrong one among them.
        kill_edge(3);
        wait_served(3, &host);
    }
    let told = attack.wait_with_output().expect("the attack's process");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    eprintln!(
        "{}",
        told.lines().filter(|line| line.starts_with("intruder")).collect::<Vec<_>>().join("\n")
    );
    eprintln!(
        "a label changed meanwhile -> live: max {:.0?}; the agent has {} KiB at most",
        worst.0, worst.1
    );
    load.stop().assert_nothing_failed("intruders on the control network");
    assert!(told.contains("intruder: done"), "{told}");
    assert!(worst.1 < MOST_MEMORY, "the agent had {} KiB", worst.1);
    wait_for("the agent to let go of what it held", Duration::from_mins(1), || {
        (Condition::of_agent().files <= before.files + 4).then_some(())
    });
}

fn address_on_control(node: u8, service: &str) -> String {
    let mut addresses = addresses_inside(node, service).into_iter();
    addresses.find(|address| address.starts_with("10.200.16.")).expect("an address on control")
}

/// How an agent is.
struct Condition {
    /// Resident, in KiB.
    memory: u64,
    /// Open files.
    files: usize,
}

impl Condition {
    fn of_agent() -> Self {
        let find = ["1", "pgrep", "--newest", "--full", "^/hiveway agent"];
        let process = stdout(&mut script("on.sh", &find));
        let status =
            stdout(&mut script("on.sh", &["1", "cat", &format!("/proc/{process}/status")]));
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let files = stdout(&mut script("on.sh", &["1", "ls", &format!("/proc/{process}/fd")]));
        Self { memory: number.expect("its memory"), files: files.lines().count() }
    }
}

/// Starts this program again in the intruder's network.
fn attack(agent: &str) -> Child {
    let program = env::current_exe().expect("this program");
    let mut command: Command = script("inside.sh", &["2", "intruder"]);
    command.arg(program).args(["--exact", "nodes::intruders::inside", "--ignored", "--nocapture"]);
    command.env("INTRUDER_AGENT", format!("{agent}:9401"));
    command.env("INTRUDER_SECRET", edges_secret());
    command.stderr(Stdio::piped()).spawn().expect("the attack")
}

/// All attacks at once, told on standard output.
#[test]
#[ignore = "runs within the network of a task, started by the test above"]
fn inside() {
    let agent: SocketAddr = env::var("INTRUDER_AGENT").unwrap().parse().unwrap();
    let secret = EdgeSecret::read(env::var("INTRUDER_SECRET").unwrap().as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let attacks = async {
        tokio::join!(
            pretend_to_be_an_agent(),
            follow_without_reading(agent, &secret),
            knock_without_key(agent),
            crowd(agent),
        );
    };
    runtime.block_on(async { timeout(attack_time() * 2, attacks).await.expect("the attacks end") });
    eprintln!("intruder: done");
}

/// Serves edges with a key of his own.
async fn pretend_to_be_an_agent() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9401)).await.unwrap();
    let keys = AgentKeys::new(&AgentSecret::new([7; 32]).unwrap(), None).unwrap();
    let (mut came, mut believed) = (0, 0);
    let pretending = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            came += 1;
            let shaken = timeout(Duration::from_secs(2), keys.accept(stream)).await;
            believed += usize::from(shaken.is_ok_and(|shaken| shaken.is_ok()));
        }
    };
    let _ = timeout(attack_time(), pretending).await;
    eprintln!("intruder: {came} connections from edges to an agent with a wrong key");
    assert!(came > 0, "no edge has tried it");
    assert_eq!(believed, 0, "an edge believed somebody else's key");
}

/// Has the edges' key, and takes nothing of what he asked for.
async fn follow_without_reading(agent: SocketAddr, secret: &EdgeSecret) {
    let keys = EdgeKeys::new(secret, None).unwrap();
    let mut held = Vec::new();
    for number in 0..3 {
        let stream = keys.connect(TcpStream::connect(agent).await.unwrap()).await.unwrap();
        let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = connecting.await.unwrap();
        let mut connection = Box::pin(connection);
        let request = Request::get(format!("https://agent{FOLLOW}"))
            .header(PROTOCOL_NUMBER, PROTOCOL)
            .header(HOSTNAME, format!("intruder{number}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let following = async {
            let mut response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200, "an edge's key is an edge's key");
            response.body_mut().frame().await.unwrap().unwrap();
            response
        };
        let response = tokio::select! {
            ended = &mut connection => panic!("the agent ended it: {ended:?}"),
            response = following => response,
        };
        // From here on nobody drives the connection.
        held.push((sender, connection, response));
    }
    eprintln!("intruder: 3 followers that take nothing");
    sleep(attack_time()).await;
    drop(held);
}

/// Tries it without a key, with the wrong one, and with anything.
async fn knock_without_key(agent: SocketAddr) {
    let wrong = AgentSecret::new([9; 32]).unwrap();
    let keys = EdgeKeys::new(wrong.edge(), None).unwrap();
    let (mut knocks, mut let_in) = (0, 0);
    let knocking = async {
        loop {
            let stream = TcpStream::connect(agent).await.unwrap();
            let shaken = timeout(Duration::from_secs(2), keys.connect(stream)).await;
            if let Ok(Ok(mut stream)) = shaken {
                // With TLS 1.3 a refusal comes after the handshake.
                let mut byte = [0];
                let read = timeout(Duration::from_secs(2), stream.read(&mut byte)).await;
                let_in += usize::from(matches!(read, Ok(Ok(1..))));
            }
            let mut stream = TcpStream::connect(agent).await.unwrap();
            let mut garbage = [0; 4096];
            fastrand::fill(&mut garbage);
            // The agent may have closed it: that is the point.
            let _ = stream.write_all(&garbage).await;
            let _ = stream.write_all(b"GET /follow HTTP/1.1\r\nHost: agent\r\n\r\n").await;
            knocks += 2;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(attack_time(), knocking).await;
    eprintln!("intruder: {knocks} connections with a wrong key or garbage");
    assert_eq!(let_in, 0, "the agent spoke with a stranger");
}

/// Opens connections and leaves them alone.
async fn crowd(agent: SocketAddr) {
    // The followers first: an address has a few seats only.
    sleep(Duration::from_secs(1)).await;
    let mut crowd = Vec::new();
    let (begun, mut failed) = (Instant::now(), 0);
    for _ in 0..CROWD {
        match TcpStream::connect(agent).await {
            Ok(stream) => crowd.push(stream),
            Err(_) => failed += 1,
        }
    }
    let took = begun.elapsed();
    eprintln!("intruder: {CROWD} connections in {took:.1?}, {failed} of them refused");
    sleep(attack_time().saturating_sub(took)).await;
}
