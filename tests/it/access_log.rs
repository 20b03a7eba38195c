//! The access log: one line for each request, whatever becomes of it.

use serde_json::Value;

use crate::support::{
    Caller, Ingress, Origin, Wire, answer_with, check, eventually, send, service,
};

/// The fields of a line that are the same in each run: `status=200 host=shop.test`; `-` for none.
fn show(line: &Value, fields: &str) -> String {
    let show = |name: &str| {
        let value = line.get(name).map_or("-".to_owned(), ToString::to_string);
        format!("{name}={}", value.trim_matches('"'))
    };
    fields.split(' ').map(show).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_request_has_a_line_that_says_what_was_asked_and_who_answered() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    let request = "POST /cart?card=4111 HTTP/1.1\r\nHost: shop.test:80\r\nUser-Agent: test/1\r\n\
                   Authorization: Basic secret\r\nCookie: secret\r\nContent-Length: 5\r\n\r\nhello";
    let reply = send(&ingress, request).await;
    let lines = ingress.log.read(1).await;
    assert_eq!(
        show(&lines[0], "client listener method host path protocol tls user_agent"),
        "client=127.0.0.1 listener=web method=POST host=shop.test:80 path=/cart \
         protocol=HTTP/1.1 tls=- user_agent=test/1"
    );
    assert_eq!(
        show(&lines[0], "status reason route service endpoint request_bytes grpc_code retries"),
        format!(
            "status=200 reason=- route=shop/default service=shop endpoint=shop.{} request_bytes=5 \
             grpc_code=- retries=-",
            shop.address
        )
    );
    assert_eq!(lines[0]["response_bytes"], reply.body.len());
    assert_eq!(lines[0]["request_id"].as_str().unwrap().len(), 32);
    let millis = |name: &str| lines[0][name].as_f64().unwrap();
    assert!(millis("upstream_ms") <= millis("duration_ms"), "{}", lines[0]);
    let text = ingress.log.all().concat();
    assert!(!text.contains("secret") && !text.contains("4111"), "{text}");
}

#[tokio::test]
async fn what_the_edge_answers_itself_has_its_reason() {
    let services = [service("shop", "hiveway.host=shop.test hiveway.allow=10.0.0.0/8", &[])];
    let options = "log.access=true listeners.web.health-path=/up";
    let ingress = Ingress::with_options(options, services).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: none.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET /up HTTP/1.0\r\n\r\n",
    ] {
        send(&ingress, request).await;
    }
    let lines = ingress.log.read(4).await;
    let shown: Vec<_> =
        lines.iter().map(|line| show(line, "status reason host route endpoint")).collect();
    assert_eq!(
        shown,
        [
            "status=404 reason=no_route host=none.test route=- endpoint=-",
            "status=403 reason=forbidden host=shop.test route=shop/default endpoint=-",
            "status=400 reason=bad_host host=b route=- endpoint=-",
            "status=200 reason=- host= route=- endpoint=-",
        ]
    );
}

#[tokio::test]
async fn the_replica_that_was_asked_last_is_named_with_the_tries_before_it() {
    let resets = Origin::scripted(|mut wire: Wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let services = [service("shop", "hiveway.path=/", &[resets.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    assert_eq!(send(&ingress, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 502);
    let lines = ingress.log.read(1).await;
    let expected = format!("status=502 reason=reset endpoint=shop.{} retries=2", resets.address);
    assert_eq!(show(&lines[0], "status reason endpoint retries"), expected);
    assert!(lines[0]["upstream_ms"].is_number());
}

#[tokio::test]
async fn a_client_that_leaves_has_a_line_as_well() {
    let silent = Origin::scripted(|mut wire: Wire| async move {
        wire.head().await;
        wire.closed().await;
    })
    .await;
    let services = [service("shop", "hiveway.path=/", &[silent.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the replica had it", || ingress.endpoint(silent.address).unwrap().in_flight() == 1)
        .await;
    client.reset();
    let lines = ingress.log.read(1).await;
    let expected = format!("status=499 endpoint=shop.{} response_bytes=0", silent.address);
    assert_eq!(show(&lines[0], "status endpoint response_bytes"), expected);
}

#[tokio::test]
async fn a_call_has_the_status_that_it_ended_with() {
    let replica =
        Origin::h2_with(|request, respond| answer_with((request, respond), "no", "5")).await;
    let services = [service("shop", "hiveway.protocol=grpc", &[replica.address])];
    let ingress = Ingress::with_options("log.access=true", services).await;
    Caller::of(&ingress).await.ask().await;
    let lines = ingress.log.read(1).await;
    assert_eq!(
        show(&lines[0], "protocol path status grpc_code"),
        "protocol=HTTP/2 path=/shop.Shop/Buy status=200 grpc_code=NotFound"
    );
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_the_one_that_it_names() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let options = "log.access=true listeners.web.trusted-proxies=127.0.0.1/32";
    let ingress = Ingress::with_options(options, services).await;
    let fields = "X-Forwarded-For: 198.51.100.9, 203.0.113.7\r\nX-Request-ID: from-the-proxy";
    send(&ingress, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).await;
    let lines = ingress.log.read(1).await;
    let expected = "client=203.0.113.7 request_id=from-the-proxy";
    assert_eq!(show(&lines[0], "client request_id"), expected);
}

#[tokio::test]
async fn the_last_requests_are_written_before_the_edge_ends() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let mut ingress = Ingress::with_options("log.access=true", services).await;
    for _ in 0..20 {
        check(&ingress, "a", "/", "200 shop: GET /").await;
    }
    ingress.stop();
    ingress.ended().await;
    assert_eq!(ingress.log.all().len(), 20);
}

#[tokio::test]
async fn as_text_a_line_is_for_reading_and_without_the_option_there_is_none() {
    let shop = Origin::named("shop").await;
    let services = [service("shop", "hiveway.path=/", &[shop.address])];
    let options = "log.access=true log.format=text";
    let mut ingress = Ingress::with_options(options, services.clone()).await;
    let mut silent = Ingress::start(services).await;
    check(&ingress, "shop.test", "/cart", "200 shop: GET /cart").await;
    check(&silent, "shop.test", "/cart", "200 shop: GET /cart").await;
    ingress.stop();
    silent.stop();
    ingress.ended().await;
    silent.ended().await;
    let lines = ingress.log.all();
    assert!(lines[0].contains(r#"Z 127.0.0.1 "GET shop.test/cart HTTP/1.1" "#), "{lines:?}");
    assert_eq!(silent.log.all(), [""; 0]);
}
