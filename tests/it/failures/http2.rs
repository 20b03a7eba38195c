//! What HTTP/2 can say about a request that fails, and what is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};

use crate::support::{H2, Ingress, Origin, check, get, h2_echo, send, service, soon, text_of};

/// A replica that answers the first few requests of each connection, then says GOAWAY and takes
/// none of the others that are on their way.
async fn going_away(after: usize) -> Origin {
    Origin::connected(move |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        for _ in 0..after {
            let Some(Ok((request, respond))) = connection.accept().await else { return };
            tokio::spawn(h2_echo("shop".to_owned(), request, respond));
        }
        connection.graceful_shutdown();
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(h2_echo("shop".to_owned(), request, respond));
        }
    })
    .await
}

#[tokio::test]
async fn a_replica_that_says_goaway_costs_no_request() {
    let origin = going_away(3).await;
    let ingress = Ingress::before_h2(origin.address).await;
    let client = H2::to(ingress.address).await;
    for _ in 0..30 {
        assert_eq!(client.get("http://a/").await, "200 shop: GET /");
    }
    let urls: Vec<_> = (0..50).map(|n| format!("http://a/{n}")).collect();
    let answers = futures_util::future::join_all(urls.iter().map(|url| client.get(url))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, format!("200 shop: GET /{n}"));
    }
    assert!(origin.accepted() > 5);
}

/// A replica that resets streams for that reason, and how many it has seen.
async fn resetting(reason: Reason) -> (Origin, Arc<AtomicUsize>) {
    let seen = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&seen);
    let origin = Origin::h2_with(move |_request, mut respond| {
        count.fetch_add(1, SeqCst);
        respond.send_reset(reason);
        async {}
    })
    .await;
    (origin, seen)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_stream_that_is_refused_goes_to_another_replica_even_a_post() {
    let ((bad, seen), good) = (resetting(Reason::REFUSED_STREAM).await, Origin::h2("good").await);
    let labels = "hiveway.protocol=h2c hiveway.retry.attempts=0";
    let replicas = [bad.address, good.address];
    let ingress = Ingress::start([service("shop", labels, &replicas)]).await;
    for _ in 0..20 {
        assert_eq!(send(&ingress, POST).await.to_string(), "200 good: POST / hi");
    }
    assert!(seen.load(SeqCst) > 0, "nobody met the bad one");
}

#[tokio::test]
async fn a_stream_that_is_reset_may_have_run() {
    let (bad, seen) = resetting(Reason::INTERNAL_ERROR).await;
    let labels = "hiveway.protocol=h2c hiveway.retry.attempts=1";
    let ingress = Ingress::start([service("shop", labels, &[bad.address])]).await;
    assert_eq!(send(&ingress, POST).await.status(), 502);
    assert_eq!(seen.load(SeqCst), 1);
    assert_eq!(get(&ingress, "a", "/").await.status(), 502);
    assert_eq!(seen.load(SeqCst), 3, "a GET goes once more");
}

#[tokio::test]
async fn a_response_that_is_reset_in_the_middle_is_broken_for_every_client() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        let origin = Origin::h2_with(move |_request, mut respond| async move {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from("part"), false).unwrap();
            // h2 drops data that is not written yet when a stream is reset.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            body.send_reset(reason);
        })
        .await;
        let ingress = Ingress::before_h2(origin.address).await;
        check(&ingress, "a", "/", "200 part (broken)").await;
        let answer = H2::to(ingress.address).await.get("http://a/").await;
        assert!(answer.starts_with("200 part ("), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_breaks_its_responses() {
    let origin = Origin::connected(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from("part"), false).unwrap();
        let written = std::future::poll_fn(|cx| connection.poll_closed(cx));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), written).await;
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    check(&ingress, "a", "/", "200 part (broken)").await;
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_though_the_rest_of_the_body_is_refused() {
    let origin = Origin::h2_with(|_request, mut respond| async move {
        let response = Response::builder().status(413).body(()).unwrap();
        let mut body = respond.send_response(response, false).unwrap();
        // Whoever drops a request that has not ended resets it with NO_ERROR.
        body.send_data(Bytes::from("big"), true).unwrap();
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    let client = H2::to(ingress.address).await;
    let (response, mut body) =
        client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
    body.send_data(Bytes::from("x".repeat(1000)), false).unwrap();
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text_of(response.body_mut()).await, "big");
}

#[tokio::test]
async fn a_replica_that_speaks_only_http1_gets_no_request_and_no_storm_of_connections() {
    let origin = Origin::named("shop").await;
    let labels = "hiveway.protocol=h2c hiveway.timeout.queue=300ms";
    let ingress = Ingress::start([]).await;
    ingress.announce([service("shop", labels, &[origin.address])]).await;
    assert_eq!(get(&ingress, "a", "/").await.status(), 503);
    assert!(origin.accepted() < 20, "{} connections", origin.accepted());
    assert_eq!(ingress.state(origin.address), "pending");
}
