//! The server: tonic's, below its router.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn as serves;

use crate::codec::Raw;

/// Calls that sleep now.
static ASLEEP: AtomicUsize = AtomicUsize::new(0);

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Listens on a port of its own, which it prints, until it is killed.
pub(crate) async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(1000).max_header_list_size(64 << 10);
            let service =
                service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: http::Request<Incoming>) -> http::Response<Body> {
    let request = request.map(Body::new);
    let gzip = request.headers().contains_key("gzip");
    let mut grpc = Grpc::new(Raw).apply_max_message_size_config(Some(usize::MAX), Some(usize::MAX));
    let mut encodings = EnabledCompressionEncodings::default();
    encodings.enable(CompressionEncoding::Gzip);
    let sent = if gzip { encodings } else { EnabledCompressionEncodings::default() };
    grpc = grpc.apply_compression_config(encodings, sent);
    match request.uri().path() {
        "/test.Interop/Unary" => grpc.unary(serves(unary), request).await,
        "/test.Interop/Up" => grpc.client_streaming(serves(up), request).await,
        "/test.Interop/Down" => grpc.server_streaming(serves(down), request).await,
        "/test.Interop/Both" => grpc.streaming(serves(both), request).await,
        "/test.Interop/Sleep" => grpc.streaming(serves(sleep), request).await,
        _ => Status::unimplemented("there is no such method").into_http(),
    }
}

fn given<'m>(metadata: &'m MetadataMap, name: &str) -> Option<&'m str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

fn zeros(size: &str) -> Result<Bytes, Status> {
    let size = size.trim().parse().map_err(|_| Status::invalid_argument("a size is a number"))?;
    Ok(Bytes::from(vec![0; size]))
}

/// The status that a call wants to end with.
fn wanted(metadata: &MetadataMap) -> Result<(), Status> {
    let Some(code) = given(metadata, "status").and_then(|text| text.parse().ok()) else {
        return Ok(());
    };
    let said = metadata.get_bin("said-bin").and_then(|said| said.to_bytes().ok());
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    let mut trailers = MetadataMap::new();
    let details: Vec<u8> = (0..=u8::MAX).collect();
    trailers.insert_bin("details-bin", MetadataValue::from_bytes(&details));
    Err(Status::with_metadata(Code::from_i32(code), said, trailers))
}

async fn unary(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let (metadata, _, message) = request.into_parts();
    wanted(&metadata)?;
    if metadata.contains_key("asleep") {
        return Ok(Response::new(ASLEEP.load(SeqCst).to_string().into()));
    }
    let mut response = Response::new(given(&metadata, "size").map_or(Ok(message), zeros)?);
    if let Some(echo) = metadata.get("echo") {
        response.metadata_mut().insert("echo", echo.clone());
    }
    if let Some(echo) = metadata.get_bin("echo-bin") {
        response.metadata_mut().insert_bin("echo-bin", echo.clone());
    }
    Ok(response)
}

async fn up(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let (mut messages, mut sum) = (request.into_inner(), 0);
    while let Some(message) = messages.message().await? {
        sum += message.len();
    }
    Ok(Response::new(sum.to_string().into()))
}

async fn down(request: Request<Bytes>) -> Result<Response<Messages>, Status> {
    let sizes = given(request.metadata(), "sizes").unwrap_or_default().to_owned();
    let sizes: Vec<_> = sizes.split(',').map(zeros).collect();
    Ok(Response::new(Box::pin(stream::iter(sizes))))
}

async fn both(request: Request<Streaming<Bytes>>) -> Result<Response<Messages>, Status> {
    let (metadata, _, messages) = request.into_parts();
    let answers = messages.map(|message| zeros(&String::from_utf8_lossy(&message?)));
    let end = stream::iter(wanted(&metadata).err().map(Err));
    Ok(Response::new(Box::pin(answers.chain(end))))
}

/// Counts a call for as long as it lives.
struct Asleep;

impl Drop for Asleep {
    fn drop(&mut self) {
        ASLEEP.fetch_sub(1, SeqCst);
    }
}

async fn sleep(_: Request<Streaming<Bytes>>) -> Result<Response<Messages>, Status> {
    ASLEEP.fetch_add(1, SeqCst);
    let _asleep = Asleep;
    std::future::pending().await
}
