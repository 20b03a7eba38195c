//! What a request and its response look like at the other end.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::support::{H2, Ingress, Origin, Wire, check, field, get, send, service, soon, text_of};

#[tokio::test]
async fn a_request_reaches_the_replica_of_its_route() {
    let (shop, blog) = (Origin::named("shop").await, Origin::named("blog").await);
    let ingress = Ingress::start([
        service("shop", "hiveway.host=shop.test", &[shop.address]),
        service("blog", "hiveway.host=*.blog.test hiveway.path=/posts", &[blog.address]),
    ])
    .await;
    check(&ingress, "shop.test", "/", "200 shop: GET /").await;
    check(&ingress, "shop.test:8080", "/cart?id=1", "200 shop: GET /cart?id=1").await;
    check(&ingress, "my.blog.test", "/posts/1", "200 blog: GET /posts/1").await;
    check(&ingress, "my.blog.test", "/postscript", "404 404 Not Found (no_route)").await;
    check(&ingress, "other.test", "/", "404 404 Not Found (no_route)").await;
}

#[tokio::test]
async fn the_path_is_forwarded_in_its_normal_form() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    check(&ingress, "a", "//x/./y/../%7Ez?q=//..", "200 shop: GET /x/~z?q=//..").await;
    check(&ingress, "a", "/x%2fy", "400 400 Bad Request (bad_path)").await;
    check(&ingress, "a", "/../x", "400 400 Bad Request (bad_path)").await;
}

#[tokio::test]
async fn a_prefix_is_stripped_and_told() {
    let origin = Origin::scripted(|mut wire| async move {
        let head = wire.head().await;
        wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()))
            .await;
    })
    .await;
    let labels = "hiveway.path=/api hiveway.strip-prefix=true";
    let ingress = Ingress::start([service("shop", labels, &[origin.address])]).await;
    let seen = get(&ingress, "a", "/api/x?y").await.body;
    assert!(seen.starts_with("GET /x?y HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-prefix: /api\r\n"), "{seen}");
}

/// A replica that answers with the head that it was sent.
async fn mirror() -> Origin {
    Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let length = head.len();
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await;
        }
    })
    .await
}

