//! Listening sockets on their way from one process to another, over a unix socket.
//!
//! What goes over it is a list, as the length of a JSON document in four bytes and the document, and
//! then the sockets in the order of the list, at most 64 of them with one byte each time. Who
//! connects to the role `sockets` first writes one line that says what it wants, and stays connected
//! for as long as it accepts on what it was given. A process and its child need no such line. Nothing here binds an address or accepts.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

/// Version of what goes over the wire.
const VERSION: u32 = 1;

/// Sockets in one message; the kernel allows 253.
const CHUNK: usize = 64;

/// Bytes of a list. A thousand sockets need a tenth of it.
const LONGEST: usize = 1 << 20;

/// For one step of the other side, which has nothing to wait for.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of the longest line that says what is wanted.
pub const LONGEST_LINE: usize = 64;

/// What can be wanted of the role `sockets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The list, and the sockets.
    Sockets,
    /// The list alone.
    List,
}

impl Wanted {
    /// The line that says it.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Sockets => "hiveway sockets 1: take\n",
            Self::List => "hiveway sockets 1: list\n",
        }
    }

    /// What a line says; none if it says nothing that is known.
    pub fn read(line: &[u8]) -> Option<Self> {
        [Self::Sockets, Self::List].into_iter().find(|wanted| wanted.line().as_bytes() == line)
    }
}

/// One socket in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The name of its listener.
    pub listener: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Its place among those of its listener.
    pub index: usize,
    /// How many its listener has.
    pub count: usize,
}

#[derive(Deserialize, Serialize)]
struct List {
    version: u32,
    sockets: Vec<Described>,
}

/// A listening socket that goes from process to process.
#[derive(Debug)]
pub struct Held {
    /// The name of its listener.
    pub listener: String,
    /// Where it is bound, with the port that the kernel chose if none was given.
    pub address: SocketAddr,
    /// Itself. It may not listen yet.
    pub socket: TcpListener,
}

impl Held {
    /// Whether it is what a listener of this name and address would bind. With port 0 any port is.
    pub fn fits(&self, listener: &str, address: SocketAddr) -> bool {
        let is_port = address.port() == 0 || address.port() == self.address.port();
        self.listener == listener && self.address.ip() == address.ip() && is_port
    }

    /// What tells it from every other socket of this machine, whoever else has it.
    ///
    /// # Errors
    /// If there are no file descriptors left.
    pub fn inode(&self) -> io::Result<u64> {
        let file = File::from(OwnedFd::from(self.socket.try_clone()?));
        Ok(file.metadata()?.ino())
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// If there are no file descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Self { listener: self.listener.clone(), address: self.address, socket })
    }
}

/// Why sockets cannot be had from another process.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// There is no such unix socket, or nobody behind it.
    #[error("nobody answers: {0}")]
    Nobody(#[source] io::Error),
    /// It broke off, or took too long.
    #[error("it broke off: {0}")]
    Broken(#[from] io::Error),
    /// The list is none.
    #[error("what it says is no list of sockets: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The list is of another version.
    #[error("it speaks version {0} of the handover, and this program only {VERSION}")]
    Version(u32),
}

/// As long as it lives, the role `sockets` knows that somebody accepts, or will, on what it has given.
#[derive(Debug)]
pub struct Stay {
    _connection: UnixStream,
}

/// What the role `sockets` at this path holds. Blocks for a few [`PATIENCE`] at most.
///
/// # Errors
/// If it does not answer, or not as it should.
pub fn take(path: &Path) -> Result<(Vec<Held>, Stay), HandoverError> {
    let connection = ask(path, Wanted::Sockets)?;
    Ok((receive(&connection)?, Stay { _connection: connection }))
}

/// The same without the sockets.
///
/// # Errors
/// If it does not answer, or not as it should.
pub fn list(path: &Path) -> Result<Vec<Described>, HandoverError> {
    receive_list(&ask(path, Wanted::List)?)
}

fn ask(path: &Path, wanted: Wanted) -> Result<UnixStream, HandoverError> {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Before it connects, which waits if the other side's queue is full.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    };
    let stream = connect().map_err(HandoverError::Nobody)?;
    (&stream).write_all(wanted.line().as_bytes())?;
    Ok(stream)
}

/// Hands over sockets, which stay open here.
///
/// # Errors
/// If the other side is gone or does not take them.
pub fn give(stream: &UnixStream, sockets: &[Held]) -> io::Result<()> {
    give_list(stream, sockets)?;
    for chunk in sockets.chunks(CHUNK) {
        let rights: Vec<BorrowedFd<'_>> = chunk.iter().map(|held| held.socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&rights)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let byte = [IoSlice::new(b"+")];
        let send = || sendmsg(stream, &byte, &mut control, SendFlags::NOSIGNAL);
        rustix::io::retry_on_intr(send)?;
    }
    Ok(())
}

/// Tells which sockets there are.
///
/// # Errors
/// If the other side is gone or does not take it.
pub fn give_list(mut stream: &UnixStream, sockets: &[Held]) -> io::Result<()> {
    let document = serde_json::to_vec(&List { version: VERSION, sockets: describe(sockets) })?;
    let length = u32::try_from(document.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&document)
}

/// The list of these sockets.
pub fn describe(sockets: &[Held]) -> Vec<Described> {
    let of = |name: &str, among: &[Held]| among.iter().filter(|it| it.listener == name).count();
    let described = sockets.iter().enumerate().map(|(at, held)| Described {
        listener: held.listener.clone(),
        address: held.address,
        index: of(&held.listener, sockets.get(..at).unwrap_or_default()),
        count: of(&held.listener, sockets),
    });
    described.collect()
}

/// Takes what the other side gives.
///
/// # Errors
/// If it gives nothing, or not as it should.
pub fn receive(stream: &UnixStream) -> Result<Vec<Held>, HandoverError> {
    let described = receive_list(stream)?;
    let mut sockets = Vec::new();
    while sockets.len() < described.len() {
        let chunk = receive_chunk(stream)?;
        if chunk.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        sockets.extend(chunk);
    }
    let held = |(described, socket): (Described, OwnedFd)| {
        let Described { listener, address, .. } = described;
        Held { listener, address, socket: TcpListener::from(socket) }
    };
    Ok(described.into_iter().zip(sockets).map(held).collect())
}

fn receive_list(mut stream: &UnixStream) -> Result<Vec<Described>, HandoverError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData).into());
    }
    let mut document = vec![0; length];
    stream.read_exact(&mut document)?;
    let Versioned { version } = serde_json::from_slice(&document)?;
    if version != VERSION {
        return Err(HandoverError::Version(version));
    }
    Ok(serde_json::from_slice::<List>(&document)?.sockets)
}

/// The sockets of one message; none at the end of the stream.
fn receive_chunk(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let receive = || {
        let mut data = [IoSliceMut::new(&mut byte)];
        recvmsg(stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
    };
    rustix::io::retry_on_intr(receive)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests;
