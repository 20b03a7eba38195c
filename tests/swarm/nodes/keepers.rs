//! Clients that keep one connection for as long as they may, and tell how it ended.
//!
//! Each uses its connection five times a second. When it is asked to go it goes, as clients do: what
//! it was about is finished, and nothing more is begun.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::addresses;

/// Between two uses of a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// For one use.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP/1.1 by TLS: requests one after the other.
    TlsHttp1,
    /// HTTP/2 by TLS: the same.
    TlsHttp2,
    /// A WebSocket: messages to and fro.
    WebSocket,
    /// One gRPC call: messages to and fro.
    Grpc,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The test had enough of it.
    Stopped,
    /// The edge asked for it, in the protocol's words.
    Asked(&'static str),
    /// Any other way.
    Broken(String),
}

/// One that is open.
#[derive(Debug)]
pub(super) struct Keeper {
    kind: Kind,
    node: u8,
    stop: watch::Sender<bool>,
    thread: JoinHandle<(u32, End, Duration)>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) node: u8,
    /// How often it was used.
    pub(super) uses: u32,
    pub(super) end: End,
    /// How long it was open.
    pub(super) open: Duration,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, node, uses, end, open } = self;
        write!(f, "{kind:?} on node {node}: {end:?} after {open:.1?} and {uses} uses")
    }
}

impl Keeper {
    /// Opens one of each kind at that node; calls go to `grpc`, all else to `host`.
    pub(super) fn all(node: u8, host: &str, grpc: &str) -> Vec<Self> {
        let kinds = [Kind::TlsHttp1, Kind::TlsHttp2, Kind::WebSocket, Kind::Grpc];
        let host = |kind| if kind == Kind::Grpc { grpc } else { host };
        kinds.into_iter().map(|kind| Self::open(kind, node, host(kind))).collect()
    }

    fn open(kind: Kind, node: u8, host: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let host = host.to_owned();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let opened = Instant::now();
            let mut uses = 0;
            let kept = runtime.expect("a runtime").block_on(async {
                let use_up = Use { host, stopped, uses: &mut uses };
                match kind {
                    Kind::TlsHttp1 => use_up.tls_http1(node).await,
                    Kind::TlsHttp2 => use_up.tls_http2(node).await,
                    Kind::WebSocket => use_up.web_socket(node).await,
                    Kind::Grpc => use_up.grpc(node).await,
                }
            });
            (uses, kept.unwrap_or_else(|why| End::Broken(why.to_string())), opened.elapsed())
        });
        Self { kind, node, stop, thread }
    }

    /// Lets go of it, and tells how it ended.
    pub(super) fn end(self) -> Kept {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        let (uses, end, open) = self.thread.join().expect("a keeper's thread");
        Kept { kind: self.kind, node: self.node, uses, end, open }
    }
}

type Broken = Box<dyn std::error::Error>;

struct Use<'u> {
    host: String,
    stopped: watch::Receiver<bool>,
    uses: &'u mut u32,
}

