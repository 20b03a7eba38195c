//! What is read from strangers and from files, and what must hold whatever they write.
//!
//! Each target takes any bytes. cargo-fuzz makes them up; `tests/it/fuzz_corpus.rs` takes those that
//! are kept in `corpus`, so that the ordinary tests run every target too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::from_utf8;

use bytes::BytesMut;
use hiveway::affinity::{Mark, cookie};
use hiveway::config::Config;
use hiveway::feed::lines::Lines;
use hiveway::feed::message::Message;
use hiveway::feed::{Edition, Services};
use hiveway::http1::chunked::Piece;
use hiveway::http1::response::Framing;
use hiveway::keys::{AgentSecret, EdgeSecret};
use hiveway::proxy::admission::{self, Target};
use hiveway::proxy::headers::{self, ClientSide};
use hiveway::routing::path::{self, PathPrefix};
use hiveway::snapshot::{Edge, EdgeListener, Snapshot};
use hiveway::spec::Protocol;
use hiveway::{grpc, http1, labels, saved_inventory, services_file, stack_file};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, request};

/// A name, which is also that of a program and of a corpus, and what takes the bytes.
type Named = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: [Named; 13] = [
    ("authority", authority),
    ("config", config),
    ("cookies", cookies),
    ("feed", feed),
    ("grpc", grpc),
    ("headers", headers),
    ("labels", labels),
    ("path", path),
    ("response", response),
    ("saved_inventory", saved_inventory),
    ("secrets", secrets),
    ("services_file", services_file),
    ("stack_file", stack_file),
];

/// Runs one target.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(bytes);
}

/// What stands before the first line's end, and the rest.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// `METHOD VERSION TARGET`, and fields like `Name: value`, one a line; lines that are none are left out.
fn request(bytes: &[u8]) -> Option<request::Parts> {
    let (line, fields) = first_line(bytes);
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let version = if words.next()? == b"2" { Version::HTTP_2 } else { Version::HTTP_11 };
    let request = Request::builder().method(method).version(version).uri(words.next()?);
    let mut parts = request.body(()).ok()?.into_parts().0;
    parts.headers = fields_of(fields);
    Some(parts)
}

fn fields_of(lines: &[u8]) -> HeaderMap {
    let fields = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    });
    let mut headers = HeaderMap::new();
    // A map holds 32,768 names at most; hyper stops long before.
    for (name, value) in fields.take(200) {
        headers.append(name, value);
    }
    headers
}

/// What is admitted has one host and one path, and is admitted again as what it became.
fn authority(bytes: &[u8]) {
    let Some(mut head) = request(bytes) else { return };
    let Ok(target) = admission::admit(&head) else { return };
    let (host, authority) = (target.host.as_str(), target.authority.as_str());
    assert!(!host.is_empty() && host == host.to_ascii_lowercase(), "{host}");
    assert!(!authority.contains(['@', '/', '\\', ' ', ',', '#', '?']), "{authority}");
    assert!(authority.to_ascii_lowercase().starts_with(host), "{authority} {host}");
    if head.headers.contains_key(TRANSFER_ENCODING) {
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }
    assert!(head.headers.get_all(HOST).iter().count() <= 1);
    // As it arrives at a replica that speaks HTTP/1, which may be another Hiveway.
    head.version = Version::HTTP_11;
    head.headers.insert(HOST, HeaderValue::try_from(authority).unwrap());
    head.headers.remove(TRANSFER_ENCODING);
    head.uri = target.path_and_query.as_str().parse().unwrap();
    let again = admission::admit(&head).unwrap();
    assert_eq!(again.host.as_str(), host);
    // By what is forwarded: of `http://a` the path is empty to the library, and written `/`.
    assert_eq!(again.path_and_query.as_str(), target.path_and_query.as_str());
}

/// The normal form is its own normal form, and leads nowhere else.
fn path(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let Ok(normal) = path::normalize(text) else { return };
    assert_eq!(path::normalize(&normal).as_deref(), Ok(&*normal));
    assert!(normal.starts_with('/') && !normal.contains("//"), "{normal}");
    assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
    assert!(!normal.contains(['\\', '\0']), "{normal}");
    let lower = normal.to_ascii_lowercase();
    assert!(["%2f", "%5c", "%00", "%2e"].iter().all(|escape| !lower.contains(escape)), "{normal}");
    let prefix: PathPrefix = text.parse().unwrap();
    assert!(prefix.strip(&normal).is_some(), "{prefix} {normal}");
    assert_eq!(path::head(prefix.as_str(), prefix.depth()), Some(prefix.as_str()));
}

