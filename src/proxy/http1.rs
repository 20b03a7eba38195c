//! An HTTP/1 connection to a replica, written and read by whoever has a request on it.
//!
//! There is no task of its own: the request's task writes the request, reads the response's head, and
//! then its body as the client takes it. While a connection waits in the pool nobody reads it; what
//! happens to it then is seen when it is taken out, or swept.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, request};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, split};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::http1::chunked::Piece;
use crate::http1::response::{self, Framing};
use crate::proxy::body::BodyError;
use crate::proxy::failure::Failure;
use crate::proxy::send::Sending;
use crate::proxy::socket::Socket;
use crate::proxy::upload::UploadBody;
use crate::timestamp::Timestamp;
use crate::tls::replica::TlsStream;
use crate::turn::Turn;
use crate::upstream::Endpoint;

/// What is read at once: a head and a small body, with room to spare.
const READ: usize = 8 << 10;
/// What is read at once of a body that fills more than that.
const READ_MUCH: usize = 64 << 10;

/// For the replica's kernel to acknowledge a request. It does so within milliseconds however busy the
/// replica is; a lost node never does, and Linux would repeat for a quarter of an hour.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(3);
/// Bytes of a body that a replica's kernel takes without the replica. For a longer one silence may mean
/// that the replica takes its time, which the kernel would not tell from a lost node.
const TAKEN_AT_ONCE: u64 = 16 << 10;

/// A connection for one request at a time.
#[derive(Debug)]
pub struct Http1 {
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// The core whose runtime watches its socket.
    pub core: usize,
    /// When it was made.
    pub born: Timestamp,
    /// Requests it has taken.
    pub requests: u64,
    side: Side,
    inbound: BytesMut,
    /// How much is read at once.
    read: usize,
    /// What has been read of a large body since others had their turn.
    turn: Turn,
    sending: Sending,
    framing: Framing,
    /// Whether it can take no request after this one.
    spoiled: bool,
    /// Whether it breaks after [`UNACKNOWLEDGED`].
    watched: bool,
    open: OpenConnection,
}

/// What there is of the socket.
#[derive(Debug)]
enum Side {
    Whole(Socket),
    /// The other half is with a task that still sends the request's body.
    Half(OwnedReadHalf),
    /// The same with TLS.
    TlsHalf(ReadHalf<TlsStream<TcpStream>>),
    /// It has been given away.
    Gone,
}

/// What a connection becomes when both sides have changed to another protocol.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub socket: Socket,
    /// What the replica has said already.
    pub first: Bytes,
    _open: OpenConnection,
}

impl Http1 {
    /// A connection that has just been made.
    pub fn new(socket: Socket, open: OpenConnection, core: usize, born: Timestamp) -> Self {
        Self {
            endpoint: Arc::clone(&open.0),
            core,
            born,
            requests: 0,
            side: Side::Whole(socket),
            inbound: BytesMut::new(),
            read: READ,
            turn: Turn::default(),
            sending: Sending::default(),
            framing: Framing::Length(0),
            spoiled: false,
            watched: false,
            open,
        }
    }

    /// Whether the replica has closed it, or has said something that nobody asked for. Costs a system
    /// call only if something has happened.
    pub fn is_spoiled(&mut self) -> bool {
        if let (false, Side::Whole(socket)) = (self.spoiled, &mut self.side) {
            self.spoiled = !socket.is_silent();
        }
        self.spoiled
    }

    /// Begins to send a request; `lines` are fields besides those of `head`. What follows is [`Self::poll_head`].
    pub fn start(&mut self, head: &request::Parts, lines: &[u8], body: UploadBody) {
        self.requests = self.requests.saturating_add(1);
        self.turn = Turn::first();
        self.watch(body.size_hint().upper().is_some_and(|bytes| bytes <= TAKEN_AT_ONCE));
        self.sending.start(head, lines, body);
    }

    /// Lets the kernel break the connection if a request is not acknowledged (RFC 5482), or not.
    fn watch(&mut self, watched: bool) {
        if let (true, Side::Whole(socket)) = (watched != self.watched, &self.side) {
            let limit = watched.then_some(UNACKNOWLEDGED);
            // Without it a lost node is noticed later.
            if socket.options().set_tcp_user_timeout(limit).is_ok() {
                self.watched = watched;
            }
        }
    }

