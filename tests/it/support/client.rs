//! A client that sends one request on a connection of its own.

use super::{Ingress, Reply, Wire};

/// Sends a GET for that host and path, and reads the response.
pub(crate) async fn get(ingress: &Ingress, host: &str, path: &str) -> Reply {
    send(ingress, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

/// Sends a request as it is written, and reads the response.
pub(crate) async fn send(ingress: &Ingress, request: &str) -> Reply {
    let mut wire = Wire::to(ingress.address).await;
    wire.write(request).await;
    wire.reply().await
}

/// A GET for that host and path is answered like this: `200 shop: GET /`.
#[track_caller]
pub(crate) fn check<'c>(
    ingress: &'c Ingress,
    host: &'c str,
    path: &'c str,
    expected: &'c str,
) -> impl Future<Output = ()> + 'c {
    let caller = std::panic::Location::caller();
    async move {
        let reply = get(ingress, host, path).await.to_string();
        // What the proxy says itself has a reason word that is enough to know it by.
        let matches = reply == expected || reply.lines().next() == Some(expected);
        assert!(matches, "{host}{path} at {caller}: {reply:?} instead of {expected:?}");
    }
}
