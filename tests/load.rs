//! The load generator sees every way in which a server can fail: one that cannot fail proves nothing.
//!
//! Servers here are a few lines on a raw socket, so that they misbehave exactly as written.

#![cfg(test)]

#[path = "../examples/load/exchange.rs"]
mod exchange;
#[path = "../examples/load/load.rs"]
mod load;
#[path = "../examples/load/report.rs"]
mod report;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use load::{Load, Plan, Target};
use report::Report;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that does the same with each connection.
fn server(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Reads one request without a body, up to its empty line.
fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        seen.extend_from_slice(&byte);
    }
    Ok(())
}

/// Twenty GETs in 200 ms, all on kept connections or each on its own.
fn plan(address: SocketAddr, keep_alive: bool) -> Plan {
    let target = Target { address, host: "test".to_owned(), path: "/".to_owned() };
    Plan {
        duration: Some(Duration::from_millis(200)),
        post_percent: 0,
        keep_alive_percent: if keep_alive { 100 } else { 0 },
        timeout: Duration::from_millis(300),
        check_body: false,
        ..Plan::mixed(vec![target], 100)
    }
}

fn load(address: SocketAddr, keep_alive: bool) -> Report {
    Load::start(plan(address, keep_alive)).wait().unwrap()
}

/// What the report counts, as `count x failure` joined by commas.
fn check(report: &Report, expected: &str) {
    let counts = report.failures.iter().map(|(failure, count)| format!("{count} x {failure}"));
    assert_eq!(counts.collect::<Vec<_>>().join(", "), expected, "{report}");
    assert_eq!(report.sent, 20);
    assert_eq!(report.answered + report.failed(), report.sent);
}

#[test]
fn right_answers_on_new_and_on_kept_connections_are_no_failures() {
    let address = server(|mut stream| {
        loop {
            read_request(&mut stream)?;
            stream.write_all(GOOD)?;
        }
    });
    check(&load(address, false), "");
    let kept = load(address, true);
    check(&kept, "");
    assert!(kept.opened < 20, "connections were kept: {kept}");
}

#[test]
fn a_port_where_nobody_listens_is_a_refusal() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(&load(address, false), "20 x connection refused");
}

#[test]
fn a_reset_before_the_answer_is_told_from_a_close() {
    let resets = server(|mut stream| {
        read_request(&mut stream)?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    check(&load(resets, false), "20 x reset before the answer");
    let closes = server(|mut stream| read_request(&mut stream));
    check(&load(closes, false), "20 x closed before the answer");
}

#[test]
fn a_body_that_ends_early_is_cut_with_and_without_a_length() {
    let lengths = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
    });
    check(&load(lengths, false), "20 x body cut");
    let chunks = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    });
    check(&load(chunks, false), "20 x body cut");
}

#[test]
fn silence_is_a_timeout_and_a_status_is_named() {
    let silent = server(|mut stream| {
        read_request(&mut stream)?;
        read_request(&mut stream)
    });
    check(&load(silent, false), "20 x timeout");
    let refuses = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    });
    check(&load(refuses, false), "20 x status 503");
}

#[test]
fn a_kept_connection_that_closes_unannounced_instead_of_an_answer_is_a_failure_of_its_own() {
    let address = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(GOOD)?;
        read_request(&mut stream)
    });
    // Every second request finds a connection that takes it and then closes.
    check(&load(address, true), "10 x reused connection closed before the answer");
}

#[test]
fn a_kept_connection_that_closes_as_announced_or_while_idle_costs_nothing() {
    let announces = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    });
    let report = load(announces, true);
    check(&report, "");
    assert_eq!(report.announced, 20);

    let closes_idle = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(GOOD)
    });
    let report = load(closes_idle, true);
    check(&report, "");
    assert_eq!(report.idle_closed, 19);
}

#[test]
fn an_answer_to_another_request_is_a_wrong_body() {
    let address = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(GOOD)
    });
    let report = Load::start(Plan { check_body: true, ..plan(address, false) }).wait().unwrap();
    check(&report, "20 x wrong body");
}

#[test]
fn a_load_without_an_end_is_stopped_by_hand() {
    let address = server(|mut stream| {
        read_request(&mut stream)?;
        stream.write_all(GOOD)
    });
    let load = Load::start(Plan { duration: None, ..plan(address, false) });
    let report = load.stop().unwrap();
    assert_eq!(report.failed(), 0, "{report}");
}
