//! A connection to a replica as bytes: in clear text, or with TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::replica::{TlsStream, chose_http2};

/// Both ways of a connection.
#[derive(Debug)]
pub enum Socket {
    /// In clear text.
    Plain(TcpStream),
    /// With TLS. Boxed: its state is larger than all else of a connection.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The socket itself, for its options.
    pub fn options(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
        }
    }

    /// Whether the peer has neither closed the connection nor said anything to us. Costs a system call
    /// only if something has happened.
    pub fn is_silent(&mut self) -> bool {
        match self {
            Self::Plain(stream) => {
                let silent = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
                stream.try_read(&mut [0]).is_err_and(silent)
            }
            // Tickets come after the handshake, and are no word to us: TLS takes them in.
            Self::Tls(stream) => {
                let mut scratch = [0];
                let mut nobody = Context::from_waker(Waker::noop());
                Pin::new(stream)
                    .poll_read(&mut nobody, &mut ReadBuf::new(&mut scratch))
                    .is_pending()
            }
        }
    }

    /// Whether the replica has chosen HTTP/2 when it was asked.
    pub fn chose_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => chose_http2(stream),
        }
    }

    /// Whether what it has taken may wait here before it is sent: then a write that fails proves
    /// nothing.
    pub fn may_hold_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
