//! Sends back every message of a WebSocket, and every byte of an `Upgrade: echo`.

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::body::AnswerBody;
use crate::server::UnderWay;

/// Answers 101 and echoes from then on, until the client leaves or the replica is told to end
/// : then a WebSocket gets a Close frame with 1001. 426 for a plain request.
pub(crate) fn answer(request: &mut Request<Incoming>, under_way: UnderWay) -> Response<AnswerBody> {
    let upgrade = request.headers().get(UPGRADE).cloned();
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let mut response = Response::new(AnswerBody::from(""));
    let headers = response.headers_mut();
    match (upgrade, key) {
        (Some(upgrade), Some(key)) if upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") => {
            if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            tokio::spawn(messages(hyper::upgrade::on(request), under_way));
        }
        (Some(upgrade), None) if upgrade.as_bytes().eq_ignore_ascii_case(b"echo") => {
            headers.insert(UPGRADE, HeaderValue::from_static("echo"));
            tokio::spawn(raw(hyper::upgrade::on(request), under_way));
        }
        _ => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket, echo"));
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            return response;
        }
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
}

/// Counted as under way to its end: a replica that finishes says goodbye before it goes.
async fn messages(upgrade: OnUpgrade, under_way: UnderWay) {
    let Ok(upgraded) = upgrade.await else { return };
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = under_way.0.told_to_end() => {
                let goodbye = CloseFrame { code: CloseCode::Away, reason: "replica ends".into() };
                // The client may be gone already; then there is nobody to tell.
                let _ = socket.close(Some(goodbye)).await;
                return;
            }
        };
        let Some(Ok(message)) = message else { return };
        // Pings and closes are answered by the library itself.
        let echo = message.is_text() || message.is_binary();
        if echo && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn raw(upgrade: OnUpgrade, under_way: UnderWay) -> std::io::Result<()> {
    let Ok(upgraded) = upgrade.await else { return Ok(()) };
    let mut io: TokioIo<Upgraded> = TokioIo::new(upgraded);
    let mut buffer = [0; 4096];
    loop {
        let length = tokio::select! {
            length = io.read(&mut buffer) => length?,
            () = under_way.0.told_to_end() => return Ok(()),
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        io.write_all(bytes).await?;
    }
}
