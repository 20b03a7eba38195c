//! Calls that do not flow: clients that stop reading, beside others on the same connections.

use bytes::Bytes;
use h2::RecvStream;

use crate::support::{
    Caller, Ingress, Origin, answer, answer_with, call_to, outcome_of, service, soon, status_field,
};

/// As many streams as one connection to a replica carries.
const STREAMS: usize = 100;

/// A replica that sends as much as it may on `/much`, and little on all else.
async fn generous() -> Origin {
    Origin::h2_with(|request, mut respond| async move {
        let mut body = respond.send_response(answer().body(()).unwrap(), false).unwrap();
        let pieces = if request.uri().path() == "/much" { 64 } else { 1 };
        for _ in 0..pieces {
            let piece = Bytes::from(vec![b'x'; 64 << 10]);
            body.reserve_capacity(piece.len());
            while body.capacity() < piece.len() {
                let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                let Some(Ok(_)) = granted else { return };
            }
            body.send_data(piece, false).unwrap();
        }
        let _ = body.send_trailers([status_field("0")].into_iter().collect());
    })
    .await
}

#[tokio::test]
async fn calls_that_end_with_an_empty_frame_do_not_add_up_to_an_attack() {
    let origin =
        Origin::h2_with(|request, respond| answer_with((request, respond), "read", "0")).await;
    let ingress =
        Ingress::start([service("shop", "hiveway.protocol=grpc", &[origin.address])]).await;
    let caller = Caller::of(&ingress).await;
    // h2 takes a hundred empty frames that end nothing on a connection, and no more.
    for _ in 0..150 {
        let (response, mut body) = caller.begin(call_to("http://a/")).await;
        body.send_data("message".into(), false).unwrap();
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(outcome_of(response).await, "200 read grpc-status=0");
    }
    assert_eq!(origin.accepted(), 1);
}

/// Reads a body to its end; returns its length.
async fn length_of(mut body: RecvStream) -> usize {
    let mut length = 0;
    while let Some(data) = soon("data", body.data()).await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        length += data.len();
    }
    length
}

#[tokio::test]
async fn clients_that_stop_reading_hold_up_nobody_elses_responses() {
    let origin = generous().await;
    let ingress =
        Ingress::start([service("shop", "hiveway.protocol=grpc", &[origin.address])]).await;
    let mut stalled = Vec::new();
    for _ in 1..STREAMS {
        // Each has a connection of its own to the edge, and shares that to the replica.
        let caller = Caller::of(&ingress).await;
        let (response, open) = caller.begin(call_to("http://a/much")).await;
        let body = soon("a head", response).await.unwrap().into_body();
        stalled.push((caller, body, open));
    }
    let caller = Caller::of(&ingress).await;
    let (response, _open) = caller.begin(call_to("http://a/little")).await;
    let body = soon("a head", response).await.unwrap().into_body();
    assert_eq!(length_of(body).await, 64 << 10);
    assert_eq!(origin.accepted(), 1, "all of them share one connection");
    // Whoever begins to read again gets the rest.
    let (_caller, body, _open) = stalled.swap_remove(0);
    assert_eq!(length_of(body).await, 4 << 20);
}