impl Use<'_> {
    /// Counts a use and waits for the next; false when there is to be none.
    async fn again(&mut self) -> bool {
        *self.uses += 1;
        let stopped = self.stopped.wait_for(|stopped| *stopped);
        timeout(PAUSE, stopped).await.is_err()
    }

    async fn tls_http1(mut self, node: u8) -> Result<End, Broken> {
        let stream = tls(node, "http/1.1").await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        loop {
            sender.ready().await?;
            let request = Request::get("/").header(HOST, &self.host).body(Empty::<Bytes>::new())?;
            let head = whole(sender.send_request(request).await?).await?;
            if head.headers.get(CONNECTION).is_some_and(|option| option == "close") {
                return Ok(End::Asked("Connection: close"));
            }
            if !self.again().await {
                return Ok(End::Stopped);
            }
        }
    }

    async fn tls_http2(mut self, node: u8) -> Result<End, Broken> {
        let (stream, asked) = Watched::new(tls(node, "h2").await?);
        let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = connecting.await?;
        tokio::spawn(connection);
        loop {
            let request = Request::get(format!("https://{}/", self.host));
            let request = request.version(Version::HTTP_2).body(Empty::<Bytes>::new())?;
            let sent = async {
                sender.ready().await?;
                whole(sender.send_request(request).await?).await
            };
            match sent.await {
                Ok(_) if !asked.load(Relaxed) => {}
                // A request that crosses the GOAWAY was provably not processed: it goes elsewhere.
                _ if asked.load(Relaxed) => return Ok(End::Asked("GOAWAY")),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            if !self.again().await {
                return Ok(End::Stopped);
            }
        }
    }

    async fn web_socket(mut self, node: u8) -> Result<End, Broken> {
        let [address, _] = addresses(node, 80);
        let stream = TcpStream::connect(address).await?;
        let url = format!("ws://{}/ws", self.host);
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        loop {
            let text = format!("message {}", self.uses);
            socket.send(Message::text(text.clone())).await?;
            let came = timeout(PATIENCE, socket.next()).await?.ok_or("closed without a word")??;
            if let Message::Close(frame) = came {
                // Flushes the answer to it.
                while let Some(Ok(_)) = socket.next().await {}
                let away = frame.as_ref().is_some_and(|frame| frame.code == CloseCode::Away);
                let end = away.then_some(End::Asked("close frame"));
                return end.ok_or_else(|| format!("closed with {frame:?}").into());
            }
            if came != Message::text(text) {
                return Err(format!("message {} came back as {came:?}", self.uses).into());
            }
            if !self.again().await {
                socket.close(None).await?;
                return Ok(End::Stopped);
            }
        }
    }

    async fn grpc(mut self, node: u8) -> Result<End, Broken> {
        let [address, _] = addresses(node, 80);
        let (stream, asked) = Watched::new(TcpStream::connect(address).await?);
        let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = connecting.await?;
        tokio::spawn(connection);
        let (messages, body) = mpsc::channel::<Bytes>(1);
        let body = futures_util::stream::unfold(body, async |mut body| {
            let message = body.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(Frame::data(message)), body))
        });
        let request = Request::post(format!("http://{}/echo", self.host))
            .header(CONTENT_TYPE, "application/grpc")
            .body(StreamBody::new(Box::pin(body)))?;
        messages.send(message(0)).await?;
        let mut response = timeout(PATIENCE, sender.send_request(request)).await??;
        for number in 1_u32.. {
            let frame = timeout(PATIENCE, response.frame()).await?.ok_or("ended")??;
            let came = frame.into_data().map_err(|_| "trailers in the middle of the call")?;
            if came != message(number - 1) {
                return Err(format!("message {} came back as {came:?}", number - 1).into());
            }
            let asked = asked.load(Relaxed);
            if !self.again().await || asked {
                // Half closed: the call ends in good order, asked or not.
                drop(messages);
                let body = timeout(PATIENCE, response.collect()).await??;
                body.trailers().and_then(|status| status.get("grpc-status")).ok_or("no status")?;
                return Ok(if asked { End::Asked("GOAWAY") } else { End::Stopped });
            }
            messages.send(message(number)).await?;
        }
        Ok(End::Stopped)
    }
}

/// A gRPC message: not compressed, four bytes.
fn message(number: u32) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 4];
    bytes.extend_from_slice(&number.to_be_bytes());
    Bytes::from(bytes)
}

/// Waits for the last byte of a 200.
async fn whole(response: Response<Incoming>) -> Result<http::response::Parts, Broken> {
    let (head, body) = response.into_parts();
    timeout(PATIENCE, body.collect()).await??;
    if head.status == http::StatusCode::OK { Ok(head) } else { Err(head.status.as_str().into()) }
}

/// A connection by TLS. The certificate is the edge's own: what is kept is looked at, not who keeps it.
async fn tls(node: u8, protocol: &str) -> Result<TlsStream<TcpStream>, Broken> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
    let mut config = config
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let [address, _]: [SocketAddr; 2] = addresses(node, 443);
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("keeper.test")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Takes every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A stream of HTTP/2 whose frames are watched for a GOAWAY (RFC 9113, section 6.8), which clients'
/// libraries do not tell of.
struct Watched<S> {
    stream: S,
    asked: Arc<AtomicBool>,
    /// Bytes of a frame's head that have come.
    head: Vec<u8>,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
}

impl<S> Watched<S> {
    fn new(stream: S) -> (Self, Arc<AtomicBool>) {
        let asked = Arc::new(AtomicBool::new(false));
        (Self { stream, asked: Arc::clone(&asked), head: Vec::new(), left: 0 }, asked)
    }

    fn watch(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.left > 0 {
                self.left -= 1;
                continue;
            }
            self.head.push(byte);
            if let &[high, middle, low, kind, _, _, _, _, _] = &self.head[..] {
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if kind == 7 {
                    self.asked.store(true, Relaxed);
                }
                self.head.clear();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default().to_vec();
        self.watch(&came);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
