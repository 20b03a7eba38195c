//! Edges and holders of sockets come and go as processes, and no client notices.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hiveway::handover;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::program::{Load, Place, Program, ask};
use crate::support::{Origin, eventually, soon};

/// Asks that many times, each time on a new connection.
async fn answered(address: std::net::SocketAddr, times: usize) {
    for _ in 0..times {
        let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        soon("an answer", ask(&mut stream)).await.unwrap();
    }
}

#[tokio::test]
async fn an_edge_is_replaced_while_clients_ask_and_none_of_them_notices() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 2");
    let (_holder, address) = place.holder("2").await;
    let (mut edge, same) = place.edge(&[]).await;
    assert_eq!(address, same);
    let mut load = Load::start(address);
    for _ in 0..3 {
        load.goes_on(200).await;
        let (next, _) = place.edge(&[]).await;
        load.goes_on(200).await;
        std::mem::replace(&mut edge, next).stop().await;
    }
    load.goes_on(200).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "of {answered}: {failed:?}");
}

#[tokio::test]
async fn a_holder_that_is_asked_to_end_waits_for_its_successor_while_an_edge_accepts() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut holder, address) = place.holder("2").await;
    let (mut edge, _) = place.edge(&[]).await;
    holder.send(Signal::TERM);
    holder.says("waiting for a successor").await;
    let (next, same) = place.holder("2").await;
    assert_eq!(same, address);
    assert!(next.says("held").await.contains("\"inherited\":2,\"bound\":0"));
    assert!(holder.ended().await.success());
    // The edge has found it, and is the only one that stays.
    let took = || edge.log().iter().filter(|line| line.contains("took sockets")).count();
    eventually("the edge has asked the successor", || took() == 2).await;
    holder = next;
    holder.send(Signal::TERM);
    holder.says("waiting for a successor").await;
    answered(address, 10).await;
    let asked = Instant::now();
    edge.send(Signal::TERM);
    assert!(holder.ended().await.success());
    assert!(edge.ended().await.success());
    assert!(asked.elapsed() < Duration::from_secs(5), "nobody comes: {:?}", asked.elapsed());
    assert!(TcpStream::connect(address).await.is_err(), "nobody waits for nobody");
}

#[tokio::test]
async fn a_holder_that_is_asked_to_end_and_has_no_edge_waits_for_nobody() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut holder, _) = place.holder("1").await;
    let (edge, _) = place.edge(&[]).await;
    edge.stop().await;
    let asked = Instant::now();
    holder.send(Signal::TERM);
    assert!(holder.ended().await.success());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_holder_is_replaced_by_one_that_inherits_and_nobody_notices() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut holder, address) = place.holder("2").await;
    let (mut edge, _) = place.edge(&[]).await;
    let mut load = Load::start(address);
    for _ in 0..3 {
        load.goes_on(200).await;
        let (next, same) = place.holder("2").await;
        assert_eq!(same, address);
        assert!(next.says("held").await.contains("\"inherited\":2,\"bound\":0"));
        std::mem::replace(&mut holder, next).stop().await;
        // And an edge that has its sockets from the new one.
        let (next, _) = place.edge(&[]).await;
        std::mem::replace(&mut edge, next).stop().await;
    }
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "of {answered}: {failed:?}");
}

#[tokio::test]
async fn a_holder_that_was_killed_is_followed_by_one_beside_it_and_both_are_served() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut holder, address) = place.holder("1").await;
    let (edge, _) = place.edge(&[]).await;
    let mut load = Load::start(address);
    load.goes_on(200).await;
    holder.send(Signal::KILL);
    holder.ended().await;
    load.goes_on(200).await;
    // Its port is known now, and the kernel would choose another one.
    let options = std::fs::read_to_string(place.0.join("hiveway.toml")).unwrap();
    place.write("hiveway.toml", &options.replacen("127.0.0.1:0", &address.to_string(), 1));
    let (_holder, same) = place.holder("2").await;
    assert_eq!(same, address);
    edge.says("accepting on more").await;
    load.goes_on(400).await;
    let (count, failed) = load.end().await;
    assert!(failed.is_empty(), "of {count}: {failed:?}");
    answered(address, 60).await;
}

