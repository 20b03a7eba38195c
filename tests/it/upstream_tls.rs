//! TLS towards replicas: who is believed, which version of HTTP is spoken, and what follows if not.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Authority, Caller, Ingress, Origin, Wire, acceptor, check, eventually, field, get, send,
    service, soon, status_field,
};

/// A replica with TLS, and what its handshakes came to: `h2 shop.test`.
struct Secure {
    origin: Origin,
    shaken: Arc<Mutex<Vec<String>>>,
}

impl Secure {
    async fn new(tls: TlsAcceptor) -> Self {
        let shaken = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&shaken);
        let origin = Origin::connected(move |stream| {
            let (tls, log) = (tls.clone(), Arc::clone(&log));
            async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let chosen = String::from_utf8_lossy(session.alpn_protocol().unwrap_or(b"-"));
                let name = session.server_name().unwrap_or("-");
                log.lock().unwrap().push(format!("{chosen} {name}"));
                if chosen == "h2" {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service_fn(echo)).await;
                } else {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service_fn(echo)).await;
                }
            }
        });
        Self { origin: origin.await, shaken }
    }

    fn shaken(&self) -> Vec<String> {
        self.shaken.lock().unwrap().clone()
    }
}

/// Tells how it was asked: `HTTP/2.0 https POST /x shop.test https 5`.
async fn echo(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let host = head.uri.authority().map(ToString::to_string);
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let told = format!(
        "{:?} {} {} {} {} {} {}",
        head.version,
        head.uri.scheme_str().unwrap_or("-"),
        head.method,
        head.uri.path(),
        host.or(text("host")).unwrap_or_default(),
        text("x-forwarded-for").unwrap_or_default(),
        body.collect().await?.to_bytes().len(),
    );
    Ok(Response::new(Full::new(Bytes::from(told))))
}

/// An edge that trusts the authority by the name `root.pem`.
async fn edge(authority: &Authority, labels: &str, replica: &Origin) -> Ingress {
    authority.put("root.pem", &authority.pem());
    let options = format!("tls.certificates={}", authority.directory.display());
    Ingress::with_options(&options, [service("shop", labels, &[replica.address])]).await
}

const LABELS: &str =
    "hiveway.protocol=https hiveway.host=shop.test hiveway.upstream-tls.ca=root.pem";

#[tokio::test]
async fn the_replica_chooses_the_version_of_http_and_knows_the_name_it_is_asked_for() {
    let authority = Authority::new();
    for (alpn, chosen, told) in [
        (&["h2", "http/1.1"][..], "h2", "HTTP/2.0 https"),
        (&["http/1.1"], "http/1.1", "HTTP/1.1 -"),
        (&[], "-", "HTTP/1.1 -"),
    ] {
        let shop = Secure::new(authority.acceptor("shop.test", alpn)).await;
        let ingress = edge(&authority, LABELS, &shop.origin).await;
        for _ in 0..3 {
            let expected = format!("200 {told} GET /x shop.test 127.0.0.1 0");
            check(&ingress, "shop.test", "/x", &expected).await;
        }
        let head = "POST /y HTTP/1.1\r\nHost: shop.test:8080\r\nTransfer-Encoding: chunked\r\n\r\n";
        let reply = send(&ingress, &format!("{head}5\r\nhello\r\n0\r\n\r\n")).await;
        let expected = format!("200 {told} POST /y shop.test:8080 127.0.0.1 5");
        assert_eq!(reply.to_string(), expected, "{alpn:?}");
        assert_eq!(shop.shaken(), [format!("{chosen} shop.test")], "one connection for all");
    }
}

#[tokio::test]
async fn who_is_not_believed_gets_no_request_until_the_labels_say_otherwise() {
    let (authority, other) = (Authority::new(), Authority::new());
    let shop = Secure::new(authority.acceptor("shop.internal", &["http/1.1"])).await;
    authority.put("root.pem", &authority.pem());
    authority.put("other.pem", &other.pem());
    let options = format!("tls.certificates={}", authority.directory.display());
    let ingress = Ingress::with_options(&options, []).await;
    let ask = async |labels: &str| {
        let labels = format!(
            "hiveway.protocol=https hiveway.host=shop.test hiveway.timeout.queue=200ms {labels}"
        );
        ingress.announce([service("shop", &labels, &[shop.origin.address])]).await;
        get(&ingress, "shop.test", "/").await.status()
    };
    let name = "hiveway.upstream-tls.server-name=shop.internal";
    for (refused, why) in [
        (name.to_owned(), "nobody who is trusted has issued"),
        ("hiveway.upstream-tls.ca=root.pem".to_owned(), "is not for `shop.test`"),
        (format!("hiveway.upstream-tls.ca=other.pem {name}"), "name a secret with its authority"),
        (format!("hiveway.upstream-tls.ca=missing.pem {name}"), "there is no file `missing.pem`"),
    ] {
        assert_eq!(ask(&refused).await, 503, "{refused}");
        assert_eq!(ingress.state(shop.origin.address), "pending", "{refused}");
        let said = ingress.endpoint(shop.origin.address).unwrap().last_check.load_full();
        assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{refused}: {said:?}");
    }
    assert_eq!(shop.shaken(), [""; 0]);
    assert_eq!(ask(&format!("hiveway.upstream-tls.ca=root.pem {name}")).await, 200);
    assert_eq!(ask("hiveway.upstream-tls.verify=false").await, 200);
    assert_eq!(shop.shaken(), ["http/1.1 shop.internal", "http/1.1 shop.test"]);
}

