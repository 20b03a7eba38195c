//! Certificates of clients: who is asked, who is let in, and what replicas are told.

use rustls::HandshakeKind;
use rustls::version::TLS13;

use crate::support::{Authority, H2, Ingress, Origin, field, get, service};

/// An authority of servers, one of clients, and an edge before a replica that answers with the head
/// that it got.
struct Door {
    servers: Authority,
    clients: Authority,
    ingress: Ingress,
    origin: Origin,
}

impl Door {
    async fn new(labels: &str) -> Self {
        let (servers, clients) = (Authority::new(), Authority::new());
        for name in ["open.test", "safe.test"] {
            servers.issue(name, name);
        }
        let file = clients.directory.join("clients.pem");
        clients.put("clients.pem", &clients.pem());
        let origin = Origin::scripted(|mut wire| async move {
            while let Some(head) = wire.next_head().await {
                let length = head.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}");
                wire.write(answer).await;
            }
        })
        .await;
        let options = format!("tls.client-ca={}", file.display());
        let ingress = servers.ingress(&options, labels, origin.address).await;
        Self { servers, clients, ingress, origin }
    }

    async fn relabel(&self, labels: &str) {
        self.ingress.deploy([service("shop", labels, &[self.origin.address])]).await;
    }

    /// How a GET goes, by status: `200 CN=ann`, with what the replica was told about the client. The
    /// client asks for `host/path` on a connection that was made for `name`.
    async fn get(&self, who: Who, name: &str, host: &str, path: &str) -> String {
        let client = match who {
            Who::Nobody => self.servers.client(&[], &[&TLS13]),
            Who::Ann => self.servers.client_with(&[], "ann", &self.clients),
            Who::Stranger => self.servers.client_with(&[], "ann", &self.servers),
        };
        let forged = "X-Forwarded-Client-Cert: Subject=\"CN=eve\"\r\nClient-Cert: :AAAA:";
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{forged}");
        match client.ask(&self.ingress, name, &head).await {
            Ok(answer) => told(&answer),
            Err(error) => error,
        }
    }
}

#[derive(Clone, Copy)]
enum Who {
    Nobody,
    Ann,
    /// Has a certificate of an authority that vouches for no clients.
    Stranger,
}

fn told(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    assert!(!body.contains("eve") && !body.contains("AAAA"), "{body}");
    let Some(identity) = field(body, "x-forwarded-client-cert") else {
        let reason = body.lines().next().and_then(|line| line.split_once('('));
        return reason.filter(|_| status != "200").map_or(status.clone(), |(_, reason)| {
            format!("{status} {}", reason.trim_end_matches(')'))
        });
    };
    let (hash, rest) = identity.split_once(';').unwrap();
    assert_eq!(hash.len(), "Hash=".len() + 64, "{hash}");
    format!("{status} {rest}")
}

const ANN: &str = "200 Subject=\"CN=ann\";DNS=ann.test";

#[tokio::test]
async fn a_host_that_requires_certificates_ends_the_handshake_of_who_has_none() {
    let labels = "hiveway.routes.open.host=open.test hiveway.routes.safe.host=safe.test \
                  hiveway.routes.safe.client-auth=required";
    let door = Door::new(labels).await;
    assert_eq!(door.get(Who::Ann, "safe.test", "safe.test", "/").await, ANN);
    let refused = door.get(Who::Nobody, "safe.test", "safe.test", "/").await;
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let refused = door.get(Who::Stranger, "safe.test", "safe.test", "/").await;
    assert!(refused.contains("received fatal alert"), "{refused}");
    for who in [Who::Nobody, Who::Ann, Who::Stranger] {
        assert_eq!(door.get(who, "open.test", "open.test", "/").await, "200", "nobody is asked");
    }
}

#[tokio::test]
async fn where_only_a_path_requires_them_the_request_decides() {
    let labels = "hiveway.host=safe.test hiveway.routes.admin.path=/admin \
                  hiveway.routes.admin.client-auth=required hiveway.routes.me.path=/me \
                  hiveway.routes.me.client-auth=optional";
    let door = Door::new(labels).await;
    for (path, nobody, ann) in
        [("/", "200", "200"), ("/admin", "403 no_certificate", ANN), ("/me", "200", ANN)]
    {
        assert_eq!(door.get(Who::Nobody, "safe.test", "safe.test", path).await, nobody, "{path}");
        assert_eq!(door.get(Who::Ann, "safe.test", "safe.test", path).await, ann, "{path}");
    }
    let refused = door.get(Who::Stranger, "safe.test", "safe.test", "/").await;
    assert!(
        refused.contains("received fatal alert"),
        "who shows a wrong one is never let in: {refused}"
    );
    assert_eq!(get(&door.ingress, "safe.test", "/admin").await.status(), 421, "in clear text");
    assert_eq!(get(&door.ingress, "safe.test", "/me").await.status(), 200, "in clear text");
}

