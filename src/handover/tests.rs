use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::*;

fn held(listener: &str, count: usize) -> Vec<Held> {
    let bind = |_| {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Held { listener: listener.to_owned(), address, socket }
    };
    (0..count).map(bind).collect()
}

#[test]
fn sockets_arrive_in_order_with_what_they_are_for_and_can_be_accepted_on() {
    let mut given = held("web", 2);
    // More than one message takes.
    given.extend(held("temporal", CHUNK + 3));
    let (ours, theirs) = UnixStream::pair().unwrap();
    give(&ours, &given).unwrap();
    let taken = receive(&theirs).unwrap();
    assert_eq!(describe(&taken), describe(&given));
    for (taken, given) in taken.iter().zip(&given) {
        assert_eq!(taken.inode().unwrap(), given.inode().unwrap());
        assert_eq!(taken.socket.local_addr().unwrap(), taken.address);
    }
    let last = taken.last().unwrap();
    drop(given);
    let client = TcpStream::connect(last.address).unwrap();
    assert_eq!(last.socket.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn a_list_tells_each_socket_of_each_listener() {
    let mut sockets = held("web", 2);
    sockets.extend(held("temporal", 1));
    let (ours, theirs) = UnixStream::pair().unwrap();
    give_list(&ours, &sockets).unwrap();
    let list = receive_list(&theirs).unwrap();
    let told: Vec<_> = list.iter().map(|it| (&*it.listener, it.index, it.count)).collect();
    assert_eq!(told, [("web", 0, 2), ("web", 1, 2), ("temporal", 0, 1)]);
}

#[test]
fn what_is_no_list_is_refused_and_nothing_is_waited_for() {
    let document = |text: &str| {
        let length = u32::try_from(text.len()).unwrap();
        [&length.to_be_bytes(), text.as_bytes()].concat()
    };
    let one =
        r#"{"version":1,"sockets":[{"listener":"web","address":"[::]:80","index":0,"count":1}]}"#;
    for (bytes, expected) in [
        (b"".to_vec(), "it broke off"),
        (b"\xff\xff\xff\xff".to_vec(), "it broke off"),
        (b"\0\0\0\x10{".to_vec(), "it broke off"),
        (document("[]"), "no list of sockets"),
        (document("{}"), "no list of sockets"),
        (document(r#"{"version":2,"sockets":"elsewhere"}"#), "version 2"),
        // The socket itself does not come.
        (document(one), "it broke off"),
        ([document(one), b"+".to_vec()].concat(), "it broke off"),
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&bytes).unwrap();
        drop(ours);
        let error = receive(&theirs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_line_says_what_is_wanted_or_nothing() {
    for wanted in [Wanted::Sockets, Wanted::List] {
        assert_eq!(Wanted::read(wanted.line().as_bytes()), Some(wanted));
        assert!(wanted.line().len() < LONGEST_LINE);
    }
    assert_eq!(Wanted::read(b"GET / HTTP/1.1\r\n"), None);
    assert_eq!(Wanted::read(b""), None);
}

#[test]
fn a_socket_fits_a_listener_by_name_and_address() {
    let held = held("web", 1).remove(0);
    let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    assert!(held.fits("web", held.address));
    assert!(held.fits("web", at("127.0.0.1", 0)));
    assert!(!held.fits("other", held.address));
    assert!(!held.fits("web", at("::", 0)));
    assert!(!held.fits("web", at("127.0.0.1", held.address.port() ^ 1)));
}