#[tokio::test]
async fn who_connects_while_no_edge_is_there_waits_for_the_next_one() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    // More sockets than cores: each of them must be accepted on.
    let (_holder, address) = place.holder("3").await;
    let refused = TcpStream::connect(address).await;
    assert!(refused.is_err(), "there has been no edge yet");
    let (mut edge, _) = place.edge(&[]).await;
    answered(address, 60).await;
    edge.send(Signal::KILL);
    edge.ended().await;
    let mut waiting = Vec::new();
    for _ in 0..60 {
        waiting.push(soon("a connection", TcpStream::connect(address)).await.unwrap());
    }
    let (_edge, _) = place.edge(&["--workers", "5"]).await;
    for stream in &mut waiting {
        soon("an answer", ask(stream)).await.unwrap();
    }
    answered(address, 60).await;
}

#[tokio::test]
async fn an_edge_that_ends_leaves_who_waits_to_the_next_one() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (_holder, address) = place.holder("1").await;
    let (edge, _) = place.edge(&[]).await;
    edge.stop().await;
    let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    let (_edge, _) = place.edge(&[]).await;
    soon("an answer", ask(&mut stream)).await.unwrap();
}

#[tokio::test]
async fn guests_who_say_nothing_or_nonsense_keep_nobody_waiting() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "");
    let (_holder, _) = place.holder("1").await;
    let guest = |says: &[u8]| {
        let mut guest = UnixStream::connect(place.door()).unwrap();
        guest.write_all(says).unwrap();
        guest
    };
    let guests: Vec<_> =
        (0..20).flat_map(|_| [guest(b""), guest(b"GET / HTTP/1.1\r\n\r\n")]).collect();
    let path = place.door();
    let taken = tokio::task::spawn_blocking(move || handover::take(&path)).await.unwrap().unwrap();
    assert_eq!(taken.0.len(), 1);
    for mut guest in guests {
        guest.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        // Closed, and nothing told.
        assert!(matches!(std::io::Read::read(&mut guest, &mut [0]), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn what_a_dead_holder_left_stops_nobody() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "[runtime]\nworkers = 1");
    let (mut holder, _) = place.holder("1").await;
    holder.send(Signal::KILL);
    holder.ended().await;
    assert!(place.door().exists());
    let (edge, address) = place.edge(&[]).await;
    answered(address, 1).await;
    // A holder comes late: the edge serves its sockets as well.
    let (_holder, held) = place.holder("1").await;
    edge.says("accepting on more").await;
    answered(held, 10).await;
    answered(address, 10).await;
}

#[tokio::test]
async fn a_listener_that_is_not_held_is_bound_by_the_edge_which_says_what_to_add() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "");
    let (_holder, held) = place.holder("1").await;
    let options = std::fs::read_to_string(place.0.join("hiveway.toml")).unwrap();
    place.write(
        "hiveway.toml",
        &format!("{options}[listeners.api-v2]\naddress = \"127.0.0.1:0\"\n"),
    );
    let (edge, address) = place.edge(&[]).await;
    assert_eq!(address, held);
    edge.says("HIVEWAY_LISTENERS_API_V2_ADDRESS=127.0.0.1:0").await;
    answered(held, 10).await;
    let line = edge.says("\"listener\":\"api-v2\",\"address\":\"127.0.0.1:").await;
    assert!(line.contains("does not hold it"), "{line}");
}

#[tokio::test]
async fn a_health_check_tells_whether_sockets_can_be_taken() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "");
    let check = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hiveway"));
        command
            .args(["healthcheck", "--sockets"])
            .env("HIVEWAY_CONFIG", place.0.join("hiveway.toml"));
        command.output().unwrap()
    };
    let sick = check();
    assert!(!sick.status.success());
    assert!(String::from_utf8_lossy(&sick.stderr).contains("start `hiveway sockets` here"));
    let (_holder, address) = place.holder("2").await;
    let well = check();
    assert!(well.status.success(), "{well:?}");
    assert_eq!(String::from_utf8_lossy(&well.stdout), format!("web {address} x2\n"));
}

#[tokio::test]
async fn a_holder_says_which_address_it_cannot_have() {
    let origin = Origin::named("shop").await;
    let place = Place::new(origin.address, "");
    // Bound without the leave to share it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = std::fs::read_to_string(place.0.join("hiveway.toml")).unwrap();
    place.write("hiveway.toml", &options.replacen("127.0.0.1:0", &address, 1));
    let mut holder = Program::start(&["sockets"], &place.0);
    assert_eq!(holder.ended().await.code(), Some(1));
    eventually("it says why", || {
        holder.log().iter().any(|line| line.contains(&format!("cannot bind {address} for `web`")))
    })
    .await;
}
