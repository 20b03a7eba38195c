//! Calls whose replica begins to answer and does not come to an end.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;

use crate::support::{
    Caller, Ingress, Origin, answer, answer_half, answer_with, call_to, eventually, outcome_of,
    send, service, soon, status_field,
};

async fn before(replicas: &[std::net::SocketAddr], labels: &str) -> Ingress {
    let labels = format!("hiveway.protocol=grpc {labels}");
    Ingress::start([service("shop", &labels, replicas)]).await
}

#[tokio::test]
async fn a_call_that_is_reset_in_the_middle_ends_with_a_status() {
    for (reason, message) in [
        (Reason::NO_ERROR, "the replica's response was cut short"),
        (Reason::CANCEL, "the replica's response broke off"),
        (Reason::INTERNAL_ERROR, "the replica's response broke off"),
    ] {
        let origin = Origin::h2_with(move |_request, mut respond| async move {
            answer_half(&mut respond).await.send_reset(reason);
        })
        .await;
        let ingress = before(&[origin.address], "").await;
        let expected = format!("200 half grpc-status=14 grpc-message={message}");
        assert_eq!(Caller::of(&ingress).await.ask().await, expected, "{reason:?}");
        assert_eq!(ingress.calls("Unavailable"), 1);
        assert_eq!(ingress.outcomes(origin.address, "reset"), 1);
    }
}

#[tokio::test]
async fn a_call_whose_replica_dies_ends_with_a_status() {
    let origin = Origin::connected(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        let mut body = respond.send_response(answer().body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from("half"), false).unwrap();
        let written = std::future::poll_fn(|cx| connection.poll_closed(cx));
        let _ = tokio::time::timeout(Duration::from_millis(20), written).await;
    })
    .await;
    let ingress = before(&[origin.address], "").await;
    let outcome = Caller::of(&ingress).await.ask().await;
    assert!(outcome.starts_with("200 half grpc-status=14 grpc-message=the replica's"), "{outcome}");
}

#[tokio::test]
async fn a_response_without_a_status_gets_one() {
    const MADE: &str = "grpc-status=14 grpc-message=the replica's response ended without a status";
    for form in ["head", "data", "trailers"] {
        let origin = Origin::h2_with(move |_request, mut respond| async move {
            let mut body =
                respond.send_response(answer().body(()).unwrap(), form == "head").unwrap();
            if form == "data" {
                body.send_data(Bytes::from("all"), true).unwrap();
            } else if form == "trailers" {
                body.send_trailers(
                    [("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect(),
                )
                .unwrap();
            }
        })
        .await;
        let ingress = before(&[origin.address], "").await;
        let beginning = match form {
            "head" => "200 trailers only:",
            "data" => "200 all",
            _ => "200",
        };
        let outcome = Caller::of(&ingress).await.ask().await;
        assert_eq!(outcome, format!("{beginning} {MADE}"), "{form}");
        assert_eq!(ingress.outcomes(origin.address, "malformed"), 1, "{form}");
    }
}

#[tokio::test]
async fn a_call_that_is_silent_for_too_long_ends_with_a_status() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let _request = request;
        let mut open = answer_half(&mut respond).await;
        let _ = std::future::poll_fn(|cx| open.poll_reset(cx)).await;
    })
    .await;
    let ingress = before(&[origin.address], "hiveway.timeout.stream-idle=300ms").await;
    let outcome = Caller::of(&ingress).await.ask().await;
    let expected = "200 half grpc-status=14 grpc-message=the response did not move for too long";
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn the_clients_deadline_ends_a_stream_and_the_replica_is_told() {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::h2_with(move |request, mut respond| {
        let sender = sender.clone();
        async move {
            let _request = request;
            let mut open = answer_half(&mut respond).await;
            let reset = std::future::poll_fn(|cx| open.poll_reset(cx)).await;
            sender.send(reset.ok()).unwrap();
        }
    })
    .await;
    let ingress = before(&[origin.address], "").await;
    let caller = Caller::of(&ingress).await;
    let (response, _open) = caller.begin(call_to("http://a/").header("grpc-timeout", "300m")).await;
    let expected = "200 half grpc-status=4 \
                    grpc-message=the call took longer than its client allows (deadline)";
    assert_eq!(outcome_of(response).await, expected);
    assert_eq!(soon("the reset", told.recv()).await, Some(Some(Reason::CANCEL)));
    assert_eq!(ingress.outcomes(origin.address, "deadline"), 1);
}

