//! What a client of HTTP/2 can do with frames that no library sends.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Request;

use crate::support::frames::{
    DATA, Frames, GOAWAY, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, get_frame,
    post_frame,
};
use crate::support::{H2, Ingress, Origin, eventually, service, soon};

const CANCEL: [u8; 4] = [0, 0, 0, 8];
const MOST_WINDOW: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

/// A replica that never answers, and an edge in front of it.
async fn before_a_silent_replica() -> (Origin, Ingress) {
    let origin = Origin::h2_with(|request, respond| async move {
        std::future::pending::<()>().await;
        // Held until now: to let go of them would reset the stream.
        drop((request, respond));
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    (origin, ingress)
}

fn in_flight(ingress: &Ingress) -> u64 {
    ingress.upstream("shop").in_flight.load(Relaxed)
}

#[tokio::test]
async fn a_connection_without_streams_is_told_to_go_though_it_pings() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("limits.keepalive-idle=300ms", services).await;
    let stream = tokio::net::TcpStream::connect(ingress.address).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let pinging = tokio::spawn(async move {
        let mut answered = 0;
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            answered += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answered
    });
    soon("the end of the connection", connection).await.unwrap();
    assert!(pinging.await.unwrap() > 1);
    drop(sender);
}

#[tokio::test]
async fn a_connection_that_does_not_go_when_told_to_is_closed() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("limits.keepalive-idle=300ms", services).await;
    // It answers no PING, for which a connection in good order waits before its last GOAWAY.
    let mut client = Frames::to(ingress.address).await;
    assert!(client.rest().await.contains(&GOAWAY));
}

#[tokio::test]
async fn a_flood_of_frames_about_nothing_ends_the_connection() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let unknown = 0x42;
    for (number, flood) in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(unknown, 0, 0, &[0; 100]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Frames::to(ingress.address).await;
        let many = flood.repeat(10_000 / flood.len());
        let mut sent = 0;
        while client.flood(&many).await {
            sent += many.len();
            assert!(sent < 100 << 20, "{flood:?} may be sent for ever");
        }
        let counted = || ingress.refused("h2_flood") == number as u64 + 1;
        eventually("it is counted", counted).await;
    }
}

#[tokio::test]
async fn a_download_may_have_as_many_window_updates_as_it_needs() {
    const LARGE: usize = 16 << 20;
    const PIECE: u32 = 400;
    let body = "x".repeat(LARGE);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    let shop = Origin::answering(&format!("{head}{body}")).await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Frames::to(ingress.address).await;
    client.send(&get_frame(1)).await;
    let mut came = 0;
    while came < LARGE {
        let frame_of_body = client.next().await.expect("the download goes on");
        if frame_of_body.kind != DATA {
            continue;
        }
        // Gives back what it read in small pieces, for the stream and for the connection.
        came += frame_of_body.payload.len();
        let mut left = u32::try_from(frame_of_body.payload.len()).unwrap();
        let mut updates = Vec::new();
        while left > 0 {
            let piece = left.min(PIECE);
            updates.extend(frame(WINDOW_UPDATE, 0, 0, &piece.to_be_bytes()));
            updates.extend(frame(WINDOW_UPDATE, 0, 1, &piece.to_be_bytes()));
            left -= piece;
        }
        client.send(&updates).await;
    }
    assert_eq!(ingress.refused("h2_flood"), 0);
}

#[tokio::test]
async fn a_client_that_gives_up_its_requests_at_once_reaches_replicas_a_bounded_number_of_times() {
    let (origin, ingress) = before_a_silent_replica().await;
    for (number, pause) in [0, 2].into_iter().enumerate() {
        let before = origin.requests().len();
        let mut client = Frames::to(ingress.address).await;
        let mut next = 1;
        loop {
            // Few at a time, so that h2 accepts them all.
            let streams: Vec<u32> = (next..next + 40).step_by(2).collect();
            next += 40;
            let heads: Vec<u8> = streams.iter().flat_map(|stream| get_frame(*stream)).collect();
            let reset = |stream: &u32| frame(RST_STREAM, 0, *stream, &CANCEL);
            let resets: Vec<u8> = streams.iter().flat_map(reset).collect();
            client.send(&heads).await;
            // It is the time that counts here: whether they are at a replica when they are given up.
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if !client.send(&resets).await {
                break;
            }
            assert!(next < 200_000, "requests may be given up for ever");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        eventually("nothing is under way", || in_flight(&ingress) == 0).await;
        let ended = || ingress.refused("h2_resets") + ingress.refused("h2_flood");
        eventually("it is counted", || ended() == number as u64 + 1).await;
        let reached = origin.requests().len() - before;
        assert!(reached <= 1000, "{reached} requests reached the replica");
    }
}

#[tokio::test]
async fn a_client_that_makes_us_reset_its_streams_reaches_replicas_a_bounded_number_of_times() {
    let (origin, ingress) = before_a_silent_replica().await;
    for (number, offence) in [
        // More window than there can be.
        |stream| [post_frame(stream), frame(WINDOW_UPDATE, 0, stream, &MOST_WINDOW)].concat(),
        // More of a request that was complete.
        |stream| [get_frame(stream), frame(DATA, 0, stream, b"more")].concat(),
        // No window at all.
        |stream| [post_frame(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let before = origin.requests().len();
        let mut client = Frames::to(ingress.address).await;
        let mut stream = 1;
        while client.send(&offence(stream)).await {
            stream += 2;
            assert!(stream < 20_000, "offence {number} may be repeated for ever");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        eventually("nothing is under way", || in_flight(&ingress) == 0).await;
        let reached = origin.requests().len() - before;
        assert!(reached <= 100, "{reached} requests reached the replica by offence {number}");
        let words = ["h2_flood", "h2_protocol", "h2_resets"];
        let ended = || words.iter().map(|word| ingress.refused(word)).sum::<u64>();
        eventually("it is counted", || ended() == number as u64 + 1).await;
    }
}

#[tokio::test]
async fn a_mistake_that_breaks_the_connection_is_counted() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Frames::to(ingress.address).await;
    client.send(&frame(DATA, 0, 0, b"for no stream")).await;
    assert!(client.rest().await.contains(&GOAWAY));
    eventually("it is counted", || ingress.refused("h2_protocol") == 1).await;
}

#[tokio::test]
async fn long_polls_may_be_cancelled_after_a_while_however_many() {
    let (_origin, ingress) = before_a_silent_replica().await;
    let client = H2::to(ingress.address).await;
    let mut polls = Vec::new();
    for _ in 0..600 {
        polls.push(client.begin(Request::get("http://a/").body(()).unwrap(), true).await);
    }
    eventually("they are under way", || in_flight(&ingress) > 500).await;
    // It is the time that counts here, not a condition.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(polls);
    eventually("none is under way", || in_flight(&ingress) == 0).await;
    assert_eq!(ingress.refused("h2_resets"), 0);
}