    /// Sends the request and reads the head of the response.
    ///
    /// # Errors
    /// Says whether the request may have been processed. The connection is of no use then.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<response::Head, Failure>> {
        if let Side::Whole(socket) = &mut self.side {
            // A replica may answer before it has read everything, and close: its answer counts.
            let sent = self.sending.poll(socket, cx);
            if sent.is_ready() && self.sending.has_failed_at_once() && !socket.may_hold_back() {
                return Poll::Ready(Err(Failure::NotProcessed));
            }
        }
        if self.sending.was_given_up() {
            return Poll::Ready(Err(Failure::Reset));
        }
        loop {
            let read = response::read_head(&mut self.inbound, method);
            if let Some(mut head) = read.map_err(|_| Failure::Malformed)? {
                let framing = std::mem::replace(&mut head.framing, Framing::Length(0));
                self.spoiled |= !head.keep_alive;
                self.framing = framing;
                self.send_the_rest_apart();
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_read(cx)) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Err(Failure::Silent));
                }
                Ok(_) | Err(_) => return Poll::Ready(Err(self.broken())),
            }
        }
    }

    /// What it means that the connection ended before a response's head.
    fn broken(&self) -> Failure {
        let was_idle = self.requests > 1 && self.inbound.is_empty();
        if was_idle { Failure::Stale } else { Failure::Reset }
    }

    /// A response that comes before the end of its request does not stop the request. From here on
    /// the two go their ways: the client decides how fast the one is read, the replica the other.
    fn send_the_rest_apart(&mut self) {
        if self.sending.is_complete() {
            return;
        }
        self.spoiled = true;
        if !self.sending.is_under_way() {
            return;
        }
        match std::mem::replace(&mut self.side, Side::Gone) {
            Side::Whole(Socket::Plain(socket)) => {
                let (reading, writing) = socket.into_split();
                self.side = Side::Half(reading);
                tokio::spawn(std::mem::take(&mut self.sending).finish(writing));
            }
            Side::Whole(Socket::Tls(socket)) => {
                let (reading, writing) = split(*socket);
                self.side = Side::TlsHalf(reading);
                tokio::spawn(std::mem::take(&mut self.sending).finish(writing));
            }
            gone @ (Side::Half(_) | Side::TlsHalf(_) | Side::Gone) => self.side = gone,
        }
    }

    /// The next part of the response's body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.take_piece() {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(trailers))) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if matches!(self.framing, Framing::UntilClose) => {
                    self.framing = Framing::Length(0);
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::CutShort))),
                Err(error) => return Poll::Ready(Some(Err(BodyError::Broken(error)))),
                Ok(_) => {}
            }
        }
    }

    /// What of the body is there already; none if there is nothing.
    fn take_piece(&mut self) -> Result<Option<Piece>, BodyError> {
        match &mut self.framing {
            Framing::Length(0) => Ok(Some(Piece::End)),
            _ if self.inbound.is_empty() => Ok(None),
            Framing::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.inbound.len());
                *left = left.saturating_sub(here as u64);
                Ok(Some(Piece::Data(self.inbound.split_to(here).freeze())))
            }
            Framing::UntilClose => Ok(Some(Piece::Data(self.inbound.split().freeze()))),
            Framing::Chunked(chunked) => {
                let piece = chunked.read(&mut self.inbound).map_err(|_| BodyError::Malformed)?;
                // The end often comes with the last piece: whoever has that need not ask again.
                if matches!(piece, Some(Piece::End | Piece::Trailers(_))) {
                    self.framing = Framing::Length(0);
                }
                Ok(piece)
            }
        }
    }

    /// Whether all of the response has been read.
    pub fn is_over(&self) -> bool {
        matches!(self.framing, Framing::Length(0))
    }

    /// Bytes of the body that are still to come, if its head says so.
    pub fn left(&self) -> Option<u64> {
        if let Framing::Length(left) = self.framing { Some(left) } else { None }
    }

    /// Whether it can take another request. Bytes behind a response belong to nobody, and could be
    /// taken for the answer to the next one's request.
    pub fn is_reusable(&mut self) -> bool {
        self.is_over() && self.inbound.is_empty() && self.sending.is_complete() && !self.spoiled
    }

    /// The connection behind a 101.
    pub fn into_upgraded(mut self) -> Option<Upgraded> {
        self.watch(false);
        let Side::Whole(socket) = self.side else {
            return None;
        };
        Some(Upgraded { socket, first: self.inbound.freeze(), _open: self.open })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.turn.poll(cx));
        self.inbound.reserve(self.read.min(self.turn.bytes_left()));
        let read = match &mut self.side {
            Side::Whole(socket) => ready!(poll_read_into(socket, &mut self.inbound, cx)),
            Side::Half(socket) => ready!(poll_read_into(socket, &mut self.inbound, cx)),
            Side::TlsHalf(socket) => ready!(poll_read_into(socket, &mut self.inbound, cx)),
            Side::Gone => Ok(0),
        };
        let bytes = read.as_ref().map_or(0, |read| *read);
        self.read = if bytes >= READ { READ_MUCH } else { READ };
        self.turn.moved(bytes);
        Poll::Ready(read)
    }
}

fn poll_read_into<S: AsyncRead + Unpin>(
    socket: &mut S,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let reading = std::pin::pin!(socket.read_buf(buffer));
    reading.poll(cx)
}

/// Counts a connection from its dial on for as long as it is open.
#[derive(Debug)]
pub struct OpenConnection(Arc<Endpoint>);

impl OpenConnection {
    /// Counts one more; none if there are `most` already, of all cores together.
    pub fn reserve(endpoint: &Arc<Endpoint>, most: Option<usize>) -> Option<Self> {
        let one_more =
            |open: usize| most.is_none_or(|most| open < most).then(|| open.saturating_add(1));
        endpoint.connections.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(endpoint)))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
