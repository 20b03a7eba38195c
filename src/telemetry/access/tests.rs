use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Waits for leave to write, piece by piece; what was written is sent on.
struct Gate {
    leave: Receiver<()>,
    written: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever gives leave goes away to leave it open.
        let _ = self.leave.recv();
        self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log of two cores behind a gate.
fn gated() -> (AccessLog, Sender<()>, Receiver<Vec<u8>>) {
    let (leave, gate) = channel();
    let (written, lines) = channel();
    let out = Gate { leave: gate, written };
    (AccessLog::start(LogFormat::Text, 2, out).unwrap(), leave, lines)
}

fn log(shelf: &Arc<Shelf>, id: &str) {
    let arrived = crate::access_line::Arrived {
        unix_micros: 0,
        client: b"10.0.0.1",
        listener: "web",
        method: "GET",
        host: b"shop",
        path: "/",
        protocol: "HTTP/1.1",
        tls: None,
        user_agent: None,
    };
    let mut entry = shelf.open(|line| line.begin(&arrived));
    entry.identify(id.as_bytes());
    entry.settle(Outcome::default(), Timestamp::START);
}

/// The ids of all lines that come until the log has ended; each is whole.
fn ids(lines: &Receiver<Vec<u8>>) -> Vec<String> {
    let mut ids = Vec::new();
    for piece in lines {
        assert!(piece.len() <= crate::access_line::LONGEST);
        for line in String::from_utf8(piece).unwrap().lines() {
            assert!(line.starts_with("1970") && line.ends_with("bytes=0"), "{line}");
            ids.push(line.split('"').nth(5).unwrap().to_owned());
        }
    }
    ids
}

#[tokio::test]
async fn every_line_is_whole_and_those_of_a_core_are_in_order() {
    let (log_of_all, leave, lines) = gated();
    drop(leave);
    let shelves = [0, 1, 1].map(|core| Arc::clone(log_of_all.shelf(core)));
    let write = |at: usize, shelf: &Arc<Shelf>| {
        (0..1000).for_each(|number| log(shelf, &format!("{at}-{number}")));
    };
    let threads = shelves.into_iter().enumerate();
    let threads = threads.map(|(at, shelf)| thread::spawn(move || write(at, &shelf)));
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        thread.join().unwrap();
    }
    log_of_all.finish().await;
    let ids = ids(&lines);
    assert_eq!(ids.len(), 3000);
    for at in 0..3 {
        let mine = ids.iter().filter_map(|id| id.strip_prefix(&format!("{at}-")));
        let mine: Vec<usize> = mine.map(|number| number.parse().unwrap()).collect();
        assert_eq!(mine, (0..1000).collect::<Vec<_>>());
    }
    assert_eq!(log_of_all.dropped(), 0);
}

#[tokio::test]
async fn while_the_writer_is_stuck_lines_are_dropped_and_counted_and_nobody_waits() {
    let (log_of_all, leave, lines) = gated();
    // A line has some 180 bytes.
    for number in 0..20_000 {
        log(log_of_all.shelf(1), &number.to_string());
    }
    let dropped = log_of_all.dropped();
    assert!(dropped > 10_000, "{dropped}");
    drop(leave);
    log_of_all.finish().await;
    assert_eq!(ids(&lines).len() as u64 + log_of_all.dropped(), 20_000);
}

#[tokio::test]
async fn a_writer_that_fails_loses_lines_and_nothing_else() {
    let (log_of_all, leave, lines) = gated();
    drop((leave, lines));
    for number in 0..100 {
        log(log_of_all.shelf(0), &number.to_string());
    }
    log_of_all.finish().await;
    assert_eq!(log_of_all.dropped(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_stuck_does_not_keep_the_edge_from_ending() {
    let (log_of_all, leave, _lines) = gated();
    log(log_of_all.shelf(0), "x");
    log_of_all.finish().await;
    drop(leave);
}

#[tokio::test]
async fn a_line_does_not_wait_for_others() {
    let (log_of_all, leave, lines) = gated();
    drop(leave);
    log(log_of_all.shelf(0), "x");
    assert!(lines.recv_timeout(Duration::from_secs(5)).is_ok());
    log_of_all.finish().await;
}

#[tokio::test]
async fn times_are_those_of_the_calendar() {
    let (log_of_all, leave, _lines) = gated();
    drop(leave);
    let now = log_of_all.shelf(0).unix_micros(clock::now());
    assert!(clock::unix_micros().abs_diff(now) < 1_000_000);
    log_of_all.finish().await;
}
