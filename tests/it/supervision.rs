//! An edge as pid 1 runs it: a child that dies and is followed by another one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hiveway::provider::saved::FILE;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::program::{Place, Program, ask};
use crate::support::{Ingress, Origin, eventually, soon, swarm_service};

async fn connected(address: SocketAddr) -> TcpStream {
    soon("a connection", TcpStream::connect(address)).await.expect("nobody is refused")
}

async fn answered(address: SocketAddr) {
    soon("an answer", ask(&mut connected(address).await)).await.unwrap();
}

/// How many lines of the log have these words.
fn lines_with(program: &Program, words: &str) -> usize {
    program.log().iter().filter(|line| line.contains(words)).count()
}

#[tokio::test]
async fn clients_wait_while_an_edge_that_died_is_started_again() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 2");
    let (edge, address) = place.edge(&["--supervise"]).await;
    edge.says("pid 1 keeps the sockets").await;
    for round in 1..=3 {
        answered(address).await;
        edge.lose_child().await;
        let mut waiting = Vec::new();
        for _ in 0..30 {
            waiting.push(connected(address).await);
        }
        for stream in &mut waiting {
            soon("an answer", ask(stream)).await.unwrap();
        }
        eventually("the next one is kept for", || {
            lines_with(&edge, "pid 1 keeps the sockets") == round + 1
        })
        .await;
    }
    assert!(edge.children().iter().all(|(_, state)| *state != 'Z'), "{:?}", edge.children());
    assert_eq!(edge.children().len(), 1);
    edge.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "nothing is left of it");
}

#[tokio::test]
async fn a_child_that_dies_before_it_serves_loses_nothing_either() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (edge, address) = place.edge(&["--supervise"]).await;
    edge.says("pid 1 keeps the sockets").await;
    let first = edge.lose_child().await;
    // Each of them is killed as soon as there is a process.
    let second = edge.lose_child().await;
    let third = edge.lose_child().await;
    assert!(first != second && second != third);
    answered(address).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_that_is_started_again_does_not_wait_for_a_silent_engine() {
    let origin = Origin::named("shop").await;
    let place =
        Place::new(origin.address, "[runtime]\nworkers = 1\n[dns]\nserver = \"127.0.0.1:9\"");
    let options = std::fs::read_to_string(place.0.join("hiveway.toml")).unwrap();
    let (file, docker) =
        ("kind = \"file\"\npath = \"services.toml\"", "kind = \"docker\"\nsocket = \"d\"");
    place.write("hiveway.toml", &options.replace(file, docker));
    // What an edge has saved whose engine answered.
    let mut earlier = Ingress::silent(&place.0.join("state")).await;
    let labels = format!("hiveway.port={}", origin.address.port());
    let tasks = [(Ipv4Addr::LOCALHOST, true)];
    earlier.announce([swarm_service("shop", &labels, 1, &tasks)]).await;
    eventually("it is saved", || place.0.join("state").join(FILE).exists()).await;
    earlier.stop();
    earlier.ended().await;
    let (edge, address) = place.edge(&["--supervise"]).await;
    answered(address).await;
    edge.lose_child().await;
    answered(address).await;
    assert_eq!(lines_with(&edge, "starting from the inventory that was saved"), 2);
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_with_held_sockets_is_started_again_too() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (_holder, address) = place.holder("1").await;
    let (edge, _) = place.edge(&["--supervise"]).await;
    answered(address).await;
    edge.lose_child().await;
    answered(address).await;
    edge.stop().await;
}

#[tokio::test]
async fn who_tells_pid_1_to_end_lets_requests_under_way_finish() {
    let leave = Arc::new(Notify::new());
    let asked = Arc::new(Notify::new());
    let (may_answer, is_asked) = (Arc::clone(&leave), Arc::clone(&asked));
    let origin = Origin::scripted(move |mut wire| {
        let (leave, asked) = (Arc::clone(&may_answer), Arc::clone(&is_asked));
        async move {
            while wire.next_head().await.is_some() {
                asked.notify_one();
                leave.notified().await;
                wire.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut edge, address) = place.edge(&["--supervise"]).await;
    let mut stream = connected(address).await;
    let request = tokio::spawn(async move { ask(&mut stream).await });
    soon("the request", asked.notified()).await;
    edge.send(Signal::TERM);
    edge.says("draining").await;
    // Who comes when it listens no more is refused: to wait would be in vain.
    let refusal = async { while TcpStream::connect(address).await.is_ok() {} };
    soon("the listener's end", refusal).await;
    leave.notify_one();
    assert_eq!(soon("the response", request).await.unwrap(), Ok(false));
    assert_eq!(edge.ended().await.code(), Some(0));
    assert_eq!(lines_with(&edge, "starting it again"), 0);
}

#[tokio::test]
async fn what_keeps_an_edge_from_starting_is_said_once_and_ends_pid_1() {
    let origin = Origin::named("shop").await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    for (options, words) in [
        ("[limits]\nhead-size = \"1KiB\"", "`limits.head-size`"),
        (&format!("[listeners.other]\naddress = \"{taken}\""), "cannot listen on"),
    ] {
        let place = Place::new(origin.address, options);
        let mut edge = Program::start(&["edge", "--supervise"], &place.0);
        assert_eq!(edge.ended().await.code(), Some(1));
        edge.says(words).await;
        assert_eq!(lines_with(&edge, "error: "), 1, "{:#?}", edge.log());
    }
}
