//! HTTP/2 at the level of its frames, at either end.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::soon;

/// A client's connection.
pub(crate) struct H2 {
    sender: SendRequest<Bytes>,
    /// Drives the connection; ends with it.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl H2 {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self::built(&h2::client::Builder::new(), stream).await
    }

    /// The same, and so many bytes of a stream may come unread.
    pub(crate) async fn with_window(address: SocketAddr, bytes: u32) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(bytes);
        Self::built(&builder, TcpStream::connect(address).await.unwrap()).await
    }

    async fn built(
        builder: &h2::client::Builder,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let handshake = builder.handshake(stream);
        let (sender, connection) = soon("a handshake", handshake).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    /// Sends a head: `GET http://old.test/`. The body is to follow unless there is none.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
        no_body: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = soon("a free stream", self.sender.clone().ready()).await.unwrap();
        sender.send_request(request, no_body).unwrap()
    }

    /// The answer to a GET: `200 shop: GET /`.
    pub(crate) async fn get(&self, url: &str) -> String {
        let request = Request::get(url).body(()).unwrap();
        let (response, _) = self.begin(request, true).await;
        let (head, mut body) = soon("a response", response).await.unwrap().into_parts();
        format!("{} {}", head.status.as_u16(), text_of(&mut body).await.trim_end())
    }
}

/// All of a body, with its trailer fields: `shop: GET / x-sum=7`.
pub(crate) async fn text_of(body: &mut RecvStream) -> String {
    let mut text = String::new();
    while let Some(data) = soon("data", body.data()).await {
        let data = match data {
            Ok(data) => data,
            Err(error) => {
                let reason = error.reason().map(|reason| format!("{reason:?}"));
                return format!("{text} ({})", reason.unwrap_or_else(|| "broken".to_owned()));
            }
        };
        let _ = body.flow_control().release_capacity(data.len());
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    if let Ok(Some(trailers)) = soon("trailers", body.trailers()).await {
        for (name, value) in &trailers {
            text = format!("{text} {name}={}", value.to_str().unwrap());
        }
    }
    text
}

/// Answers like [`super::Origin::named`] does.
pub(crate) async fn h2_echo(
    name: String,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let mut text = format!("{name}: {} {}", head.method, head.uri.path_and_query().unwrap());
    let sent = text_of(&mut body).await;
    if !sent.is_empty() {
        text = format!("{text} {sent}");
    }
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _ = body.send_data(Bytes::from(text), true);
    }
}
