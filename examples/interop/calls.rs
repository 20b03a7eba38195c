//! The four kinds of calls, as the cases make them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::codec::Raw;

/// Connects; with TLS if there is a root.
pub(crate) async fn connect(
    url: &str,
    root: Option<Vec<u8>>,
) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?.http2_max_header_list_size(64 << 10);
    if let Some(root) = root {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root));
        endpoint = endpoint.tls_config(tls.domain_name("interop.test"))?;
    }
    endpoint.connect().await
}

/// What a call says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Metadata; names that end in `-bin` take any bytes.
    pub(crate) metadata: Vec<(&'static str, Vec<u8>)>,
    /// The time that it is given.
    pub(crate) timeout: Option<Duration>,
    /// Whether messages are compressed.
    pub(crate) gzip: bool,
}

impl Wish {
    /// Metadata alone.
    pub(crate) fn of<V: Into<Vec<u8>>>(
        metadata: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        let metadata = metadata.into_iter().map(|(name, value)| (name, value.into())).collect();
        Self { metadata, ..Self::default() }
    }

    fn around<T>(&self, message: T) -> Result<Request<T>, Status> {
        let wrong = |_| Status::internal("the case has metadata that cannot be sent");
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            if name.ends_with("-bin") {
                let name = BinaryMetadataKey::from_static(name);
                request.metadata_mut().insert_bin(name, MetadataValue::from_bytes(value));
            } else {
                let name = AsciiMetadataKey::from_static(name);
                let value = String::from_utf8_lossy(value);
                request.metadata_mut().insert(name, value.parse().map_err(wrong)?);
            }
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }

    async fn grpc(&self, channel: &Channel) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(channel.clone())
            .max_decoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }
}

/// One message each way.
pub(crate) async fn unary(
    channel: &Channel,
    path: &'static str,
    message: Bytes,
    wish: &Wish,
) -> Result<Response<Bytes>, Status> {
    let request = wish.around(message)?;
    wish.grpc(channel).await?.unary(request, PathAndQuery::from_static(path), Raw).await
}

/// Many messages each way.
pub(crate) async fn both(
    channel: &Channel,
    path: &'static str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
    wish: &Wish,
) -> Result<Streaming<Bytes>, Status> {
    let request = wish.around(messages)?;
    let mut grpc = wish.grpc(channel).await?;
    let answered = grpc.streaming(request, PathAndQuery::from_static(path), Raw).await?;
    Ok(answered.into_inner())
}

/// The lengths of all messages of a call, up to its end.
pub(crate) async fn lengths(
    channel: &Channel,
    path: &'static str,
    messages: Vec<Bytes>,
    wish: &Wish,
) -> Result<Vec<usize>, Status> {
    let mut answers = both(channel, path, stream::iter(messages), wish).await?;
    let mut lengths = Vec::new();
    while let Some(answer) = answers.next().await {
        lengths.push(answer?.len());
    }
    Ok(lengths)
}
