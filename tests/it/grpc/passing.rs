//! What passes a proxy of gRPC unchanged.

use bytes::Bytes;
use http::HeaderMap;

use crate::support::{Caller, Ingress, Origin, answer, call_to, service, soon};

async fn before(replica: std::net::SocketAddr) -> Ingress {
    Ingress::start([service("shop", "hiveway.protocol=grpc", &[replica])]).await
}

#[tokio::test]
async fn the_fields_of_a_call_reach_the_replica() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let told = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        let names =
            ["te", "content-type", "grpc-timeout", "grpc-encoding", "key-bin", "user-agent"];
        let told: Vec<_> = names.into_iter().map(told).collect();
        let head = answer().header("told", told.join(" ")).header("grpc-status", "0");
        respond.send_response(head.body(()).unwrap(), true).unwrap();
    })
    .await;
    let ingress = before(origin.address).await;
    let request = call_to("http://a/")
        .header("grpc-timeout", "70000000u")
        .header("grpc-encoding", "gzip")
        .header("key-bin", "AAECAw,/+8=")
        .header("user-agent", "tonic/0.14.8");
    let (response, _body) = Caller::of(&ingress).await.begin(request).await;
    let response = soon("a response", response).await.unwrap();
    let expected = "trailers application/grpc 70000000u gzip AAECAw,/+8= tonic/0.14.8";
    assert_eq!(response.headers()["told"], expected);
}

#[tokio::test]
async fn trailers_pass_with_an_empty_message_and_binary_details() {
    let origin = Origin::h2_with(|_request, mut respond| async move {
        let head = answer().header("grpc-encoding", "gzip").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from("x"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("grpc-message", "".parse().unwrap());
        trailers.insert("grpc-status-details-bin", "CAUSAA".parse().unwrap());
        trailers.append("many", "one".parse().unwrap());
        trailers.append("many", "two".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    })
    .await;
    let ingress = before(origin.address).await;
    let (response, _body) = Caller::of(&ingress).await.begin(call_to("http://a/")).await;
    let response = soon("a response", response).await.unwrap();
    assert_eq!(response.headers()["grpc-encoding"], "gzip");
    let mut body = response.into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "x");
    let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "5");
    assert_eq!(trailers["grpc-message"], "");
    assert_eq!(trailers["grpc-status-details-bin"], "CAUSAA");
    assert_eq!(trailers.get_all("many").iter().count(), 2);
    assert_eq!(trailers.len(), 5);
}

#[tokio::test]
async fn a_response_of_trailers_alone_stays_one_frame() {
    let origin = Origin::h2_with(|_request, mut respond| async move {
        let head = answer().header("grpc-status", "5").header("grpc-message", "50%25 f%C3%BCr");
        respond.send_response(head.body(()).unwrap(), true).unwrap();
    })
    .await;
    let ingress = before(origin.address).await;
    let (response, _body) = Caller::of(&ingress).await.begin(call_to("http://a/")).await;
    let response = soon("a response", response).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["grpc-message"], "50%25 f%C3%BCr");
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(ingress.calls("NotFound"), 1);
}

#[tokio::test]
async fn messages_go_both_ways_at_once() {
    let origin = Origin::h2_with(|request, mut respond| async move {
        let mut received = request.into_body();
        let mut body = respond.send_response(answer().body(()).unwrap(), false).unwrap();
        while let Some(Ok(data)) = received.data().await {
            let _ = received.flow_control().release_capacity(data.len());
            body.send_data(data, false).unwrap();
        }
        let status = [crate::support::status_field("0")];
        body.send_trailers(status.into_iter().collect()).unwrap();
    })
    .await;
    let ingress = before(origin.address).await;
    let (response, mut body) = Caller::of(&ingress).await.begin(call_to("http://a/")).await;
    let mut received = soon("a head", response).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        body.send_data(message.into(), false).unwrap();
        let echoed = soon("data", received.data()).await.unwrap().unwrap();
        let _ = received.flow_control().release_capacity(echoed.len());
        assert_eq!(echoed, message);
    }
    body.send_data(Bytes::new(), true).unwrap();
    assert!(soon("the end", received.data()).await.is_none());
    let trailers = soon("trailers", received.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}
