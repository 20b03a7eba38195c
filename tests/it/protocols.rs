//! HTTP/2 without TLS, towards clients and towards replicas.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::support::{H2, Ingress, Origin, Wire, check, eventually, service, soon, text_of};

/// An edge before two replicas: `one.test` speaks HTTP/1, `two.test` HTTP/2.
async fn one_of_each() -> (Ingress, [Origin; 2]) {
    let (one, two) = (Origin::named("one").await, Origin::h2("two").await);
    let ingress = Ingress::start([
        service("one", "hiveway.host=one.test", &[one.address]),
        service("two", "hiveway.host=two.test hiveway.protocol=h2c", &[two.address]),
    ])
    .await;
    (ingress, [one, two])
}

#[tokio::test]
async fn clients_and_replicas_may_speak_different_versions() {
    let (ingress, _replicas) = one_of_each().await;
    check(&ingress, "one.test", "/x?y", "200 one: GET /x?y").await;
    check(&ingress, "two.test", "/x?y", "200 two: GET /x?y").await;
    let client = H2::to(ingress.address).await;
    assert_eq!(client.get("http://one.test/x?y").await, "200 one: GET /x?y");
    assert_eq!(client.get("http://two.test/x?y").await, "200 two: GET /x?y");
}

#[tokio::test]
async fn bodies_pass_between_versions() {
    let (ingress, _replicas) = one_of_each().await;
    let client = H2::to(ingress.address).await;
    for (host, method) in [("one", "POST"), ("two", "POST"), ("one", "GET"), ("two", "GET")] {
        let request = Request::builder().method(method).uri(format!("http://{host}.test/"));
        let (response, mut body) = client.begin(request.body(()).unwrap(), false).await;
        body.send_data(Bytes::from("hello"), true).unwrap();
        let mut response = soon("a response", response).await.unwrap();
        assert_eq!(text_of(response.body_mut()).await, format!("{host}: {method} / hello"));
    }
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: two.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.write("5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(client.reply().await.to_string(), "200 two: POST / hello");
}

#[tokio::test]
async fn hundreds_of_streams_share_a_connection_and_wait_for_each_other_in_vain() {
    let (ingress, [_one, two]) = one_of_each().await;
    let client = H2::to(ingress.address).await;
    for host in ["one", "two"] {
        let urls: Vec<_> = (0..300).map(|n| format!("http://{host}.test/{n}")).collect();
        let answers = join_all(urls.iter().map(|url| client.get(url))).await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(*answer, format!("200 {host}: GET /{n}"));
        }
    }
    // One connection takes 100 streams; a new one is made for more.
    assert!(two.accepted() <= 4, "{}", two.accepted());
}

#[tokio::test]
async fn streams_that_stay_open_do_not_hold_up_others() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        if request.uri().path() == "/poll" {
            std::future::pending::<()>().await;
        }
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from("now"), true).unwrap();
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    let client = H2::to(ingress.address).await;
    let mut polls = Vec::new();
    for _ in 0..250 {
        polls.push(client.begin(Request::get("http://a/poll").body(()).unwrap(), true).await);
    }
    eventually("all polls had arrived", || origin.requests().len() == 250).await;
    assert_eq!(client.get("http://a/").await, "200 now");
}

/// Writes at most one byte at a time.
struct Trickle(TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let first = bytes.get(..1).unwrap_or_default();
        std::pin::Pin::new(&mut self.0).poll_write(cx, first)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn the_preface_may_come_byte_by_byte() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let stream = TcpStream::connect(ingress.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let client = H2::over(Trickle(stream)).await;
    assert_eq!(client.get("http://a/").await, "200 shop: GET /");
}

#[tokio::test]
async fn a_request_that_begins_like_the_preface_is_one() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    for piece in ["P", "R", "I", " /x HTTP/1.1\r\nHost: a\r\n\r\n"] {
        client.write(piece).await;
    }
    assert_eq!(client.reply().await.to_string(), "200 shop: PRI /x");
}

#[tokio::test]
async fn a_listener_speaks_only_what_it_is_told_to() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let options = "listeners.web.protocols=http1";
    let ingress = Ingress::with_options(options, services.clone()).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
    let mut client = Wire::to(ingress.address).await;
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.closed_within(std::time::Duration::from_secs(5)).await);

    let ingress = Ingress::with_options("listeners.web.protocols=h2", services).await;
    assert_eq!(H2::to(ingress.address).await.get("http://a/").await, "200 shop: GET /");
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.closed_within(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn connections_to_an_http2_replica_that_leaves_are_closed_once_they_are_unused() {
    let shop = Origin::h2("shop").await;
    let ingress = Ingress::before_h2(shop.address).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
    assert_eq!(shop.open(), 1);
    ingress.announce([]).await;
    eventually("its connection was closed", || shop.open() == 0).await;
}

#[tokio::test]
async fn connections_to_an_http1_replica_that_leaves_are_closed_once_they_are_unused() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
    ingress.announce([]).await;
    eventually("its connection was closed", || shop.open() == 0).await;
}

#[tokio::test]
async fn an_http2_connection_of_its_age_is_replaced() {
    let shop = Origin::h2("shop").await;
    let labels = "hiveway.protocol=h2c hiveway.keepalive.requests=2";
    let ingress = Ingress::start([service("shop", labels, &[shop.address])]).await;
    for _ in 0..6 {
        check(&ingress, "a", "/", "200 shop: GET /").await;
    }
    assert!(shop.accepted() >= 3, "{}", shop.accepted());
    eventually("only the last one was open", || shop.open() == 1).await;
}
