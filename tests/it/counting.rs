//! What is counted when somebody leaves in the middle.

use crate::support::{Ingress, Origin, Wire, eventually, field, service};

/// A replica that reads and never answers.
async fn silent() -> Origin {
    Origin::scripted(|mut wire: Wire| async move { wire.closed().await }).await
}

#[tokio::test]
async fn a_client_that_leaves_with_its_request_counts_as_one_that_left() {
    let silent = silent().await;
    let ingress = Ingress::before(silent.address).await;
    for leaves_with in 1..=20 {
        let mut client = Wire::to(ingress.address).await;
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.finish().await;
        client.closed().await;
        eventually("it was counted", || ingress.counted(499) == leaves_with).await;
    }
}

#[tokio::test]
async fn a_try_whose_client_left_is_one_of_its_replica() {
    let silent = silent().await;
    let ingress = Ingress::before(silent.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let endpoint = ingress.endpoint(silent.address).unwrap();
    eventually("the replica had it", || endpoint.in_flight() == 1).await;
    client.reset();
    eventually("it was counted", || ingress.outcomes(silent.address, "client") == 1).await;
    assert_eq!(ingress.counted(499), 1);
    assert_eq!(ingress.state(silent.address), "healthy");
}

#[tokio::test]
async fn a_client_that_leaves_in_its_body_counts_as_one_that_left_and_is_answered_if_it_listens() {
    let silent = silent().await;
    let services = [service("shop", "hiveway.path=/", &[silent.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"]
    {
        let mut client = Wire::to(ingress.address).await;
        client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        let endpoint = ingress.endpoint(silent.address).unwrap();
        eventually("the replica had it", || endpoint.in_flight() == 1).await;
        client.finish().await;
        if let Some(head) = client.next_head().await {
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            assert_eq!(field(&head, "connection"), Some("close"));
        }
        client.closed().await;
    }
    eventually("both were counted", || ingress.counted(499) == 2).await;
    assert_eq!(ingress.outcomes(silent.address, "client"), 2);
    for (line, came) in ingress.log.read(2).await.iter().zip([5, 3]) {
        assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&came.into(), &0.into()));
        assert_eq!(line.get("reason"), None);
    }
}

#[tokio::test]
async fn the_bytes_of_a_tunnel_count_also_when_it_is_reset() {
    let echo = Origin::scripted(|mut wire: Wire| async move {
        while wire.next_head().await.is_some() {
            let head = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
            wire.write(head).await;
            let said = wire.exactly(5).await;
            wire.write(said).await;
            wire.closed().await;
        }
    })
    .await;
    let services = [service("shop", "hiveway.path=/", &[echo.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    let mut client = Wire::to(ingress.address).await;
    let fields = "Connection: upgrade\r\nUpgrade: echo";
    client.write(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).await;
    client.head().await;
    client.write("hello").await;
    assert_eq!(client.exactly(5).await, "hello");
    client.reset();
    let line = &ingress.log.read(1).await[0];
    let bytes = (&line["request_bytes"], &line["response_bytes"]);
    assert_eq!((&line["status"], bytes), (&101.into(), (&5.into(), &5.into())));
}
