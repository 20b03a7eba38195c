//! gRPC over [`H2`], without any of its libraries: a call is read as
//! `200 message... grpc-status=0 grpc-message=`.

use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

use super::{H2, Ingress, PATIENCE, soon};

/// The head of a call to that method: `http://a/shop.Shop/Buy`.
pub(crate) fn call_to(url: &str) -> http::request::Builder {
    Request::post(url).header("content-type", "application/grpc").header("te", "trailers")
}

/// A client's connection.
pub(crate) struct Caller(H2);

impl Caller {
    pub(crate) async fn of(ingress: &Ingress) -> Self {
        Self(H2::to(ingress.address).await)
    }

    /// Begins a call; its messages are to follow.
    pub(crate) async fn begin(
        &self,
        request: http::request::Builder,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.0.begin(request.body(()).unwrap(), false).await
    }

    /// A call with one message, to its end.
    pub(crate) async fn call(&self, request: http::request::Builder) -> String {
        let (response, mut body) = self.begin(request).await;
        let _ = body.send_data(Bytes::from("hello"), true);
        outcome_of(response).await
    }

    /// The same with nothing special about it.
    pub(crate) async fn ask(&self) -> String {
        self.call(call_to("http://a/shop.Shop/Buy")).await
    }
}

/// How a call went, from the response's head to its end.
pub(crate) async fn outcome_of(response: ResponseFuture) -> String {
    let (head, mut body) = match soon("a response", response).await {
        Ok(response) => response.into_parts(),
        Err(error) => return format!("({:?})", error.reason()),
    };
    let mut text = head.status.as_u16().to_string();
    if body.is_end_stream() {
        return text + " trailers only:" + &status_in(&head.headers);
    }
    while let Some(data) = soon("data", body.data()).await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                text = format!("{text} {}", std::str::from_utf8(&data).unwrap());
            }
            Err(error) => return format!("{text} ({:?})", error.reason()),
        }
    }
    match soon("trailers", body.trailers()).await {
        Ok(trailers) => text + &status_in(&trailers.unwrap_or_default()),
        Err(error) => format!("{text} ({:?})", error.reason()),
    }
}

fn status_in(fields: &HeaderMap) -> String {
    let mut text = String::new();
    for name in ["grpc-status", "grpc-message"] {
        if let Some(value) = fields.get(name) {
            text = format!("{text} {name}={}", value.to_str().unwrap());
        }
    }
    text
}

/// The head of a replica's response.
pub(crate) fn answer() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc")
}

/// Answers with one message and that status.
pub(crate) async fn answer_with(
    (request, mut respond): (Request<RecvStream>, SendResponse<Bytes>),
    message: &'static str,
    status: &str,
) {
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let Ok(mut body) = respond.send_response(answer().body(()).unwrap(), false) else { return };
    let _ = body.send_data(Bytes::from(message), false);
    let _ = body.send_trailers([status_field(status)].into_iter().collect());
}

pub(crate) fn status_field(status: &str) -> (http::HeaderName, http::HeaderValue) {
    (http::HeaderName::from_static("grpc-status"), status.try_into().unwrap())
}

/// Sends the head and one message, and leaves the rest to do.
pub(crate) async fn answer_half(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let mut body = respond.send_response(answer().body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from("half"), false).unwrap();
    // h2 drops data that is not written yet when a stream is reset.
    tokio::time::sleep(Duration::from_millis(20)).await;
    body
}

/// Waits until the replica is told that nobody waits any more; says why.
pub(crate) async fn reset_of(respond: &mut SendResponse<Bytes>) -> Option<h2::Reason> {
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    tokio::time::timeout(PATIENCE, reset).await.ok()?.ok()
}