#[tokio::test]
async fn fields_of_one_connection_are_taken_off_and_those_about_the_client_put_on() {
    let origin = mirror().await;
    let ingress = Ingress::before(origin.address).await;
    let seen = send(
        &ingress,
        "GET / HTTP/1.1\r\nHost: old.test:80\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_Proto: https\r\n\
         Forwarded: for=6.6.6.6\r\nX-Request-ID: mine\r\nX-Kept: yes\r\n\r\n",
    )
    .await
    .body;
    let port = ingress.address.port().to_string();
    let seen_field = |name| field(&seen, name);
    assert_eq!(seen_field("Host"), Some("old.test:80"), "{seen}");
    assert_eq!(seen_field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen_field("X-Real-IP"), Some("127.0.0.1"));
    assert_eq!(seen_field("X-Forwarded-Proto"), Some("http"));
    assert_eq!(seen_field("X-Forwarded-Host"), Some("old.test:80"));
    assert_eq!(seen_field("X-Forwarded-Port"), Some(port.as_str()));
    assert_eq!(seen_field("X-Request-ID").map(str::len), Some(32));
    assert_eq!(seen_field("X-Kept"), Some("yes"));
    for gone in ["X-Hop", "Keep-Alive", "Connection", "TE", "X_Forwarded_Proto", "Forwarded"] {
        assert_eq!(seen_field(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn each_request_has_an_id_of_its_own() {
    let origin = mirror().await;
    let ingress = Ingress::before(origin.address).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let reply = get(&ingress, "a", "/").await;
        ids.insert(field(&reply.body, "x-request-id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_response_is_passed_on_before_its_body_ends() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
        // The second half waits for word that the client has the first.
        wire.head().await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_request_is_passed_on_before_its_body_ends_and_both_may_take_turns() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while let Some(said) = wire.chunk().await {
            let answer = format!("{said}!");
            wire.write(format!("{:x}\r\n{answer}\r\n", answer.len())).await;
            if said.is_empty() {
                break;
            }
        }
        wire.write("0\r\n\r\n").await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for word in ["a", "bc", "def"] {
        client.write(format!("{:x}\r\n{word}\r\n", word.len())).await;
        assert_eq!(client.chunk().await.unwrap(), format!("{word}!"));
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some("!"));
    assert_eq!(client.chunk().await.as_deref(), Some(""));
}

#[tokio::test]
async fn responses_without_a_body_keep_what_they_say_about_it() {
    for (request, response, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 42", Some("42")),
        // To tell a length here is optional (RFC 9110, section 8.6), and hyper does not.
        ("GET", "304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 42", None),
        ("GET", "304 Not Modified\r\nETag: \"x\"", None),
        ("GET", "204 No Content", None),
    ] {
        let origin = Origin::answering(&format!("HTTP/1.1 {response}\r\n\r\n")).await;
        let ingress = Ingress::before(origin.address).await;
        let mut client = Wire::to(ingress.address).await;
        // The second answer shows that the first one's end was found by both sides.
        for _ in 0..2 {
            client.write(format!("{request} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {}", &response[..3])), "{head}");
            assert_eq!(field(&head, "content-length"), length, "{head}");
            assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
        }
        // Both went over the one connection that was made to reach the replica.
        assert_eq!(origin.accepted(), 1, "{response}");
    }
}

#[tokio::test]
async fn a_head_request_keeps_its_content_length_over_http2_as_well() {
    let origin = Origin::h2_with(|_, mut respond| async move {
        let response = Response::builder().header("content-length", "42").body(()).unwrap();
        respond.send_response(response, true).unwrap();
    })
    .await;
    let ingress = Ingress::before_h2(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "content-length"), Some("42"), "{head}");

    let client = H2::to(ingress.address).await;
    let (response, _) = client.begin(Request::head("http://a/").body(()).unwrap(), true).await;
    let response = soon("a response", response).await.unwrap();
    assert_eq!(response.headers()["content-length"], "42");
}

#[tokio::test]
async fn interim_responses_are_swallowed_and_the_final_one_arrives() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let ingress = Ingress::before(origin.address).await;
    check(&ingress, "a", "/", "200 ok").await;
}

#[tokio::test]
async fn any_method_may_have_a_body() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    for method in ["GET", "DELETE", "POST", "PURGE"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let sized = format!("{head}Content-Length: 5\r\n\r\nhello");
        for request in [chunked, sized] {
            let reply = send(&ingress, &request).await;
            assert_eq!(reply.to_string(), format!("200 shop: {method} / hello"), "{request}");
        }
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole_in_both_directions() {
    let shop = Origin::named("").await;
    let large = "0123456789abcdef".repeat(1 << 16);
    let shop_h2 = Origin::h2("").await;
    for ingress in [Ingress::before(shop.address).await, Ingress::before_h2(shop_h2.address).await]
    {
        let length = large.len();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let reply = send(&ingress, &format!("{head}{large}")).await;
        assert!(reply.whole);
        assert_eq!(reply.body.len(), ": POST / ".len() + length);
        assert!(reply.body.ends_with(&large));
    }
}

#[tokio::test]
async fn trailers_pass_between_http1_connections() {
    let origin = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let sent = wire.body(&head).await;
            wire.write(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 {:x}\r\n{sent}\r\n0\r\nX-Sum: 7\r\n\r\n",
                sent.len()
            ))
            .await;
        }
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    let reply = send(
        &ingress,
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Mine\r\n\r\n2\r\nhi\r\n0\r\nX-Mine: 1\r\n\r\n",
    )
    .await;
    assert_eq!(reply.body.to_lowercase(), "hix-mine: 1\r\nx-sum: 7\r\n");
}

/// A replica that answers with the request's body and trailers, and a trailer of its own.
async fn h2_with_trailers() -> Origin {
    Origin::h2_with(|request, mut respond| async move {
        let sent = text_of(&mut request.into_body()).await;
        let response = Response::builder().header("trailer", "x-sum").body(()).unwrap();
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(Bytes::from(sent), false).unwrap();
        body.send_trailers(trailers("x-sum", "7")).unwrap();
    })
    .await
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    [(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))]
        .into_iter()
        .collect()
}

#[tokio::test]
async fn trailers_pass_between_http2_connections() {
    let origin = h2_with_trailers().await;
    let ingress = Ingress::before_h2(origin.address).await;
    let client = H2::to(ingress.address).await;
    let request = Request::post("http://a/").header("te", "trailers").body(()).unwrap();
    let (response, mut body) = client.begin(request, false).await;
    body.send_data(Bytes::from("hi"), false).unwrap();
    body.send_trailers(trailers("x-mine", "1")).unwrap();
    let mut response = soon("a response", response).await.unwrap();
    assert_eq!(text_of(response.body_mut()).await, "hi x-mine=1 x-sum=7");
}

#[tokio::test]
async fn trailers_of_an_http2_replica_reach_an_http1_client_that_wants_them() {
    let origin = h2_with_trailers().await;
    let ingress = Ingress::before_h2(origin.address).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(send(&ingress, request).await.body, "hix-sum: 7\r\n");
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(send(&ingress, request).await.body, "hi");
}

#[tokio::test]
async fn cookies_that_http2_splits_are_one_field_in_http1() {
    let origin = mirror().await;
    let ingress = Ingress::before(origin.address).await;
    let client = H2::to(ingress.address).await;
    let request = Request::get("http://a.test/").header("cookie", "a=1").header("cookie", "b=2");
    let (response, _) = client.begin(request.body(()).unwrap(), true).await;
    let mut response = soon("a response", response).await.unwrap();
    let seen = text_of(response.body_mut()).await;
    assert_eq!(field(&seen, "cookie"), Some("a=1; b=2"), "{seen}");
    assert_eq!(field(&seen, "host"), Some("a.test"), "{seen}");
}

const EXPECTS: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[tokio::test]
async fn a_client_that_expects_100_gets_it_once_a_replica_is_connected() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{EXPECTS}")).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hello").await;
    assert_eq!(client.reply().await.to_string(), "200 shop: POST / hello");
}

