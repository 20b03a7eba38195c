//! What a route or a listener refuses.

use bytes::Bytes;
use http::Request;

use crate::support::{
    H2, Ingress, Origin, Wire, check, eventually, get, send, service, soon, text_of,
};

#[tokio::test]
async fn a_body_that_is_too_large_gets_413() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::start([service("shop", "hiveway.limit.body=5", &[shop.address])]).await;
    for (body, status) in [
        ("Content-Length: 5\r\n\r\nhello", 200),
        ("Content-Length: 6\r\n\r\nhello!", 413),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 413),
    ] {
        let framing = body.split(':').next().unwrap();
        let head = format!("POST /{framing}/{status} HTTP/1.1\r\nHost: a\r\n");
        let reply = send(&ingress, &format!("{head}{body}")).await;
        assert_eq!(reply.status(), status, "{body}");
        if status == 413 {
            assert_eq!(reply.field("connection"), Some("close"));
        }
    }
    let known = "POST /Content-Length/413".to_owned();
    assert!(!shop.requests().contains(&known), "what is known to be too large is not even sent");
    let client = H2::to(ingress.address).await;
    let (response, mut body) =
        client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
    body.send_data(Bytes::from("hello!"), true).unwrap();
    assert_eq!(soon("a response", response).await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_body_that_is_too_large_does_not_count_against_the_replica() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let labels = "hiveway.limit.body=1 hiveway.eject.consecutive=1";
    let ingress = Ingress::start([service("shop", labels, &[one.address, two.address])]).await;
    for _ in 0..10 {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let reply = send(&ingress, &format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}")).await;
        assert_eq!(reply.status(), 413);
    }
    assert_eq!((ingress.state(one.address), ingress.state(two.address)), ("healthy", "healthy"));
}

#[tokio::test]
async fn more_requests_in_flight_than_allowed_get_503() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            // Holds on to requests until the client sends the rest of the body.
            wire.body(&head).await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let labels = "hiveway.limit.inflight=2";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::to(ingress.address).await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").await;
        held.push(client);
    }
    let in_flight =
        || ingress.upstream("shop").in_flight.load(std::sync::atomic::Ordering::Relaxed);
    eventually("both are in flight", || in_flight() == 2).await;
    let reply = get(&ingress, "a", "/").await;
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (limit)"), "{reply}");
    assert_eq!(reply.field("retry-after"), Some("1"));
    for client in &mut held {
        client.write("x").await;
        assert_eq!(client.reply().await.to_string(), "200 ok");
    }
    eventually("none is in flight", || in_flight() == 0).await;
    check(&ingress, "a", "/", "200 ok").await;
}

#[tokio::test]
async fn clients_that_are_not_allowed_get_403() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::start([
        service("in", "hiveway.host=in.test hiveway.allow=127.0.0.0/8,::1", &[shop.address]),
        service("out", "hiveway.host=out.test hiveway.allow=10.0.0.0/8", &[shop.address]),
    ])
    .await;
    check(&ingress, "in.test", "/", "200 shop: GET /").await;
    check(&ingress, "out.test", "/", "403 403 Forbidden (forbidden)").await;
    let forged = "GET / HTTP/1.1\r\nHost: out.test\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n";
    assert_eq!(send(&ingress, forged).await.status(), 403);
}

#[tokio::test]
async fn a_trusted_proxy_tells_who_the_client_is() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.allow=10.0.0.0/8", &[shop.address])];
    let options = "listeners.web.trusted-proxies=127.0.0.1/32";
    let ingress = Ingress::with_options(options, services).await;
    for (told, status) in [
        ("10.1.1.1", 200),
        ("10.1.1.1, 8.8.8.8", 403),
        ("8.8.8.8, 10.1.1.1", 200),
        ("10.1.1.1, unknown", 403),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {told}\r\n\r\n");
        assert_eq!(send(&ingress, &request).await.status(), status, "{told}");
    }
}

#[tokio::test]
async fn a_client_whom_a_trusted_proxy_cannot_name_is_not_taken_for_the_proxy() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.allow=127.0.0.0/8", &[shop.address])];
    let options = "listeners.web.trusted-proxies=127.0.0.1/32";
    let ingress = Ingress::with_options(options, services).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: unknown\r\n\r\n";
    assert_eq!(send(&ingress, request).await.status(), 403);
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn a_listener_answers_its_health_path_itself() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.host=shop.test", &[shop.address])];
    let ingress = Ingress::with_options("listeners.web.health-path=/up", services).await;
    check(&ingress, "10.0.0.1", "/up", "200 ok").await;
    check(&ingress, "shop.test", "/up", "200 ok").await;
    // Some load balancers send no `Host` with their checks.
    let mut balancer = Wire::to(ingress.address).await;
    balancer.write("GET /up HTTP/1.0\r\n\r\n").await;
    assert!(balancer.head().await.starts_with("HTTP/1.0 200"));
    check(&ingress, "shop.test", "/up/x", "200 shop: GET /up/x").await;
    assert_eq!(shop.requests(), ["GET /up/x"]);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_connection_closed() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ] {
        let mut client = Wire::to(ingress.address).await;
        client.write(request).await;
        assert_eq!(client.reply().await.status(), status, "{request}");
        client.closed().await;
    }
    assert_eq!(shop.requests(), [""; 0]);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("limits.head-size=8KiB", services).await;
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(7000));
    assert_eq!(send(&ingress, &fits).await.status(), 200);
    let fields = "X: y\r\n".repeat(200);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert_eq!(send(&ingress, &many).await.status(), 431);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(send(&ingress, &large).await.status(), 431);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let options = "limits.head-time=200ms limits.keepalive-idle=5s";
    let ingress = Ingress::with_options(options, services).await;
    for beginning in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HT"] {
        let mut client = Wire::to(ingress.address).await;
        client.write(beginning).await;
        let second = std::time::Duration::from_secs(1);
        assert!(client.closed_within(second).await, "{beginning}");
    }
    // Between requests there is more time.
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.reply().await;
    let mut http2 = H2::to(ingress.address).await;
    let time = std::time::Duration::from_millis(600);
    assert!(!client.closed_within(time).await);
    assert!(tokio::time::timeout(time, &mut http2.connection).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("limits.keepalive-idle=200ms", services).await;
    let mut silent = Wire::to(ingress.address).await;
    silent.closed().await;
    let mut used = Wire::to(ingress.address).await;
    used.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    used.reply().await;
    used.closed().await;
    let client = H2::to(ingress.address).await;
    assert_eq!(client.get("http://a/").await, "200 shop: GET /");
    soon("the end of an idle HTTP/2 connection", client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn refusals_are_json_for_those_who_ask_for_it_and_counted_with_their_status() {
    let ingress = Ingress::start([]).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    let reply = send(&ingress, request).await;
    assert!(reply.body.contains("\"reason\":\"no_route\""), "{}", reply.body);
    assert_eq!(reply.field("content-type"), Some("application/json"));
    let mut client = Wire::to(ingress.address).await;
    client.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404"));
    drop(client);
    let client = H2::to(ingress.address).await;
    let (response, _) = client.begin(Request::head("http://a/").body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!((response.status().as_u16(), &*text_of(response.body_mut()).await), (404, ""));
    eventually("all are counted", || ingress.counted(404) + ingress.counted(499) == 3).await;
    assert_eq!(ingress.counted(404), 3);
}
