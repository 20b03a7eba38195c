//! Calls that do not reach a replica, or whose replica says nothing.

use std::time::Duration;

use h2::Reason;
use hiveway::clock;
use tokio::sync::mpsc;

use crate::support::{
    Caller, Deserted, H2, Ingress, Origin, answer_half, answer_with, call_to, get, outcome_of,
    reset_of, send, service, soon,
};

/// An edge whose one service has that replica and these further labels.
async fn before(replica: std::net::SocketAddr, labels: &str) -> Ingress {
    let labels = format!("hiveway.protocol=grpc hiveway.host=a {labels}");
    Ingress::start([service("shop", &labels, &[replica])]).await
}

/// A replica that answers every call with `bought`.
async fn shop() -> Origin {
    Origin::h2_with(|request, respond| answer_with((request, respond), "bought", "0")).await
}

#[tokio::test]
async fn a_call_is_answered() {
    let shop = shop().await;
    let ingress = before(shop.address, "").await;
    assert_eq!(Caller::of(&ingress).await.ask().await, "200 bought grpc-status=0");
    assert_eq!(ingress.calls("OK"), 1);
}

#[tokio::test]
async fn what_no_replica_answers_has_a_status_of_ours() {
    let shop = shop().await;
    let ingress = before(
        shop.address,
        "hiveway.routes.shut.path=/shut hiveway.routes.shut.allow=192.0.2.0/24 \
         hiveway.routes.small.path=/small hiveway.routes.small.limit.body=3",
    )
    .await;
    let caller = Caller::of(&ingress).await;
    for (url, expected) in [
        ("http://b/", "grpc-status=12 grpc-message=no route takes this host and path (no_route)"),
        (
            "http://a/shut",
            "grpc-status=7 grpc-message=the client's address is not allowed (forbidden)",
        ),
        (
            "http://a/..",
            "grpc-status=13 grpc-message=the path leads above the root with `..` (bad_path)",
        ),
    ] {
        assert_eq!(caller.call(call_to(url)).await, format!("200 trailers only: {expected}"));
    }
    let large = caller.call(call_to("http://a/small").header("content-length", "5")).await;
    let expected =
        "200 trailers only: grpc-status=8 grpc-message=grpc: received message larger than max";
    assert!(large.starts_with(expected), "{large}");
    assert_eq!(ingress.calls("PermissionDenied"), 1);
    assert_eq!(ingress.calls("ResourceExhausted"), 1);
}

#[tokio::test]
async fn a_service_without_a_replica_is_unavailable() {
    let gone = Deserted::new();
    let labels = "hiveway.protocol=grpc hiveway.timeout.queue=200ms hiveway.limit.inflight=1";
    let ingress = Ingress::start([]).await;
    ingress.announce([service("shop", labels, &[gone.address])]).await;
    let caller = Caller::of(&ingress).await;
    let (response, _body) = caller.begin(call_to("http://a/")).await;
    // The first waits for a replica; the second is one too many.
    let expected = "200 trailers only: grpc-status=8 \
                    grpc-message=the service has as many requests in flight as it allows (limit)";
    assert_eq!(caller.ask().await, expected);
    let expected = "200 trailers only: grpc-status=14 \
                    grpc-message=no replica became ready in time (no_endpoint)";
    assert_eq!(outcome_of(response).await, expected);
    ingress.announce([service("shop", labels, &[])]).await;
    let expected = "200 trailers only: grpc-status=14 \
                    grpc-message=the service wants no replicas (scaled_to_zero)";
    assert_eq!(caller.ask().await, expected);
}

#[tokio::test]
async fn our_answer_is_one_frame_with_a_content_type() {
    let ingress = Ingress::start([]).await;
    let client = H2::to(ingress.address).await;
    let request = call_to("http://a/").header("content-type", "application/grpc+proto");
    let (response, _body) = client.begin(request.body(()).unwrap(), true).await;
    let response = soon("a response", response).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "date", "grpc-message", "grpc-status"]);
}

#[tokio::test]
async fn who_does_not_speak_grpc_gets_plain_errors() {
    let ingress = Ingress::start([service("shop", "hiveway.protocol=grpc", &[])]).await;
    assert_eq!(get(&ingress, "a", "/").await.status(), 503);
    let client = H2::to(ingress.address).await;
    assert!(client.get("http://b..c/").await.starts_with("400 "));
    // Over HTTP/2 the route alone says that it is a call.
    assert_eq!(client.get("http://a/").await, "200 ");
    let call = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n";
    assert_eq!(send(&ingress, call).await.field("grpc-status"), Some("14"));
    let web = call.replace("grpc", "grpc-web");
    assert_eq!(send(&ingress, &web).await.status(), 503);
}

#[tokio::test]
async fn a_call_that_breaks_before_its_answer_is_unavailable_and_never_sent_twice() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let origin = Origin::h2_with(move |request, mut respond| async move {
            let _body = request;
            respond.send_reset(reason);
        })
        .await;
        let labels = "hiveway.retry.attempts=3 hiveway.retry.on=reset,503,timeout";
        let ingress = before(origin.address, labels).await;
        let expected = "200 trailers only: grpc-status=14 \
                        grpc-message=the connection to the replica broke (reset)";
        let caller = Caller::of(&ingress).await;
        assert_eq!(caller.ask().await, expected, "{reason:?}");
        let put = call_to("http://a/").method("PUT");
        assert_eq!(caller.call(put).await, expected, "{reason:?}");
        assert_eq!(origin.requests().len(), 2, "{reason:?}");
    }
}

