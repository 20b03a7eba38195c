//! A WebSocket that is asked to go: a Close frame of ours between two frames of the replica's.
//!
//! A tunnel is bytes to us until the edge is to end. Then the client is told as RFC 6455 foresees it
//! (section 7.4.1, 1001 "going away"), and answers with a Close frame of its own, which passes to the
//! replica: so both sides part in good order. Only the lengths of the replica's frames are read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A final Close frame, not masked, with status 1001 (RFC 6455, sections 5.2, 5.5.1).
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Longest head of a frame: two bytes, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
pub struct Frames {
    /// The head of a frame, as far as it has come.
    head: [u8; LONGEST_HEAD],
    /// Bytes of it.
    known: usize,
    /// Bytes of the payload that are still to come; the head is complete then.
    left: u64,
}

impl Frames {
    /// Whether nothing of a frame has come that is not complete.
    pub const fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// How many bytes may come that all belong to the frame that has begun.
    pub fn to_come(&self) -> usize {
        if self.left > 0 {
            return usize::try_from(self.left).unwrap_or(usize::MAX);
        }
        head_length(&self.head).max(2).saturating_sub(self.known)
    }

    /// These bytes have come.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = self.to_come().min(bytes.len());
            let (taken, rest) = bytes.split_at(take);
            bytes = rest;
            if self.left > 0 {
                self.left = self.left.saturating_sub(take as u64);
                continue;
            }
            for (to, from) in self.head.iter_mut().skip(self.known).zip(taken) {
                *to = *from;
            }
            self.known = self.known.saturating_add(take);
            if self.known >= 2 && self.known == head_length(&self.head) {
                *self = Self { left: payload_length(&self.head), ..Self::default() };
            }
        }
    }
}

/// Bytes of a frame's head, which its second byte tells.
fn head_length(head: &[u8; LONGEST_HEAD]) -> usize {
    let [_, second, ..] = head;
    let length = match second & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    if second & 0x80 == 0 { length } else { length + 4 }
}

fn payload_length(head: &[u8; LONGEST_HEAD]) -> u64 {
    let [_, second, long @ ..] = head;
    match second & 0x7f {
        126 => long.first_chunk().map_or(0, |two| u16::from_be_bytes(*two).into()),
        127 => long.first_chunk().map_or(0, |eight| u64::from_be_bytes(*eight)),
        short => short.into(),
    }
}

/// What the replica sends, with our Close frame at the first place for it once that is wanted. What
/// the replica sends after that nobody is told (RFC 6455, section 5.5.1).
#[derive(Debug)]
pub struct Farewell<'w, S> {
    side: S,
    frames: Frames,
    wanted: &'w AtomicBool,
    said: bool,
}

impl<'w, S> Farewell<'w, S> {
    /// Around the replica's side, which has sent these bytes already. `wanted` is looked at whenever
    /// it is read.
    pub fn new(side: S, sent: &[u8], wanted: &'w AtomicBool) -> Self {
        let mut frames = Frames::default();
        frames.pass(sent);
        Self { side, frames, wanted, said: false }
    }
}

impl<S: AsyncRead + Unpin> Farewell<'_, S> {
    /// Reads at most so many bytes of the replica's.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let most = most.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.side).poll_read(cx, &mut part))?;
        self.frames.pass(part.filled());
        let came = part.filled().len();
        buffer.advance(came);
        Poll::Ready(Ok(()))
    }

    /// Reads up to the end, and keeps nothing.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.side).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Farewell<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said {
            return self.poll_rest(cx);
        }
        if !self.wanted.load(Relaxed) {
            let all = buffer.remaining();
            return self.poll_some(cx, buffer, all);
        }
        if self.frames.is_between() && buffer.remaining() >= CLOSE.len() {
            self.said = true;
            buffer.put_slice(&CLOSE);
            return Poll::Ready(Ok(()));
        }
        let most = self.frames.to_come();
        self.poll_some(cx, buffer, most)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Farewell<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.side).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A frame with that many bytes, masked or not, with the shortest length that may stand for it.
    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(mask + u8::try_from(payload).unwrap()),
            126..0x1_0000 => {
                frame.push(mask + 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask + 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + if masked { 4 } else { 0 } + payload, b'x');
        frame
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end_however_they_come(
            sizes in prop::collection::vec((0_usize..70_000, any::<bool>()), 1..6),
            cuts in prop::collection::vec(1_usize..40_000, 1..20),
        ) {
            let all: Vec<u8> = sizes.iter().flat_map(|&(size, masked)| frame(size, masked)).collect();
            let mut ends = vec![0];
            for &(size, masked) in &sizes {
                ends.push(ends.last().unwrap() + frame(size, masked).len());
            }
            let (mut frames, mut at) = (Frames::default(), 0);
            for cut in cuts.into_iter().cycle() {
                let piece = &all[at..all.len().min(at + cut)];
                frames.pass(piece);
                at += piece.len();
                prop_assert_eq!(frames.is_between(), ends.contains(&at), "at {}", at);
                if at == all.len() {
                    break;
                }
            }
        }

        #[test]
        fn the_farewell_stands_between_two_frames_wherever_it_is_wanted(
            sizes in prop::collection::vec(0_usize..300, 1..6),
            sent in 0_usize..100,
            chunk in 5_usize..50,
        ) {
            let all: Vec<u8> = sizes.iter().flat_map(|&size| frame(size, false)).collect();
            let sent = sent.min(all.len());
            let read = async {
                let wanted = AtomicBool::new(true);
                let mut farewell = Farewell::new(&all[sent..], &all[..sent], &wanted);
                let mut read = all[..sent].to_vec();
                let mut chunk = vec![0; chunk];
                loop {
                    match farewell.read(&mut chunk).await.unwrap() {
                        0 => return read,
                        length => read.extend(&chunk[..length]),
                    }
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(read);
            let mut end = 0;
            for &size in &sizes {
                if end >= sent {
                    break;
                }
                end += frame(size, false).len();
            }
            prop_assert_eq!(&read[..end], &all[..end]);
            prop_assert_eq!(&read[end..], &CLOSE);
        }
    }
}
