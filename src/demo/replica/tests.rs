//! The gRPC replica as its clients see it, and the death and return of an HTTP one.

use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use http_body_util::Full;
use hyper::client::conn::http2;

use super::*;

/// Ports near here are free on most machines, and any other does as well.
const PORT: u16 = 18080;

/// What a replica answers: status, message, and the gRPC status in the trailers.
async fn call(
    replica: &Replica,
    path: &str,
    message: &'static [u8],
) -> (StatusCode, Bytes, String) {
    let stream = TokioIo::new(TcpStream::connect(replica.address).await.unwrap());
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}{path}", replica.address));
    let response = sender.send_request(request.body(Full::from(message)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    assert_eq!(head.headers[NAME], replica.name);
    let grpc_status = body.trailers().unwrap()[GRPC_STATUS].to_str().unwrap().to_owned();
    (head.status, body.to_bytes(), grpc_status)
}

#[tokio::test]
async fn grpc_calls_are_answered_with_a_status_at_their_end() {
    let replica = Replica::start("hello-1", Speaks::Grpc, PORT).unwrap();
    for (path, message, answer, status) in [
        ("/grpc.health.v1.Health/Check", &b"\0\0\0\0\0"[..], SERVING, "0"),
        ("/demo.Echo/Say", b"\0\0\0\0\x04\x0a\x02hi", b"\0\0\0\0\x04\x0a\x02hi", "0"),
        ("/demo.Echo/Shout", b"\0\0\0\0\0", b"", "12"),
    ] {
        let answered = call(&replica, path, message).await;
        assert_eq!(answered, (StatusCode::OK, answer.into(), status.to_owned()), "{path}");
    }
}

/// Sends a request, and tells when the replica works on it.
async fn begin_request(replica: &Replica) -> TcpStream {
    let stream = TcpStream::connect(replica.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(stream.try_write(request).unwrap(), request.len());
    while replica.under_way() == 0 {
        tokio::task::yield_now().await;
    }
    stream
}

/// All that comes until the connection ends, however it ends.
async fn read_to_end(stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        stream.readable().await.unwrap();
        match stream.try_read_buf(&mut all) {
            Ok(0) => return all,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return all,
        }
    }
}

#[tokio::test]
async fn a_replica_dies_in_the_middle_of_a_request_and_returns_to_its_port() {
    let mut replica = Replica::start("shop-1", Speaks::Http, PORT).unwrap();
    let address = replica.address;
    let cut = begin_request(&replica).await;

    replica.die().await;

    assert_eq!(read_to_end(&cut).await, b"");
    assert_eq!(replica.under_way.load(Relaxed), 0);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    replica.come_back().unwrap();

    let stream = TcpStream::connect(address).await.unwrap();
    stream.try_write(b"GET /cart HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_end(&stream).await).unwrap();
    assert!(answer.contains("x-replica: shop-1"), "{answer}");
    assert!(answer.contains("  GET /cart HTTP/1.0"), "{answer}");
}

#[tokio::test]
async fn a_port_that_is_taken_on_either_address_is_passed_over() {
    let first = listen_near(PORT).unwrap();
    let port = first.local_addr().unwrap().port();
    let second = listen_near(port).unwrap();
    assert_ne!(second.local_addr().unwrap().port(), port);
}
