//! HTTP/2 as attackers write it: frame by frame, right or wrong (RFC 9113, section 6).

/// What a client sends first, with settings that change nothing.
pub(crate) const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A length that every frame begins with, before its kind.
pub(crate) const HEAD: usize = 9;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// The fields of a request (RFC 7541): literals, and names of the static table.
pub(crate) fn fields(method: &str, path: &str, content_length: Option<&str>) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| {
        [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    let method = if method == "POST" { 0x83 } else { 0x82 };
    let mut block = vec![method, 0x86];
    block.extend(literal(&[0x01], "shop.test"));
    block.extend(literal(&[0x04], path));
    block.extend(content_length.map(|length| literal(&[0x0f, 0x0d], length)).unwrap_or_default());
    block
}

/// A GET without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields("GET", path, None))
}

/// The length of the frame that begins here, its kind and its payload so far; none before there is
/// a whole head.
pub(crate) fn parse(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let head = bytes.get(..HEAD)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize + HEAD;
    Some((length, head[3], &bytes[HEAD..length.min(bytes.len())]))
}
