//! More clients than there is room for.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use crate::support::{H2, Ingress, Origin, Wire, check, eventually, service, soon};

async fn limited(options: &str, shop: &Origin) -> Ingress {
    Ingress::with_options(options, [service("shop", "hiveway.path=/", &[shop.address])]).await
}

fn open(ingress: &Ingress) -> usize {
    ingress.connections.open.load(Relaxed)
}

#[tokio::test]
async fn who_comes_when_all_seats_are_taken_is_closed_at_once() {
    let shop = Origin::named("shop").await;
    let ingress = limited("limits.connections=3", &shop).await;
    let mut seated = Vec::new();
    for _ in 0..3 {
        seated.push(Wire::to(ingress.address).await);
    }
    eventually("all have a seat", || open(&ingress) == 3).await;
    let mut late = Wire::to(ingress.address).await;
    late.closed().await;
    assert_eq!(ingress.refused("connections"), 1);
    seated.pop();
    eventually("a seat is free", || open(&ingress) == 2).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn idle_connections_have_to_go_soon_when_most_seats_are_taken() {
    let shop = Origin::named("shop").await;
    let ingress = limited("limits.connections=20 limits.keepalive-idle=1h", &shop).await;
    let mut used = Wire::to(ingress.address).await;
    used.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    used.reply().await;
    let client = H2::to(ingress.address).await;
    assert_eq!(client.get("http://a/").await, "200 shop: GET /");
    let mut uploading = Wire::to(ingress.address).await;
    uploading.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\no").await;
    let in_flight = || ingress.upstream("shop").in_flight.load(Relaxed);
    eventually("the upload has begun", || in_flight() == 1).await;
    let mut others = Vec::new();
    while open(&ingress) < 19 {
        others.push(Wire::to(ingress.address).await);
        eventually("it has a seat", || open(&ingress) >= 3 + others.len()).await;
    }
    used.closed().await;
    soon("the end of HTTP/2", client.connection).await.unwrap().unwrap();
    // Whoever is at work stays.
    uploading.write("k").await;
    assert_eq!(uploading.reply().await.to_string(), "200 shop: POST / ok");
}

#[tokio::test]
async fn handshakes_beyond_the_number_are_not_begun() {
    let shop = Origin::named("shop").await;
    let options = "listeners.websecure.address=127.0.0.1:0 tls.certificates=/nowhere \
                   limits.handshakes=2";
    let ingress = limited(options, &shop).await;
    let counted = || {
        let cells = ingress.proxy.handshakes.each();
        let limit = cells.flat_map(|cell| cell.iter().collect::<Vec<_>>());
        limit.filter(|(kind, _)| *kind == ("none", "limit")).map(|(_, count)| count).sum::<u64>()
    };
    let mut clients = Vec::new();
    while counted() == 0 {
        assert!(clients.len() < 1000, "as many as come are begun");
        clients.push(Wire::to(ingress.second.unwrap()).await);
        tokio::task::yield_now().await;
    }
    // Nobody is waited for in clear text.
    check(&ingress, "a", "/", "200 shop: GET /").await;
}

/// An edge that may have only so many files open, a process of its own.
struct Poor {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Poor {
    fn with_files(files: usize) -> Self {
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("poor");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("services.toml"), "").unwrap();
        let mut process = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" edge")])
            .arg(env!("CARGO_BIN_EXE_hiveway"))
            .env("HIVEWAY_PROVIDER_KIND", "file")
            .env("HIVEWAY_PROVIDER_PATH", directory.join("services.toml"))
            .env("HIVEWAY_RUNTIME_WORKERS", "1")
            .env("HIVEWAY_LISTENERS_WEB_ADDRESS", "127.0.0.1:0")
            .env("HIVEWAY_LISTENERS_WEB_HEALTH_PATH", "/up")
            .env("HIVEWAY_ADMIN_ADDRESS", "127.0.0.1:0")
            .env("HIVEWAY_LIMITS_CONNECTIONS", "1000")
            .env("HIVEWAY_LOG_FORMAT", "text")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for stream in streams {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line);
                }
            });
        }
        Self { process, log }
    }

    /// The address that it says it listens on.
    fn address(&self) -> Option<SocketAddr> {
        let log = self.log.lock().unwrap();
        let of_clients = |line: &&String| line.contains("listening") && line.contains("web");
        let line = log.iter().find(of_clients)?;
        line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
    }

    fn complaints(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains("could not be accepted")).count()
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn without_descriptors_clients_are_closed_and_the_log_is_not_flooded() {
    let edge = Poor::with_files(48);
    eventually("it listens", || edge.address().is_some()).await;
    let address = edge.address().unwrap();
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(Wire::to(address).await);
    }
    // Far more than there are descriptors for: the last are closed, not kept waiting.
    for late in &mut clients[100..] {
        late.closed().await;
    }
    let complaints = edge.complaints();
    assert!((1..10).contains(&complaints), "{complaints} complaints");
    drop(clients);
    let mut answered = false;
    while !answered {
        let mut client = Wire::to(address).await;
        client.write("GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        answered = client.next_head().await.is_some_and(|head| head.starts_with("HTTP/1.1 200"));
    }
}