#[tokio::test]
async fn a_connection_that_was_not_asked_leads_to_no_route_that_asks() {
    let labels = "hiveway.routes.open.host=open.test hiveway.routes.safe.host=safe.test \
                  hiveway.routes.safe.client-auth=required hiveway.routes.me.host=safe.test \
                  hiveway.routes.me.path=/me hiveway.routes.me.client-auth=optional";
    let door = Door::new(labels).await;
    for who in [Who::Nobody, Who::Ann] {
        for path in ["/", "/me"] {
            let refused = door.get(who, "open.test", "safe.test", path).await;
            assert_eq!(refused, "421 misdirected", "{path}");
        }
    }
    assert_eq!(door.get(Who::Ann, "safe.test", "open.test", "/").await, "200");
    let client = door.servers.client_with(&["h2"], "ann", &door.clients);
    let h2 = H2::over(client.connect(&door.ingress, "open.test").await.unwrap()).await;
    assert!(h2.get("https://open.test/").await.starts_with("200 "));
    let refused = h2.get("https://safe.test/").await;
    assert!(refused.starts_with("421 ") && refused.contains("misdirected"), "{refused}");
    assert!(h2.get("https://open.test/").await.starts_with("200 "), "the connection goes on");
}

#[tokio::test]
async fn who_was_served_before_a_label_came_is_asked_from_then_on() {
    let door = Door::new("hiveway.host=safe.test").await;
    let client = door.servers.client_with(&["h2"], "ann", &door.clients);
    let early = H2::over(client.connect(&door.ingress, "safe.test").await.unwrap()).await;
    assert!(early.get("https://safe.test/").await.starts_with("200 "));
    door.relabel("hiveway.host=safe.test hiveway.client-auth=required").await;
    assert!(early.get("https://safe.test/").await.starts_with("421 "));
    // A ticket of the time before does not stand for a certificate.
    let late = client.connect(&door.ingress, "safe.test").await.unwrap();
    assert_eq!(late.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    let late = H2::over(late).await;
    assert!(late.get("https://safe.test/").await.starts_with("200 "));
    let resumed = client.connect(&door.ingress, "safe.test").await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let resumed = H2::over(resumed).await;
    let answer = resumed.get("https://safe.test/").await;
    assert!(answer.contains("CN=ann"), "who resumes is still who it was: {answer}");
}

#[tokio::test]
async fn other_authorities_count_within_a_second_and_tickets_of_the_old_ones_no_longer() {
    let door = Door::new("hiveway.host=safe.test hiveway.client-auth=required").await;
    let ann = door.servers.client_with(&[], "ann", &door.clients);
    ann.get(&door.ingress, "safe.test", "/").await.unwrap();
    let others = Authority::new();
    let bob = door.servers.client_with(&[], "bob", &others);
    bob.get(&door.ingress, "safe.test", "/").await.unwrap_err();
    door.clients.put("clients.pem", &others.pem());
    let mut answer = bob.get(&door.ingress, "safe.test", "/").await;
    while answer.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = bob.get(&door.ingress, "safe.test", "/").await;
    }
    assert!(answer.unwrap().contains("CN=bob"));
    ann.get(&door.ingress, "safe.test", "/").await.unwrap_err();
    // What is no certificate leaves those in force that were read last.
    door.clients.put("clients.pem", "-----BEGIN CERTIFICATE-----\nAAAA");
    tokio::time::sleep(hiveway::tls::POLL * 3).await;
    bob.get(&door.ingress, "safe.test", "/").await.unwrap();
}

#[tokio::test]
async fn an_edge_without_authorities_keeps_routes_closed_that_require_certificates() {
    let servers = Authority::new();
    servers.issue("safe", "safe.test");
    let origin = Origin::named("shop").await;
    let labels = "hiveway.host=safe.test hiveway.client-auth=required \
                  hiveway.routes.me.path=/me hiveway.routes.me.client-auth=optional \
                  hiveway.routes.typo.path=/typo hiveway.routes.typo.client-auth=requird \
                  hiveway.routes.open.path=/open";
    let ingress = servers.ingress("", labels, origin.address).await;
    let client = servers.client(&[], &[&TLS13]);
    for (path, expected) in [("/", "404"), ("/typo", "404"), ("/open", "404"), ("/me", "200")] {
        let answer = client.get(&ingress, "safe.test", path).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{path}");
    }
    let diagnostics = ingress.proxy.snapshot.load().diagnostics.len();
    assert_eq!(diagnostics, 4, "each is named");
}