/// The first byte says whether the client is a trusted proxy; fields follow.
fn headers(bytes: &[u8]) {
    let Some((first, lines)) = bytes.split_first() else { return };
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let trusted = if first % 2 == 1 { &trusted[..] } else { &[] };
    let client = ClientSide::new(peer, 443, true, trusted);
    let mut fields = fields_of(lines);
    let cookies: Vec<_> = fields.get_all(COOKIE).iter().map(|it| it.as_bytes().to_vec()).collect();
    let told = client.client(&fields, trusted);
    assert!(client.trusted || told == Some(peer));
    let target = Target {
        host: "shop.test".parse().unwrap(),
        authority: "shop.test:8443".parse().unwrap(),
        host_field: HeaderValue::from_static("shop.test:8443"),
        path_and_query: "/x".parse().unwrap(),
    };
    let id = HeaderValue::from_static("id");
    headers::prepare_request(&mut fields, &client, &target, None, id, Protocol::H2c);
    let joined: Vec<_> = fields.get_all(COOKIE).iter().collect();
    if cookies.is_empty() {
        assert!(joined.is_empty());
    } else {
        assert!(joined.len() == 1 && joined[0].as_bytes() == cookies.join(&b"; "[..]));
    }
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        assert!(!fields.contains_key(name));
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"] {
        assert!(!fields.contains_key(name), "{name}");
    }
    assert!(fields.get_all(TE).iter().all(|codings| codings == "trailers"));
    if !client.trusted {
        let own: Vec<_> = fields.get_all("x-forwarded-for").iter().collect();
        assert_eq!(own, ["10.0.0.9"]);
        assert_eq!(fields.get_all("x-request-id").iter().collect::<Vec<_>>(), ["id"]);
        assert!(!fields.contains_key("forwarded") && !fields.contains_key("x_forwarded_for"));
    }
}

/// `name=value`, one a line; `hiveway.` is put before each name.
fn labels(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((format!("{}{name}", labels::PREFIX), value.to_owned()))
    };
    let given: BTreeMap<_, _> = text.lines().filter_map(pair).collect();
    let parsed = labels::parse("shop_web", &given);
    assert!(parsed.enabled || parsed.routes.is_empty());
    assert!(parsed.routes.len() <= labels::MAX_ROUTES);
    let silent = parsed.rejected.is_empty() && parsed.closed.is_empty();
    assert!(silent || !parsed.diagnostics.is_empty());
    for name in &parsed.rejected {
        assert!(!parsed.closed.contains(name), "{name}");
        assert!(parsed.routes.iter().all(|route| route.name != *name), "{name}");
    }
    for diagnostic in &parsed.diagnostics {
        assert!(!diagnostic.problem.is_empty() && !diagnostic.to_string().is_empty());
    }
}