#[tokio::test]
async fn a_call_that_was_refused_goes_to_another_replica() {
    let good = shop().await;
    let bad = Origin::h2_with(|_request, mut respond| async move {
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let labels = "hiveway.protocol=grpc hiveway.retry.attempts=0";
    let ingress = Ingress::start([service("shop", labels, &[good.address, bad.address])]).await;
    let caller = Caller::of(&ingress).await;
    for _ in 0..20 {
        assert_eq!(caller.ask().await, "200 bought grpc-status=0");
    }
    assert!(!bad.requests().is_empty(), "nobody met the bad one");
}

/// A replica that never answers, and what it is told in the end.
async fn patient() -> (Origin, mpsc::UnboundedReceiver<Option<Reason>>) {
    let (events, seen) = mpsc::unbounded_channel();
    let origin = Origin::h2_with(move |request, mut respond| {
        let events = events.clone();
        async move {
            let _body = request;
            events.send(None).unwrap();
            events.send(reset_of(&mut respond).await).unwrap();
        }
    })
    .await;
    (origin, seen)
}

#[tokio::test]
async fn the_clients_own_deadline_ends_a_call_that_it_does_not_end_itself() {
    let (origin, mut seen) = patient().await;
    let ingress = before(origin.address, "").await;
    let caller = Caller::of(&ingress).await;
    let started = clock::now();
    let request = call_to("http://a/").header("grpc-timeout", "300m");
    let (response, _open) = caller.begin(request).await;
    let expected = "200 trailers only: grpc-status=4 \
                    grpc-message=the call took longer than its client allows (deadline)";
    assert_eq!(outcome_of(response).await, expected);
    let took = clock::now().since(started);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(1), "{took:?}");
    assert_eq!(soon("the call", seen.recv()).await, Some(None));
    assert_eq!(soon("its end", seen.recv()).await, Some(Some(Reason::CANCEL)));
    assert_eq!(ingress.calls("DeadlineExceeded"), 1);
}

/// A replica that cancels every call after that time, in the middle of its answer or without one.
async fn cancelling(after: Duration, answers: bool) -> Origin {
    Origin::h2_with(move |request, mut respond| async move {
        let _body = request;
        if answers {
            let mut open = answer_half(&mut respond).await;
            tokio::time::sleep(after).await;
            open.send_reset(Reason::CANCEL);
        } else {
            tokio::time::sleep(after).await;
            respond.send_reset(Reason::CANCEL);
        }
    })
    .await
}

#[tokio::test]
async fn a_replica_that_keeps_the_clients_deadline_itself_has_not_failed() {
    for (answers, begins, outcome) in
        [(false, "200 trailers only:", "client"), (true, "200 half", "deadline")]
    {
        // As servers for Go do: they read the time limit, and say nothing when it is over.
        let origin = cancelling(Duration::from_millis(300), answers).await;
        let ingress = before(origin.address, "").await;
        let request = call_to("http://a/").header("grpc-timeout", "300m");
        let ends = "grpc-status=4 \
                    grpc-message=the call took longer than its client allows (deadline)";
        assert_eq!(Caller::of(&ingress).await.call(request).await, format!("{begins} {ends}"));
        assert_eq!(ingress.outcomes(origin.address, outcome), 1);
        assert_eq!(ingress.calls("DeadlineExceeded"), 1);
    }
}

#[tokio::test]
async fn a_replica_that_cancels_before_the_clients_deadline_has_failed() {
    for answers in [false, true] {
        let origin = cancelling(Duration::ZERO, answers).await;
        let ingress = before(origin.address, "").await;
        let request = call_to("http://a/").header("grpc-timeout", "70S");
        let outcome = Caller::of(&ingress).await.call(request).await;
        assert!(outcome.contains("grpc-status=14"), "{outcome}");
        assert_eq!(ingress.outcomes(origin.address, "reset"), 1);
    }
}

#[tokio::test]
async fn the_deadline_counts_while_a_replica_is_awaited() {
    let gone = Deserted::new();
    let ingress = Ingress::start([]).await;
    ingress.announce([service("shop", "hiveway.protocol=grpc", &[gone.address])]).await;
    let request = call_to("http://a/").header("grpc-timeout", "200000u");
    let outcome = Caller::of(&ingress).await.call(request).await;
    assert!(outcome.starts_with("200 trailers only: grpc-status=4"), "{outcome}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_passed_on_at_once() {
    let (origin, mut seen) = patient().await;
    let ingress = before(origin.address, "").await;
    let caller = Caller::of(&ingress).await;
    for ends_first in [true, false] {
        let (response, mut body) = caller.begin(call_to("http://a/")).await;
        if ends_first {
            body.send_data("poll".into(), true).unwrap();
        }
        assert_eq!(soon("the call", seen.recv()).await, Some(None));
        body.send_reset(Reason::CANCEL);
        let told = tokio::time::timeout(Duration::from_millis(100), seen.recv()).await;
        assert_eq!(told.expect("at once"), Some(Some(Reason::CANCEL)));
        drop(response);
    }
    crate::support::eventually("both were counted", || ingress.calls("Canceled") == 2).await;
}
