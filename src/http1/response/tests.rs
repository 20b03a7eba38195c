use proptest::prelude::*;

use super::*;

/// Reads `head`, and shows `status framing keep|close | name=value ...`, with what is left over.
fn read(head: &[u8], method: &Method) -> String {
    let mut bytes = BytesMut::from(head);
    match read_head(&mut bytes, method) {
        Err(Malformed) => "malformed".to_owned(),
        Ok(None) => "incomplete".to_owned(),
        Ok(Some(head)) => {
            let framing = match head.framing {
                Framing::Length(length) => length.to_string(),
                Framing::Chunked(_) => "chunked".to_owned(),
                Framing::UntilClose => "until-close".to_owned(),
            };
            let keep = if head.keep_alive { "keep" } else { "close" };
            let left = String::from_utf8_lossy(&bytes).into_owned();
            format!("{} {framing} {keep} {left}", head.status.as_u16()).trim_end().to_owned()
        }
    }
}

fn check(head: &str, expected: &str) {
    let head = head.replace('|', "\r\n");
    assert_eq!(read(head.as_bytes(), &Method::GET), expected, "{head:?}");
}

#[test]
fn a_body_ends_where_the_head_says() {
    check("HTTP/1.1 200 OK|Content-Length: 5||hello", "200 5 keep hello");
    check("HTTP/1.1 200 OK|Transfer-Encoding: Chunked||", "200 chunked keep");
    check("HTTP/1.1 200 OK||until the end", "200 until-close close until the end");
    check("HTTP/1.1 204 No Content||", "204 0 keep");
    check("HTTP/1.1 304 Not Modified|Content-Length: 99||", "304 0 keep");
    check("HTTP/1.1 200|Content-Length: 0||", "200 0 keep");
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(read(head, &Method::HEAD), "200 0 keep");
}

#[test]
fn a_connection_is_kept_unless_the_replica_says_otherwise() {
    check("HTTP/1.1 200 OK|Content-Length: 0|Connection: x, Close||", "200 0 close");
    check("HTTP/1.0 200 OK|Content-Length: 0||", "200 0 close");
    check("HTTP/1.0 200 OK|Content-Length: 0|Connection: Keep-Alive||", "200 0 keep");
}

#[test]
fn a_head_whose_body_could_end_in_two_places_is_malformed() {
    for framing in [
        "Content-Length: 1|Transfer-Encoding: chunked",
        "Content-Length: 1|Content-Length: 2",
        "Content-Length: 1|Content-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: 0x1",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
    ] {
        check(&format!("HTTP/1.1 200 OK|{framing}||"), "malformed");
    }
    check("HTTP/1.0 200 OK|Transfer-Encoding: chunked||", "malformed");
    check("HTTP/1.1 200 OK|Content-Length:||", "malformed");
}

#[test]
fn what_is_no_head_is_malformed() {
    for head in [
        "SSH-2.0-OpenSSH_9.2||",
        "HTTP/2.0 200 OK||",
        "HTTP/1.1 2 OK||",
        "HTTP/1.1 099 OK||",
        "HTTP/1.1 200 OK|no colon||",
        "HTTP/1.1 200 OK|Name : x||",
        "HTTP/1.1 200 OK|A: b| folded||",
        "HTTP/1.1 200 OK|A: b\u{0}||",
        "HTTP/1.1 200 OK|A: b\rSet-Cookie: x||",
    ] {
        check(head, "malformed");
    }
    check("<html>", "malformed");
    check("|HTTP/1.1 200 OK||", "malformed");
    check("HTTP/2 ", "malformed");
    check("HTTP/1", "incomplete");
    let field = "X: y|".repeat(MAX_FIELDS);
    check(&format!("HTTP/1.1 200 OK|{field}Content-Length: 0||"), "malformed");
    check(&format!("HTTP/1.1 200 OK|X: {}", "y".repeat(MAX_HEAD)), "malformed");
    check(&format!("HTTP/1.1 200 OK|X: {}||", "y".repeat(MAX_HEAD)), "malformed");
}

#[test]
fn interim_responses_are_passed_over_but_a_change_of_protocols_is_not() {
    check(
        "HTTP/1.1 100 Continue||HTTP/1.1 103 Early|Link: x||HTTP/1.1 200 OK||",
        "200 until-close close",
    );
    check("HTTP/1.1 100 Continue||HTTP/1.1 200", "incomplete");
    check("HTTP/1.1 101 Switching Protocols|Upgrade: websocket||bytes", "101 0 keep bytes");
}

#[test]
fn a_head_may_come_a_byte_at_a_time() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nok";
    let mut bytes = BytesMut::new();
    let head_ends = whole.len() - 2;
    for (at, byte) in whole.iter().enumerate().take(head_ends) {
        bytes.extend_from_slice(&[*byte]);
        let head = read_head(&mut bytes, &Method::GET).unwrap();
        assert_eq!(head.is_some(), at + 1 == head_ends, "{at}");
    }
}

#[test]
fn fields_come_as_they_were_sent() {
    let mut bytes = BytesMut::from(
        &b"HTTP/1.1 200 OK\nServer:x \r\nSet-Cookie: a\r\nset-cookie: b\r\nX: \xe9\r\n\r\n"[..],
    );
    let head = read_head(&mut bytes, &Method::GET).unwrap().unwrap();
    let field = |name: &str| {
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(field("server"), ["x"]);
    assert_eq!(field("set-cookie"), ["a", "b"]);
    assert_eq!(field("x"), ["\u{fffd}"]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_head_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, &Method::GET);
        let mut with_line = b"HTTP/1.1 200 OK\r\n".to_vec();
        with_line.extend_from_slice(&bytes);
        let _ = read(&with_line, &Method::GET);
    }
}
