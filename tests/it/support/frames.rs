//! A client of HTTP/2 that sends frames as no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of `GET http://a/`, which is all of the request.
pub(crate) fn get_frame(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a'])
}

/// The head of `POST http://a/`; a body is to follow.
pub(crate) fn post_frame(stream: u32) -> Vec<u8> {
    frame(HEADERS, 4, stream, &[0x83, 0x86, 0x84, 0x41, 1, b'a'])
}

/// A connection that has greeted.
pub(crate) struct Frames(TcpStream);

impl Frames {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self(stream);
        frames.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        frames.send(&frame(SETTINGS, 0, 0, &[])).await;
        frames.send(&frame(SETTINGS, 1, 0, &[])).await;
        frames
    }

    /// Whether the peer is still there to take it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        soon("room to write", self.0.write_all(bytes)).await.is_ok()
    }

    /// The same, and takes what comes meanwhile. Who does not is kept waiting, which hurts nobody.
    pub(crate) async fn flood(&mut self, bytes: &[u8]) -> bool {
        let (mut from, mut to) = self.0.split();
        let mut nowhere = tokio::io::sink();
        let sent = soon("room to write", async {
            tokio::select! {
                sent = to.write_all(bytes) => sent.is_ok(),
                _ = tokio::io::copy(&mut from, &mut nowhere) => false,
            }
        });
        sent.await
    }

    /// The next frame; none if the connection ends.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        soon("its payload", self.0.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind: head[3], payload })
    }

    /// Reads until the connection ends. The kinds of the frames that came.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Some(frame) = self.next().await {
            kinds.push(frame.kind);
        }
        kinds
    }
}