#[tokio::test]
async fn a_client_that_expects_100_and_is_refused_gets_none() {
    let shop = Origin::named("shop").await;
    let labels = "hiveway.host=a hiveway.limit.body=4";
    let ingress = Ingress::start([
        service("shop", labels, &[shop.address]),
        service("gone", "hiveway.host=b hiveway.timeout.queue=50ms", &[]),
    ])
    .await;
    for (host, status) in [("a", 413), ("b", 503), ("c", 404)] {
        let reply = send(&ingress, &format!("POST / HTTP/1.1\r\nHost: {host}\r\n{EXPECTS}")).await;
        assert_eq!(reply.status(), status);
    }
    assert_eq!(shop.requests(), [""; 0]);
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET /x HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.to_string(), "200 shop: GET /x");
    assert!(reply.head.starts_with("HTTP/1.0 200"), "{}", reply.head);
    client.closed().await;
}

#[tokio::test]
async fn http_1_0_clients_get_no_chunks() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let origin = Origin::answering(chunks).await;
    let ingress = Ingress::before(origin.address).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    let response = client.rest().await;
    assert!(response.ends_with("\r\n\r\nhi"), "{response}");
}

#[tokio::test]
async fn http_1_0_replicas_are_understood() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.0 200 OK\r\n\r\nup to the end").await;
    })
    .await;
    let ingress = Ingress::before(origin.address).await;
    check(&ingress, "a", "/", "200 up to the end").await;
    check(&ingress, "a", "/", "200 up to the end").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    client
        .write(
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
             GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
    for expected in ["200 shop: GET /1", "200 shop: POST /2 hi", "200 shop: GET /3"] {
        assert_eq!(client.reply().await.to_string(), expected);
    }
    client.closed().await;
}

#[tokio::test]
async fn an_absolute_target_wins_over_the_host_field() {
    let origin = mirror().await;
    let ingress = Ingress::start([service("shop", "hiveway.host=a.test", &[origin.address])]).await;
    let reply = send(&ingress, "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert!(reply.body.starts_with("GET /x HTTP/1.1\r\n"), "{}", reply.body);
    assert_eq!(field(&reply.body, "host"), Some("a.test"));
}

#[tokio::test]
async fn requests_of_one_client_share_connections_to_the_replica() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    for _ in 0..20 {
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.reply().await.to_string(), "200 shop: GET /");
    }
    assert!(shop.accepted() <= 2, "{}", shop.accepted());
}