#[tokio::test]
async fn an_authority_that_comes_later_is_believed_from_then_on() {
    let authority = Authority::new();
    let shop = Secure::new(authority.acceptor("shop.test", &["h2"])).await;
    let options = format!("tls.certificates={}", authority.directory.display());
    let ingress = Ingress::with_options(&options, []).await;
    ingress.announce([service("shop", LABELS, &[shop.origin.address])]).await;
    eventually("it is not believed", || ingress.state(shop.origin.address) == "pending").await;
    authority.put("root.pem", &authority.pem());
    eventually("it is believed", || ingress.state(shop.origin.address) == "healthy").await;
    check(&ingress, "shop.test", "/", "200 HTTP/2.0 https GET / shop.test 127.0.0.1 0").await;
}

#[tokio::test]
async fn a_certificate_that_vouches_for_itself_is_believed_if_it_is_named() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
    // As `openssl req -x509` makes them.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = parameters.self_signed(&key).unwrap();
    authority.put("own.pem", &own.pem());
    let shop = Secure::new(acceptor(own.der(), &key, &["http/1.1"])).await;
    let labels = "hiveway.protocol=https hiveway.host=shop.test hiveway.upstream-tls.ca=own.pem";
    let ingress = edge(&authority, labels, &shop.origin).await;
    assert_eq!(get(&ingress, "shop.test", "/").await.status(), 200);
    let labels = format!("{labels} hiveway.upstream-tls.server-name=other.test");
    ingress.announce([service("shop", &labels, &[shop.origin.address])]).await;
    eventually("its name counts", || ingress.state(shop.origin.address) == "pending").await;
}

#[tokio::test]
async fn routes_that_expect_different_replicas_share_no_connection() {
    let authority = Authority::new();
    let shop = Secure::new(authority.acceptor("*.shop.test", &["h2", "http/1.1"])).await;
    let labels = "hiveway.protocol=https hiveway.upstream-tls.ca=root.pem \
                  hiveway.routes.a.host=a.shop.test \
                  hiveway.routes.b.host=b.shop.test,*.b.shop.test";
    let ingress = edge(&authority, labels, &shop.origin).await;
    for host in ["a.shop.test", "b.shop.test", "x.b.shop.test"] {
        assert_eq!(get(&ingress, host, "/").await.status(), 200, "{host}");
    }
    let mut shaken = shop.shaken();
    shaken.sort();
    assert_eq!(shaken, ["h2 a.shop.test", "h2 b.shop.test"]);
}

#[tokio::test]
async fn a_replica_that_speaks_no_tls_and_one_that_breaks_off_get_no_request() {
    let authority = Authority::new();
    let plain = Origin::named("plain").await;
    let closing = Origin::connected(|stream| async move { drop(stream) }).await;
    authority.put("root.pem", &authority.pem());
    let options = format!("tls.certificates={}", authority.directory.display());
    let ingress = Ingress::with_options(&options, []).await;
    let replicas = [plain.address, closing.address];
    ingress.announce([service("shop", LABELS, &replicas)]).await;
    for address in replicas {
        eventually("it is not reached", || ingress.state(address) == "pending").await;
    }
    assert_eq!(plain.requests(), [""; 0]);
}

#[tokio::test]
async fn websockets_get_a_connection_of_http1_though_the_replica_prefers_http2() {
    let authority = Authority::new();
    let tls = authority.acceptor("shop.test", &["h2", "http/1.1"]);
    let shop = Origin::connected(move |stream| {
        let tls = tls.clone();
        async move {
            let mut stream = tls.accept(stream).await.unwrap();
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(echo)).await;
                return;
            }
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert_eq!(field(&head, "host"), Some("shop.test"), "{head}");
            assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: websocket\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                stream.write_all(&bytes[..read]).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    })
    .await;
    let ingress = edge(&authority, LABELS, &shop).await;
    check(&ingress, "shop.test", "/", "200 HTTP/2.0 https GET / shop.test 127.0.0.1 0").await;
    let mut wire = Wire::to(ingress.address).await;
    let head = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
    wire.write(head).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    for word in ["one\n", "two\n"] {
        wire.write(word).await;
        assert_eq!(wire.until("\n").await.as_deref(), Some(word));
    }
}

