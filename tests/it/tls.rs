//! TLS towards clients, with a client that verifies what it is shown.

use std::time::Duration;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{Authority, H2, Ingress, Origin, Wire, check, eventually, field, get, soon};

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// A replica that answers with the head that it got.
async fn mirror() -> Origin {
    Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let length = head.len();
            wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await;
        }
    })
    .await
}

fn handshakes(ingress: &Ingress, version: &str, result: &str) -> u64 {
    let cells = ingress.proxy.handshakes.each();
    let counts = cells.map(|cell| {
        let same = cell.iter().filter(|((v, r), _)| (*v, *r) == (version, result));
        same.map(|(_, count)| count).sum::<u64>()
    });
    counts.sum()
}

#[tokio::test]
async fn clients_choose_the_version_of_http_by_alpn() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let labels = "hiveway.host=shop.test";
    let ingress = authority.ingress("log.access=true", labels, shop.address).await;
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let client = authority.client(&["h2", "http/1.1"], versions);
        let client = H2::over(client.connect(&ingress, "shop.test").await.unwrap()).await;
        assert_eq!(client.get("https://shop.test/x?y").await, "200 shop: GET /x?y");
        for alpn in [&["http/1.1"][..], &[]] {
            let client = authority.client(alpn, versions);
            let answer = client.get(&ingress, "shop.test", "/x").await.unwrap();
            assert!(answer.ends_with("shop: GET /x"), "{alpn:?}: {answer}");
        }
    }
    assert_eq!((handshakes(&ingress, "1.3", "ok"), handshakes(&ingress, "1.2", "ok")), (3, 3));
    let lines = ingress.log.read(6).await;
    let versions: Vec<_> = lines.iter().map(|line| line["tls"].as_str().unwrap()).collect();
    assert_eq!(versions, ["1.3", "1.3", "1.3", "1.2", "1.2", "1.2"]);
    let strange = authority.client(&["smtp"], &[&TLS13]);
    let refused = strange.connect(&ingress, "shop.test").await.unwrap_err();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn replicas_learn_that_the_client_speaks_tls() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let origin = mirror().await;
    let ingress = authority.ingress("", "hiveway.host=shop.test", origin.address).await;
    let client = authority.client(&[], &[&TLS13]);
    let answer = client.get(&ingress, "shop.test", "/").await.unwrap();
    let (_, mirrored) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(field(mirrored, "x-forwarded-proto"), Some("https"));
    let port = ingress.second.unwrap().port().to_string();
    assert_eq!(field(mirrored, "x-forwarded-port"), Some(port.as_str()));
    let plain = get(&ingress, "shop.test", "/").await;
    assert_eq!(field(&plain.body, "x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn only_plain_requests_are_redirected_and_only_others_get_hsts() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let labels = "hiveway.host=shop.test hiveway.hsts=365d hiveway.routes.safe.path=/safe \
                  hiveway.routes.safe.https-redirect=true";
    let options = "listeners.web.trusted-proxies=127.0.0.1/32";
    let ingress = authority.ingress(options, labels, shop.address).await;
    let client = authority.client(&[], &[&TLS13]);
    for path in ["/", "/safe"] {
        let answer = client.get(&ingress, "shop.test", path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(field(&answer, "strict-transport-security"), Some("max-age=31536000"));
    }
    let plain = get(&ingress, "shop.test", "/").await;
    assert_eq!((plain.status(), plain.field("strict-transport-security")), (200, None));
    let redirected = get(&ingress, "shop.test", "/safe?x").await;
    let location = redirected.field("location");
    assert_eq!((redirected.status(), location), (308, Some("https://shop.test/safe?x")));
    // A trusted proxy in front has ended TLS itself: to redirect would go round in a circle.
    let mut proxied = Wire::to(ingress.address).await;
    let head = "GET /safe HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-Proto: https\r\n\r\n";
    proxied.write(head).await;
    let reply = proxied.reply().await;
    assert_eq!((reply.status(), reply.field("strict-transport-security").is_some()), (200, true));
}

#[tokio::test]
async fn each_name_gets_its_own_certificate() {
    let authority = Authority::new();
    let one = authority.issue("one", "one.test");
    let any = authority.issue("any", "*.shop.test");
    let shop = Origin::named("shop").await;
    let ingress = authority.ingress("", "hiveway.path=/", shop.address).await;
    let client = authority.client(&[], &[&TLS13]);
    for (name, expected) in [("one.test", &one), ("a.shop.test", &any), ("b.shop.test", &any)] {
        let stream = client.connect(&ingress, name).await.unwrap();
        assert_eq!(shown(&stream), *expected, "{name}");
    }
    let refused = client.connect(&ingress, "other.test").await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    eventually("it is counted", || handshakes(&ingress, "none", "refused") == 1).await;
}

#[tokio::test]
async fn certificates_change_while_requests_run_and_none_fails() {
    let authority = Authority::new();
    let first = authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let ingress = authority.ingress("", "hiveway.host=shop.test", shop.address).await;
    let client = authority.client(&[], &[&TLS13]);
    let kept = authority.client(&["h2"], &[&TLS13]);
    let kept = H2::over(kept.connect(&ingress, "shop.test").await.unwrap()).await;
    let mut second = None;
    let mut seen = Vec::new();
    for number in 0..200 {
        match number {
            40 => second = Some(authority.issue("site", "shop.test")),
            // Whoever writes it anew is not done yet, and others leave nonsense behind.
            100 => authority.put("site", "-----BEGIN CERTIFICATE-----\nAAAA"),
            120 => authority.put("broken", "-----BEGIN PRIVATE KEY-----\nAAAA\n"),
            _ => {}
        }
        let stream = client.connect(&ingress, "shop.test").await.unwrap();
        let certificate = shown(&stream);
        if seen.last() != Some(&certificate) {
            seen.push(certificate);
        }
        let answer = client.get(&ingress, "shop.test", "/").await.unwrap();
        assert!(answer.ends_with("shop: GET /"), "{number}: {answer}");
        assert_eq!(kept.get("https://shop.test/").await, "200 shop: GET /", "{number}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(seen, [first, second.unwrap()]);
}

#[tokio::test]
async fn a_certificate_that_comes_later_replaces_the_one_of_the_first_steps() {
    let authority = Authority::new();
    let shop = Origin::named("shop").await;
    let ingress = authority.ingress("", "hiveway.host=shop.test", shop.address).await;
    let client = authority.client(&[], &[&TLS13]);
    let refused = client.connect(&ingress, "shop.test").await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    authority.issue("site", "shop.test");
    let answered = async {
        while client.get(&ingress, "shop.test", "/").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the certificate", answered).await;
}

#[tokio::test]
async fn clients_resume_with_tickets() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let ingress = authority.ingress("", "hiveway.host=shop.test", shop.address).await;
    for version in [&TLS13, &TLS12] {
        let client = authority.client(&[], &[version]);
        client.get(&ingress, "shop.test", "/").await.unwrap();
        let again = client.connect(&ingress, "shop.test").await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn a_listener_refuses_versions_that_are_too_old() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let options = "tls.min-version=1.3";
    let ingress = authority.ingress(options, "hiveway.host=shop.test", shop.address).await;
    let client = authority.client(&[], &[&TLS12]);
    let refused = client.connect(&ingress, "shop.test").await.unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    eventually("it is counted", || handshakes(&ingress, "none", "incompatible") == 1).await;
    authority.client(&[], &[&TLS13]).get(&ingress, "shop.test", "/").await.unwrap();
}

#[tokio::test]
async fn who_does_not_shake_hands_is_closed() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let shop = Origin::named("shop").await;
    let options = "limits.handshake-time=300ms";
    let ingress = authority.ingress(options, "hiveway.path=/", shop.address).await;
    let second = ingress.second.unwrap();
    let mut garbage = Wire::to(second).await;
    garbage.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(garbage.closed_within(Duration::from_millis(200)).await);
    eventually("it is counted", || handshakes(&ingress, "none", "not_tls") == 1).await;
    let (mut silent, mut slow) = (Wire::to(second).await, Wire::to(second).await);
    // The beginning of a record that says how long it is.
    slow.write([0x16, 3, 1, 0, 200, 1]).await;
    silent.closed().await;
    slow.closed().await;
    eventually("both are counted", || handshakes(&ingress, "none", "timeout") == 2).await;
    drop(Wire::to(second).await);
    eventually("it is counted", || handshakes(&ingress, "none", "closed") == 1).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn websockets_work_over_tls() {
    let authority = Authority::new();
    authority.issue("site", "shop.test");
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\n\r\n";
        wire.write(head).await;
        while let Some(line) = wire.until("\n").await {
            wire.write(format!("you said {line}")).await;
        }
    })
    .await;
    let ingress = authority.ingress("", "hiveway.path=/", origin.address).await;
    let client = authority.client(&["http/1.1"], &[&TLS13]);
    let mut stream = client.connect(&ingress, "shop.test").await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\none\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("you said one\n") {
        let byte = soon("bytes", stream.read_u8()).await.unwrap();
        answer.push(char::from(byte));
    }
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}
