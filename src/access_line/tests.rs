use proptest::prelude::*;

use super::*;

fn arrived() -> Arrived<'static> {
    Arrived {
        unix_micros: 1_795_243_418_123_456,
        client: b"203.0.113.7",
        listener: "web",
        method: "GET",
        host: b"shop.example.com",
        path: "/cart",
        protocol: "HTTP/1.1",
        tls: None,
        user_agent: None,
    }
}

fn line(form: Form, arrived: &Arrived<'_>, id: Option<&str>, outcome: &Outcome<'_>) -> String {
    let mut line = Line::new(form);
    line.begin(arrived);
    if let Some(id) = id {
        line.identify(id.as_bytes());
    }
    line.end(outcome);
    String::from_utf8(line.as_bytes().to_vec()).unwrap()
}

fn full() -> (Arrived<'static>, Outcome<'static>) {
    let arrived = Arrived { tls: Some("1.3"), user_agent: Some(b"curl/8.1"), ..arrived() };
    let outcome = Outcome {
        status: 502,
        reason: Some("reset"),
        route: Some(("shop_web/default", "shop_web")),
        endpoint: Some("shop_web.3"),
        duration: Duration::from_micros(1_002_003),
        upstream: Some(Duration::from_micros(45)),
        request_bytes: 7,
        response_bytes: u64::MAX,
        grpc_code: Some("Unavailable"),
        retries: 2,
    };
    (arrived, outcome)
}

#[test]
fn a_line_of_json_has_a_field_for_everything_that_is_known() {
    let (arrived, outcome) = full();
    assert_eq!(
        line(Form::Json, &arrived, Some("4f"), &outcome),
        concat!(
            r#"{"time":"2026-11-21T06:43:38.123Z","client":"203.0.113.7","listener":"web","#,
            r#""method":"GET","host":"shop.example.com","path":"/cart","protocol":"HTTP/1.1","#,
            r#""tls":"1.3","user_agent":"curl/8.1","request_id":"4f","status":502,"reason":"reset","#,
            r#""route":"shop_web/default","service":"shop_web","endpoint":"shop_web.3","#,
            r#""duration_ms":1002.003,"upstream_ms":0.045,"request_bytes":7,"#,
            r#""response_bytes":18446744073709551615,"grpc_code":"Unavailable","retries":2}"#,
            "\n",
        ),
    );
}

#[test]
fn what_is_not_known_has_no_field() {
    let outcome = Outcome { status: 404, reason: Some("no_route"), ..Outcome::default() };
    assert_eq!(
        line(Form::Json, &arrived(), None, &outcome),
        concat!(
            r#"{"time":"2026-11-21T06:43:38.123Z","client":"203.0.113.7","listener":"web","#,
            r#""method":"GET","host":"shop.example.com","path":"/cart","protocol":"HTTP/1.1","#,
            r#""status":404,"reason":"no_route","duration_ms":0.000,"request_bytes":0,"#,
            r#""response_bytes":0}"#,
            "\n",
        ),
    );
}

#[test]
fn a_line_of_text_begins_with_the_request_and_goes_on_with_the_same_names() {
    let (arrived, outcome) = full();
    assert_eq!(
        line(Form::Text, &arrived, Some("4f"), &outcome),
        concat!(
            r#"2026-11-21T06:43:38.123Z 203.0.113.7 "GET shop.example.com/cart HTTP/1.1" "#,
            r#"listener="web" tls="1.3" user_agent="curl/8.1" request_id="4f" status=502 "#,
            r#"reason="reset" route="shop_web/default" service="shop_web" endpoint="shop_web.3" "#,
            r#"duration_ms=1002.003 upstream_ms=0.045 request_bytes=7 "#,
            r#"response_bytes=18446744073709551615 grpc_code="Unavailable" retries=2"#,
            "\n",
        ),
    );
}

#[test]
fn a_buffer_that_was_used_before_begins_anew() {
    let (_, outcome) = full();
    let mut line = Line::new(Form::Json);
    line.begin(&arrived());
    line.end(&outcome);
    let first = line.as_bytes().to_vec();
    line.begin(&arrived());
    line.end(&outcome);
    assert_eq!(line.as_bytes(), first);
}

fn escaped(text: &[u8], longest: usize) -> String {
    let mut to = Vec::new();
    push_escaped(&mut to, text, longest);
    String::from_utf8(to).unwrap()
}

#[test]
fn control_bytes_are_escaped_and_what_is_no_text_is_replaced() {
    assert_eq!(escaped(b"a \"b\" c\\d", 99), r#"a \"b\" c\\d"#);
    assert_eq!(escaped(b"x\n\r\t\x1b[2J\x7f", 99), r"x\u000a\u000d\u0009\u001b[2J\u007f");
    assert_eq!(escaped("grün \u{85}".as_bytes(), 99), r"grün \u0085");
    assert_eq!(escaped(b"\xff\xfe!", 99), "\u{fffd}\u{fffd}!");
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    assert_eq!(escaped(b"0123456789", 10), "0123456789");
    assert_eq!(escaped(b"0123456789abcdef", 12), "0123…");
    assert_eq!(escaped("grün".repeat(10).as_bytes(), 12), "grü…");
}

#[test]
fn pieces_end_where_lines_end() {
    let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
    let lines: Vec<u8> = [3000, 1000, 96, 1, 4096, 5000].into_iter().flat_map(line).collect();
    let lengths: Vec<_> = pieces(&lines).map(<[u8]>::len).collect();
    assert_eq!(lengths, [4096, 1, 4096, 4096, 904]);
    assert_eq!(pieces(&lines).collect::<Vec<_>>().concat(), lines);
    assert_eq!(pieces(b"").count(), 0);
}

proptest! {
    #[test]
    fn whatever_a_client_sends_is_one_line_of_json_and_not_too_long(
        host in prop::collection::vec(any::<u8>(), 0..400),
        agent in prop::collection::vec(any::<u8>(), 0..400),
        path in "\\PC{0,300}|[\"\\\\\x00-\x1f]{0,2000}",
        method in "[A-Z\"]{0,100}",
        name in "[a-z\"]{0,400}",
        number in any::<u64>(),
        json in any::<bool>(),
    ) {
        let arrived = Arrived {
            host: &host,
            user_agent: Some(&agent),
            path: &path,
            method: &method,
            listener: &name,
            ..full().0
        };
        let outcome = Outcome {
            route: Some((&name, &name)),
            endpoint: Some(&name),
            duration: Duration::from_micros(number),
            upstream: Some(Duration::from_micros(number)),
            request_bytes: number,
            ..full().1
        };
        let form = if json { Form::Json } else { Form::Text };
        let text = line(form, &arrived, Some(&name), &outcome);
        prop_assert!(text.len() <= LONGEST, "{} bytes", text.len());
        prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
        if json {
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read["request_bytes"].as_u64(), Some(number));
        }
    }

    #[test]
    fn short_text_is_read_back_as_it_was(text in "\\PC{0,10}") {
        let quoted = format!("\"{}\"", escaped(text.as_bytes(), LONGEST_PATH));
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
    }
}