/// Sends back what it is sent, while it comes.
async fn send_back(request: Request<Incoming>) -> hyper::Result<Response<Incoming>> {
    Ok(Response::new(request.into_body()))
}

#[tokio::test]
async fn large_bodies_pass_both_ways_in_both_versions() {
    let authority = Authority::new();
    let body = "0123456789abcde\n".repeat(100_000);
    for alpn in ["h2", "http/1.1"] {
        let tls = authority.acceptor("shop.test", &[alpn]);
        let shop = Origin::connected(move |stream| {
            let tls = tls.clone();
            async move {
                let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                if alpn == "h2" {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(stream, service_fn(send_back)).await;
                } else {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(stream, service_fn(send_back)).await;
                }
            }
        });
        let shop = shop.await;
        let ingress = edge(&authority, LABELS, &shop).await;
        for _ in 0..2 {
            let stream = TcpStream::connect(ingress.address).await.unwrap();
            let (mut reading, mut writing) = stream.into_split();
            let length = body.len();
            let request = format!(
                "POST / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            let sending =
                async move { writing.write_all(request.as_bytes()).await.map(|()| writing) };
            let sending = tokio::spawn(sending);
            let mut answer = String::new();
            soon("an answer", reading.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{alpn}: {}", &answer[..200]);
            assert!(answer.ends_with(&body), "{alpn}: another body came back");
            let _whole = sending.await.unwrap().unwrap();
        }
    }
}

type Frames = std::array::IntoIter<Result<Frame<Bytes>, std::convert::Infallible>, 2>;
type Said = StreamBody<futures_util::stream::Iter<Frames>>;

/// A service of gRPC that is well, and knows nothing else.
async fn answer_call(request: Request<Incoming>) -> hyper::Result<Response<Said>> {
    let (said, status) = match request.uri().to_string().as_str() {
        "https://a/shop.Shop/Buy" => (&b"said"[..], "5"),
        uri if uri.ends_with("/grpc.health.v1.Health/Check") => (&b"\0\0\0\0\x02\x08\x01"[..], "0"),
        uri => panic!("nobody asks for {uri}"),
    };
    let trailers: HeaderMap = [status_field(status)].into_iter().collect();
    let frames = [Frame::data(Bytes::from_static(said)), Frame::trailers(trailers)].map(Ok);
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(futures_util::stream::iter(frames))).unwrap())
}

#[tokio::test]
async fn calls_over_tls_end_with_their_trailers_and_checks_go_the_same_way() {
    let authority = Authority::new();
    let tls = authority.acceptor("calls.test", &["h2"]);
    let shop = Origin::connected(move |stream| {
        let tls = tls.clone();
        async move {
            let stream = TokioIo::new(tls.accept(stream).await.unwrap());
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(stream, service_fn(answer_call)).await;
        }
    })
    .await;
    let labels = "hiveway.protocol=grpcs hiveway.upstream-tls.ca=root.pem \
                  hiveway.upstream-tls.server-name=calls.test hiveway.health.interval=50ms \
                  hiveway.health.timeout=2s";
    let ingress = edge(&authority, labels, &shop).await;
    let endpoint = ingress.endpoint(shop.address).unwrap();
    eventually("it is checked", || endpoint.last_check.load().is_some()).await;
    assert_eq!(endpoint.last_check.load().as_deref().map(String::as_str), Some("ok"));
    let caller = Caller::of(&ingress).await;
    assert_eq!(caller.ask().await, "200 said grpc-status=5");
}

#[tokio::test]
async fn checks_of_a_path_speak_the_version_that_the_replica_chooses() {
    let authority = Authority::new();
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let shop = Secure::new(authority.acceptor("shop.test", alpn)).await;
        let labels = format!(
            "{LABELS} hiveway.health.path=/up hiveway.health.interval=50ms hiveway.health.timeout=2s"
        );
        let ingress = edge(&authority, &labels, &shop.origin).await;
        assert_eq!(get(&ingress, "shop.test", "/").await.status(), 200);
        let endpoint = ingress.endpoint(shop.origin.address).unwrap();
        assert_eq!(endpoint.last_check.load().as_deref().map(String::as_str), Some("ok"));
    }
}