/// An options file is read, or every complaint about it can be told.
fn config(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    match Config::read(Some((Path::new("hiveway.toml"), text)), &[], &BTreeMap::new()) {
        Ok((config, complaints)) => {
            assert!(!config.listeners.is_empty());
            assert!(complaints.iter().all(|complaint| !complaint.to_string().is_empty()));
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

fn services_file(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    match services_file::read(text, "services.toml") {
        Ok((services, _)) => assert!(services.is_sorted_by(|a, b| a.name < b.name)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn stack_file(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    if let Err(error) = stack_file::declarations(text, "stack.yml") {
        assert!(!error.to_string().is_empty());
    }
}

/// What is read is written as it was, and a table can be made of it.
fn saved_inventory(bytes: &[u8]) {
    let Ok(saved) = saved_inventory::read(bytes) else { return };
    let written =
        saved_inventory::write(&saved.inventory, saved.networks.as_deref(), saved.time.as_ref())
            .unwrap();
    assert_eq!(saved_inventory::read(&written).as_ref(), Ok(&saved));
    let listener = |name: &str| EdgeListener {
        name: name.to_owned(),
        default: true,
        address: (Ipv4Addr::LOCALHOST, 80).into(),
    };
    let edge = Edge {
        listeners: vec![listener("web")],
        networks: saved.networks.unwrap_or_default(),
        cores: 1,
        ..Edge::default()
    };
    let first = Snapshot::compile(&saved.inventory, &edge, &Snapshot::default());
    let second = Snapshot::compile(&saved.inventory, &edge, &first);
    let ids: BTreeSet<_> = saved.inventory.services.iter().map(|service| &service.id).collect();
    if ids.len() < saved.inventory.services.len() {
        // No Swarm has two services of one id, by which last good forms are kept.
        return;
    }
    assert_eq!(first.routes.len(), second.routes.len());
    assert_eq!(first.diagnostics, second.diagnostics);
}

/// What is read as a secret is that secret; the bytes are also taken for the randomness of one.
fn secrets(bytes: &[u8]) {
    let agent = AgentSecret::read(bytes).map(|secret| secret.to_text());
    let edge = EdgeSecret::read(bytes).map(|secret| secret.to_text());
    assert!(agent.is_err() || edge.is_err());
    for read in [agent, edge] {
        match read {
            Ok(text) => assert!(from_utf8(bytes).unwrap().trim().eq_ignore_ascii_case(&text)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let Some(random) = bytes.first_chunk() else { return };
    let secret = AgentSecret::new(*random).unwrap();
    let again = AgentSecret::read(secret.to_text().as_bytes()).unwrap();
    assert_eq!(again.to_text(), secret.to_text());
    assert_eq!(
        EdgeSecret::read(secret.edge().to_text().as_bytes()).unwrap().agents(),
        secret.edge().agents()
    );
}

/// A replica's bytes: read at once or a few at a time, they are the same response.
fn response(bytes: &[u8]) {
    let whole = response_in(bytes, bytes.len().max(1));
    for size in [1, 7] {
        assert_eq!(response_in(bytes, size), whole);
    }
}

/// Head, body and what is left, if these bytes come that many at a time; none if they are malformed.
fn response_in(bytes: &[u8], size: usize) -> Option<(String, Vec<u8>, Vec<u8>)> {
    let (mut came, mut head, mut body) = (BytesMut::new(), None, Vec::new());
    for piece in bytes.chunks(size) {
        came.extend_from_slice(piece);
        if head.is_none() {
            head = http1::response::read_head(&mut came, &Method::GET).ok()?;
        }
        let Some(http1::response::Head { framing: Framing::Chunked(chunked), .. }) = &mut head
        else {
            continue;
        };
        while !chunked.is_over() {
            match chunked.read(&mut came).ok()? {
                Some(Piece::Data(data)) => body.extend_from_slice(&data),
                Some(Piece::Trailers(_) | Piece::End) => {}
                None => break,
            }
        }
    }
    let head = head.map_or_else(String::new, |head| format!("{} {:?}", head.status, head.headers));
    Some((head, body, came.to_vec()))
}

/// Messages of an agent, one a line: they are read as they are written, and what they tell has a name.
fn feed(bytes: &[u8]) {
    let (mut lines, mut edition) = (Lines::default(), Edition::of(Services::new()));
    lines.push(bytes);
    while let Ok(Some(line)) = lines.next_line() {
        let Ok(Some(message)) = Message::read(&line) else { continue };
        let written = message.write().unwrap();
        assert_eq!(Message::read(&written).unwrap().as_ref(), Some(&message));
        let next = match message {
            Message::Whole(whole) => Edition::of(whole.services),
            Message::Change(change) => edition.with(&change.changes),
            Message::Hello(_) | Message::You(_) | Message::Beat(_) => continue,
        };
        let reached = edition.with(&edition.changes(&next));
        assert_eq!(reached.version(), next.version());
        assert_eq!(edition.version() == next.version(), edition == next);
        let (inventory, unreadable) = next.inventory();
        assert_eq!(inventory.services.len() + unreadable, next.services().len());
        assert!(inventory.services.is_sorted_by(|a, b| a.name <= b.name));
        edition = next;
    }
}

/// A line with a cookie's name, and values of `Cookie` fields, one a line.
fn cookies(bytes: &[u8]) {
    let (name, fields) = first_line(bytes);
    let Ok(name) = from_utf8(name) else { return };
    let fields: Vec<_> = fields.split(|byte| *byte == b'\n').collect();
    if let Some(value) = cookie::find(fields.iter().copied(), name) {
        assert!(!value.contains(&b';') && value == value.trim_ascii());
        let has_it = |field: &&[u8]| field.windows(value.len().max(1)).any(|part| part == value);
        assert!(value.is_empty() || fields.iter().any(has_it));
        if let Some(mark) = Mark::parse(value) {
            assert_eq!(mark.to_string().as_bytes(), value);
        }
    }
    let mark = Mark::of_slot("id", "shop_web", "3");
    // What could stand for more than a name is no name of a label.
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Some(set) = cookie::set(name, mark, true)
    {
        let sent = set.as_bytes().split(|byte| *byte == b';').next().unwrap();
        let found = cookie::find([sent].into_iter().chain(fields), name);
        assert_eq!(found.and_then(Mark::parse), Some(mark));
    }
}

/// A timeout and a status in the first two lines, then a message for people.
fn grpc(bytes: &[u8]) {
    let (timeout, rest) = first_line(bytes);
    let (status, message) = first_line(rest);
    let mut fields = HeaderMap::new();
    for (name, value) in [("grpc-timeout", timeout), ("grpc-status", status)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.insert(name, value);
        }
    }
    if grpc::timeout(&fields).is_some() {
        assert!((2..=9).contains(&timeout.len()));
    }
    let read = grpc::Code::of(&fields);
    assert_eq!(read.is_some(), fields.contains_key("grpc-status"));
    let Ok(message) = from_utf8(message) else { return };
    let code = read.unwrap_or(grpc::Code::Unavailable);
    grpc::end_with(&mut fields, code, message);
    assert_eq!(grpc::Code::of(&fields), Some(code));
    let sent = fields["grpc-message"].as_bytes();
    assert!(sent.iter().all(|byte| (b' '..=b'~').contains(byte)));
    assert_eq!(percent_encoding::percent_decode(sent).decode_utf8().unwrap(), message);
}
