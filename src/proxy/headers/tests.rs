use http::Request;
use http::header::AUTHORIZATION;

use super::*;
use crate::proxy::admission;

fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.trim().parse().unwrap());
    }
    headers
}

fn target() -> Target {
    let request = Request::builder().uri("/x").header(HOST, "shop.example:81").body(()).unwrap();
    admission::admit(&request.into_parts().0).unwrap()
}

fn client(trusted: &str) -> ClientSide {
    ClientSide::new("::ffff:192.0.2.7".parse().unwrap(), 80, false, &networks(trusted))
}

fn networks(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|network| network.parse().unwrap()).collect()
}

/// What a replica of the given protocol gets, one sorted line a field.
fn forwarded(given: &str, client: &ClientSide, upgrade: Option<&'static str>) -> String {
    let mut headers = headers(given);
    let upgrade = upgrade.map(HeaderValue::from_static);
    let id = HeaderValue::from_static("id-1");
    let lines = prepare_request(&mut headers, client, &target(), upgrade, id, Protocol::Http);
    let besides = String::from_utf8(lines.to_vec()).unwrap();
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .chain(besides.lines().map(str::to_owned))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

const SET_BY_US: &str = "host: shop.example:81
x-forwarded-for: 192.0.2.7
x-forwarded-host: shop.example:81
x-forwarded-port: 80
x-forwarded-proto: http
x-real-ip: 192.0.2.7
x-request-id: id-1";

#[test]
fn a_client_cannot_speak_for_the_proxy() {
    let given = "
        Host: shop.example:81
        X-Forwarded-For: 1.1.1.1
        X_Forwarded_For: 1.1.1.1
        X-Forwarded-Proto: https
        X-Forwarded-Client-Cert: x
        X-SSL-Client-Cert: x
        X-Client-Cert: x
        X_Client_Cert_Subject: x
        Client-Cert: :AAAA:
        Client_Cert-Chain: :AAAA:
        Forwarded: for=1.1.1.1
        X-Real-IP: 1.1.1.1
        X_Real_Ip: 1.1.1.1
        X-Original-URL: /admin
        X-Rewrite-URL: /admin
        Proxy: http://evil.example
        X-Client-IP: 1.1.1.1
        X-Cluster-Client-IP: 1.1.1.1
        x_cluster_client_ip: 1.1.1.1
        True-Client-IP: 1.1.1.1
        True_Client_IP: 1.1.1.1
        CF-Connecting-IP: 1.1.1.1
        Cf_Connecting-Ip: 1.1.1.1
        Fastly-Client-IP: 1.1.1.1
        Fastly_Client_Ip: 1.1.1.1
        X-Request-ID: mine
    ";
    assert_eq!(forwarded(given, &client(""), None), SET_BY_US);
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop_and_protected_ones_are_not_taken_off() {
    let given = "
        Host: shop.example:81
        Connection: close, X-Secret, Host, X-Forwarded-For, Authorization
        Connection: x-request-id, content-type, True-Client-IP
        Content-Type: text/plain
        X-Secret: 1
        Keep-Alive: timeout=5
        Proxy-Connection: keep-alive
        Proxy-Authorization: x
        TE: trailers, deflate
        Transfer-Encoding: chunked
        Upgrade: h2c
        HTTP2-Settings: x
        Expect: 100-continue
        Authorization: Basic x
    ";
    let expected = format!("authorization: Basic x\ncontent-type: text/plain\n{SET_BY_US}");
    assert_eq!(forwarded(given, &client(""), None), expected);
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let trusted = "192.0.2.0/24 10.0.0.0/8";
    let given = "
        X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.1
        X-Forwarded-Proto: https
        X-Real-IP: 1.1.1.1
        X-Request-ID: theirs
    ";
    let forwarded = forwarded(given, &client(trusted), None);
    for line in [
        "x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.0.0.1, 192.0.2.7",
        "x-forwarded-proto: https",
        "x-real-ip: 1.1.1.1",
        "x-request-id: theirs",
    ] {
        assert!(forwarded.contains(line), "{line} in\n{forwarded}");
    }
    let client_address = client(trusted).client(&headers(given), &networks(trusted));
    assert_eq!(client_address, "1.1.1.1".parse().ok());
    assert_eq!(client("").client(&headers(given), &[]), "192.0.2.7".parse().ok());
}

#[test]
fn the_address_that_a_trusted_proxy_adds_counts_whatever_the_client_wrote_before_it() {
    let trusted = "192.0.2.0/24 10.0.0.0/8";
    let check = |told: &[u8], expected: &str| {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(told).unwrap());
        let found = client(trusted).client(&headers, &networks(trusted));
        assert_eq!(found, expected.parse().ok(), "{}", told.escape_ascii());
    };
    check(b"6.6.6.6", "6.6.6.6");
    check(b"\xff, 6.6.6.6", "6.6.6.6");
    check(b"10.0.0.9, 6.6.6.6, 10.0.0.1", "6.6.6.6");
    check(b"6.6.6.6:40000", "6.6.6.6");
    check(b"[2001:db8::6]:40000, 10.0.0.1", "2001:db8::6");
    check(b"::ffff:6.6.6.6", "6.6.6.6");
}

#[test]
fn a_client_of_whom_nothing_readable_is_told_is_nobody() {
    let trusted = "192.0.2.0/24 10.0.0.0/8";
    for told in ["", "unknown", "6.6.6.6, \u{ff}", "6.6.6.6, what, 10.0.0.1", "6.6.6.6,"] {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(told.as_bytes()).unwrap());
        let client = client(trusted).client(&headers, &networks(trusted));
        assert_eq!(client, None, "{told}");
    }
    let silent = client(trusted).client(&HeaderMap::new(), &networks(trusted));
    assert_eq!(silent, "192.0.2.7".parse().ok(), "the proxy itself asks");
}

#[test]
fn an_upgrade_is_passed_on_only_when_it_is_meant_to_be() {
    let given = "
        Connection: Upgrade
        Upgrade: websocket
    ";
    let with = forwarded(given, &client(""), Some("websocket"));
    assert!(
        with.contains("connection: upgrade\n") && with.contains("upgrade: websocket\n"),
        "{with}"
    );
    assert_eq!(forwarded(given, &client(""), None), SET_BY_US);
}

#[test]
fn cookies_that_http2_split_are_one_again() {
    let given = "
        Cookie: a=1
        Cookie: b=2
    ";
    assert!(forwarded(given, &client(""), None).starts_with("cookie: a=1; b=2\n"));
}

#[test]
fn http2_replicas_get_no_host_field_and_keep_the_wish_for_trailers() {
    let mut headers = headers("Host: shop.example:81\nTE: trailers\nAuthorization: x");
    let id = HeaderValue::from_static("1");
    prepare_request(&mut headers, &client(""), &target(), None, id, Protocol::H2c);
    assert!(!headers.contains_key(HOST));
    assert_eq!(headers.get(X_REAL_IP).unwrap(), "192.0.2.7");
    assert_eq!(headers.get(TE).unwrap(), "trailers");
    assert!(headers.contains_key(AUTHORIZATION));
}
