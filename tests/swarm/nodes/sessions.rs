//! Sessions by cookie: each stays with its replica through what concerns others, whichever node it
//! comes to, and moves once when its replica dies.

use std::thread;
use std::time::Duration;

use super::{NODES, addresses, require_stack, served, wait_served};
use crate::client::{SOON, get_with};
use crate::docker::{Deployed, Service};
use crate::lab::wait_for;
use crate::replica::Replica;

const HOST: &str = "sticky.test";
const SESSIONS: usize = 12;

/// A client that keeps its cookie.
#[derive(Debug, Default)]
struct Session {
    cookie: Option<String>,
    /// Service and slot of who answered last.
    replica: String,
    /// How often that was another one than before.
    moves: u32,
}

impl Session {
    /// One that begins at node 1.
    fn begun() -> Self {
        let mut session = Self::default();
        session.ask(1);
        Self { moves: 0, ..session }
    }

    /// Asks at a node, and does as the answer says.
    fn ask(&mut self, node: u8) {
        let [address, _] = addresses(node, 80);
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}"));
        let fields: Vec<&str> = cookie.iter().map(String::as_str).collect();
        let answer = get_with(address, HOST, "/", &fields).expect("an answer");
        assert_eq!(answer.status, 200, "at node {node}: {answer:?}");
        if let Some(set) = answer.field("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        let task = answer.field("x-replica").expect("the task's name");
        let replica = task.rsplit_once('.').map_or(task, |(replica, _)| replica);
        if replica != self.replica {
            self.moves += 1;
            replica.clone_into(&mut self.replica);
        }
    }
}

/// Every session asks at every node.
fn ask_everywhere(sessions: &mut [Session]) {
    for node in NODES {
        for session in sessions.iter_mut() {
            session.ask(node);
        }
    }
}

fn assert_stayed(what: &str, sessions: &mut [Session]) {
    ask_everywhere(sessions);
    let moved: Vec<_> = sessions.iter().filter(|session| session.moves > 0).collect();
    assert!(moved.is_empty(), "{what}: {moved:?}");
}

#[test]
fn sessions_stay_on_every_node_and_those_of_a_dead_replica_move_once() {
    require_stack();
    let other = Service::new("busy").args(&["--update-order", "start-first"]);
    let other = served(other.label("hiveway.host=busy.test"), "busy", &NODES);
    // Where its containers can be reached from here.
    let service = Service::new("sticky").label(&format!("hiveway.host={HOST}"));
    let service = service.label("hiveway.sticky=sid").replicas(3).on_node(1).create();
    service.wait_running(3);
    for node in NODES {
        wait_served(node, HOST);
    }
    // Each edge has reached each of them by now.
    thread::sleep(Duration::from_secs(2));

    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::begun()).collect();
    assert_stayed("at other nodes", &mut sessions);
    for _ in 0..3 {
        other.update(&["--force"]);
        thread::sleep(Duration::from_secs(1));
        assert_stayed("while another service is updated", &mut sessions);
    }
    service.scale(5);
    service.wait_running(5);
    thread::sleep(Duration::from_secs(1));
    assert_stayed("with two replicas more", &mut sessions);
    sessions.extend((0..SESSIONS).map(|_| Session::begun()));
    check_death(&service, sessions);
}

/// One replica dies, and is replaced.
fn check_death(service: &Deployed, mut sessions: Vec<Session>) {
    let dead = Replica::one_of("sticky");
    let (mut its, mut others): (Vec<_>, Vec<_>) =
        sessions.drain(..).partition(|session| session.replica == dead.endpoint);
    let count = its.len();
    dead.signal("KILL");
    wait_for("the engine to see that it died", SOON, || {
        ask_everywhere(&mut its);
        ask_everywhere(&mut others);
        (service.running() == 4).then_some(())
    });
    wait_for("another task in its place", SOON * 2, || {
        ask_everywhere(&mut its);
        (service.running() == 5).then_some(())
    });
    thread::sleep(Duration::from_secs(2));
    ask_everywhere(&mut its);
    assert_stayed("while another replica died", &mut others);
    assert!(its.iter().all(|session| session.moves == 1), "{its:?}");
    eprintln!("{count} of {} sessions had to move, and moved once", count + others.len());
}