#[tokio::test]
async fn a_response_received_is_not_masked_by_the_request_that_was_cut_off() {
    let origin = Origin::h2_with(|_request, mut respond| async move {
        let head = answer().header("grpc-status", "8").header("grpc-message", "too large");
        respond.send_response(head.body(()).unwrap(), true).unwrap();
        // The request is dropped, which resets it with NO_ERROR.
    })
    .await;
    let ingress = before(&[origin.address], "").await;
    let caller = Caller::of(&ingress).await;
    for _ in 0..20 {
        let (response, mut body) = caller.begin(call_to("http://a/")).await;
        for _ in 0..8 {
            let _ = body.send_data(Bytes::from(vec![b'x'; 64 * 1024]), false);
        }
        let expected = "200 trailers only: grpc-status=8 grpc-message=too large";
        assert_eq!(outcome_of(response).await, expected);
    }
}

#[tokio::test]
async fn a_message_that_grows_too_large_ends_the_call_with_its_reason() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let mut body = request.into_body();
        let _half = answer_half(&mut respond).await;
        while let Some(Ok(_)) = body.data().await {}
    })
    .await;
    let ingress = before(&[origin.address], "hiveway.limit.body=1KiB").await;
    let caller = Caller::of(&ingress).await;
    let (response, mut body) = caller.begin(call_to("http://a/")).await;
    let response = soon("a head", response).await.unwrap();
    body.send_data(Bytes::from(vec![b'x'; 2048]), false).unwrap();
    let mut received = response.into_body();
    assert_eq!(soon("data", received.data()).await.unwrap().unwrap(), "half");
    assert!(soon("the end", received.data()).await.is_none());
    let trailers = soon("trailers", received.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "8");
}

#[tokio::test]
async fn a_response_that_is_no_grpc_passes_as_it_is() {
    let origin = Origin::h2_with(|_request, mut respond| async move {
        let head = Response::builder().status(503).header("content-type", "text/html");
        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from("busy"), true).unwrap();
    })
    .await;
    let ingress = before(&[origin.address], "").await;
    assert_eq!(Caller::of(&ingress).await.ask().await, "503 busy");
    assert_eq!(ingress.calls("Unavailable"), 1);
    assert_eq!(ingress.outcomes(origin.address, "5xx"), 1);
}

#[tokio::test]
async fn a_call_over_http1_has_no_place_for_a_status_of_ours() {
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 3\r\n\r\n";
    let origin = Origin::answering(&format!("{response}all")).await;
    let ingress = Ingress::before(origin.address).await;
    let call = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n";
    assert_eq!(send(&ingress, call).await.to_string(), "200 all");
    eventually("it was counted", || ingress.counted(200) == 1).await;
    assert_eq!(ingress.calls("Unknown"), 1);
}

/// Two replicas, of which one answers every call with that status, in trailers or alone.
async fn answering(status: &'static str, alone: bool) -> (Ingress, Origin, Origin) {
    let good = Origin::h2_with(|request, respond| answer_with((request, respond), "ok", "0")).await;
    let bad = Origin::h2_with(move |request, mut respond| async move {
        if alone {
            let (name, value) = status_field(status);
            let head = answer().header(name, value).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        } else {
            answer_with((request, respond), "sorry", status).await;
        }
    })
    .await;
    let labels = "hiveway.balance=round-robin hiveway.eject.consecutive=3";
    let ingress = before(&[good.address, bad.address], labels).await;
    let caller = Caller::of(&ingress).await;
    for _ in 0..20 {
        caller.ask().await;
    }
    (ingress, good, bad)
}

#[tokio::test]
async fn a_replica_that_is_unavailable_again_and_again_is_left_out() {
    for alone in [true, false] {
        let (ingress, good, bad) = answering("14", alone).await;
        eventually("it is left out", || ingress.state(bad.address) == "ejected").await;
        assert_eq!(ingress.state(good.address), "healthy");
        assert_eq!(ingress.outcomes(bad.address, "unavailable"), 3);
        assert_eq!(ingress.calls("Unavailable"), 3, "none was tried again");
    }
}

#[tokio::test]
async fn what_the_application_says_is_no_failure_of_its_replica() {
    for (status, name) in
        [("8", "ResourceExhausted"), ("13", "Internal"), ("4", "DeadlineExceeded")]
    {
        for alone in [true, false] {
            let (ingress, _good, bad) = answering(status, alone).await;
            assert_eq!(ingress.state(bad.address), "healthy", "{status}");
            assert_eq!(ingress.outcomes(bad.address, "ok"), 10);
            assert_eq!(ingress.calls(name), 10);
        }
    }
}
