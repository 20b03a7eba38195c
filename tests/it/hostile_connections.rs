//! Connections that cost more than they are worth, and what their clients are told.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Ingress, Origin, Wire, check, eventually, service, soon};

async fn limited(options: &str, shop: &Origin) -> Ingress {
    Ingress::with_options(options, [service("shop", "hiveway.limit.body=5", &[shop.address])]).await
}

#[tokio::test]
async fn a_head_that_does_not_end_gets_408_and_the_connection_is_closed() {
    let shop = Origin::named("shop").await;
    let ingress = limited("limits.head-time=200ms limits.keepalive-idle=1h", &shop).await;
    // The second begins as HTTP/2 does, too.
    for (number, beginning) in ["GET / HTTP/1.1\r\nHost: a\r\n", "P"].into_iter().enumerate() {
        let mut client = Wire::to(ingress.address).await;
        client.write(beginning).await;
        let reply = client.reply().await;
        assert!(reply.to_string().starts_with("408 408 Request Timeout (slow_head)"), "{reply}");
        assert_eq!(reply.field("connection"), Some("close"));
        client.closed().await;
        assert_eq!(ingress.refused("slow_head"), number as u64 + 1);
    }
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\nACCEPT: application/json\r\n").await;
    let reply = client.reply().await;
    assert!(reply.body.contains("\"reason\":\"slow_head\""), "{reply}");
    // It is the second request's head that is slow.
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply().await.to_string(), "200 shop: GET /");
    client.write("GET / HT").await;
    assert_eq!(client.reply().await.status(), 408);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_without_a_word() {
    let shop = Origin::named("shop").await;
    let ingress = limited("limits.keepalive-idle=200ms limits.head-time=1h", &shop).await;
    let mut silent = Wire::to(ingress.address).await;
    let mut used = Wire::to(ingress.address).await;
    used.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    used.reply().await;
    assert_eq!((silent.rest().await, used.rest().await), (String::new(), String::new()));
    assert_eq!(ingress.refused("slow_head"), 0);
}

#[tokio::test]
async fn a_client_that_is_still_sending_can_read_why_it_was_refused() {
    const LARGE: usize = 600_000;
    let shop = Origin::named("shop").await;
    let ingress = limited("", &shop).await;
    let expect_close = |extra: &str| format!("{extra}Content-Length: {LARGE}\r\n\r\n");
    for (head, status) in [
        (expect_close("POST / HTTP/1.1\r\nHost: a\r\n"), "413"),
        (expect_close("POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"), "400"),
        (expect_close("POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n"), "417"),
        ("malformed\r\n\r\n".to_owned(), "400"),
    ] {
        let mut client = TcpStream::connect(ingress.address).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let exchange = async {
            // The answer is underway already; a reset would make the second write fail.
            let half = vec![b'x'; LARGE / 2];
            client.write_all(&half).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(&half).await?;
            client.read_to_string(&mut answer).await
        };
        soon("an answer", exchange).await.unwrap_or_else(|error| panic!("{head}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
}

#[tokio::test]
async fn who_sends_without_end_after_the_answer_is_cut_off_in_a_second_or_two() {
    let shop = Origin::named("shop").await;
    let ingress = limited("", &shop).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await;
    assert_eq!(client.reply().await.status(), 413);
    let open = || ingress.connections.open.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(open(), 1, "it counts for as long as it lasts");
    let sending = async {
        while open() > 0 {
            client.write(&[b'x'; 1000]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the end of the connection", sending).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn what_the_parser_refuses_is_counted() {
    let shop = Origin::named("shop").await;
    let ingress = limited("limits.head-size=8KiB", &shop).await;
    let long = "x".repeat(100_000);
    for (request, status, reason, count) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed", 1),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(), 400, "malformed", 2),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431, "head_too_large", 1),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 431, "head_too_large", 2),
    ] {
        let mut client = Wire::to(ingress.address).await;
        client.write(&request).await;
        assert_eq!(client.reply().await.status(), status);
        client.finish().await;
        eventually("it is counted", || ingress.refused(reason) == count).await;
    }
    assert_eq!(shop.requests(), [""; 0]);
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_gets_400_that_says_so() {
    let shop = Origin::named("shop").await;
    let options = "listeners.websecure.address=127.0.0.1:0 tls.certificates=/nowhere";
    let ingress = limited(options, &shop).await;
    let mut client = Wire::to(ingress.second.unwrap()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.field("content-type"), Some("text/plain; charset=utf-8"));
    assert!(reply.body.contains("https://"), "{reply}");
    client.closed().await;
    let handshakes = ingress.proxy.handshakes.each();
    let failed: Vec<_> = handshakes.flat_map(|cell| cell.iter().collect::<Vec<_>>()).collect();
    assert_eq!(failed, [(("none", "not_tls"), 1)]);
    assert_eq!(ingress.refused("not_tls"), 1);
    // Whatever else is no TLS is just closed.
    let mut client = Wire::to(ingress.second.unwrap()).await;
    client.write("\0\0\0\0\0\0\0\0").await;
    assert!(!client.rest_of_bytes().await.starts_with(b"HTTP"));
}
