//! Which replica gets a request: sessions, keys, new and slow replicas, and those that are full.

mod room;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Ingress, Origin, Reply, eventually, send, service};

/// A GET with fields like `Cookie: a=b`.
async fn ask(ingress: &Ingress, fields: &str) -> Reply {
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
    send(ingress, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await
}

/// Who answered: what stands before the colon.
fn who(reply: &Reply) -> String {
    assert_eq!(reply.status(), 200, "{reply}");
    reply.body.split(':').next().unwrap().to_owned()
}

/// The session that a response begins, as the client sends it: `sid=0123456789abcdef`.
fn session(reply: &Reply) -> Option<String> {
    reply.field("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

async fn three() -> [Origin; 3] {
    [Origin::named("one").await, Origin::named("two").await, Origin::named("three").await]
}

#[tokio::test]
async fn a_session_stays_through_changes_of_other_services_and_a_scale_up() {
    let [one, two, three] = three().await;
    let shop = |replicas: &[_]| service("shop", "hiveway.sticky=sid hiveway.host=a", replicas);
    let ingress = Ingress::start([shop(&[one.address, two.address])]).await;
    let first = ask(&ingress, "Cookie: other=1").await;
    let set = first.field("set-cookie").unwrap().to_owned();
    assert!(set.starts_with("sid=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let (own, sid) = (who(&first), session(&first).unwrap());
    let stays = async |what: &str| {
        for _ in 0..20 {
            let reply = ask(&ingress, &format!("Cookie: other=1; {sid}")).await;
            assert_eq!((who(&reply), session(&reply)), (own.clone(), None), "{what}");
        }
    };
    stays("at first").await;
    let other = service("other", "hiveway.host=other.test", &[three.address]);
    ingress.deploy([shop(&[one.address, two.address]), other]).await;
    stays("beside another service").await;
    ingress.deploy([shop(&[one.address, two.address, three.address])]).await;
    stays("with a third replica").await;
    let mut begun = BTreeSet::new();
    for _ in 0..60 {
        let reply = ask(&ingress, "").await;
        begun.insert((who(&reply), session(&reply)));
    }
    assert_eq!(begun.len(), 3, "new sessions begin everywhere, and each replica has one mark");
}

#[tokio::test]
async fn all_edges_set_the_same_cookie_and_keep_to_it() {
    let [one, two, _] = three().await;
    let replicas = [one.address, two.address];
    let here = Ingress::start([service("shop", "hiveway.sticky=sid", &replicas)]).await;
    let there = Ingress::start([service("shop", "hiveway.sticky=sid", &replicas)]).await;
    for _ in 0..10 {
        let first = ask(&here, "").await;
        let reply = ask(&there, &format!("Cookie: {}", session(&first).unwrap())).await;
        assert_eq!((who(&reply), session(&reply)), (who(&first), None));
    }
}

#[tokio::test]
async fn the_sessions_of_a_dead_replica_move_once_and_all_requests_of_a_client_to_the_same_one() {
    let [one, two, three] = three().await;
    let replicas = [one.address, two.address, three.address];
    let ingress = Ingress::start([service("shop", "hiveway.sticky=sid", &replicas)]).await;
    let first = ask(&ingress, "").await;
    let old = format!("Cookie: {}", session(&first).unwrap());
    let mut origins = BTreeMap::from([("one", one), ("two", two), ("three", three)]);
    drop(origins.remove(&*who(&first)));
    let moved = ask(&ingress, &old).await;
    let new = session(&moved).expect("a new session");
    assert_ne!(who(&moved), who(&first));
    for _ in 0..10 {
        let late = ask(&ingress, &old).await;
        assert_eq!((who(&late), session(&late)), (who(&moved), Some(new.clone())));
        let reply = ask(&ingress, &format!("Cookie: {new}")).await;
        assert_eq!((who(&reply), session(&reply)), (who(&moved), None), "it stays there");
    }
}

#[tokio::test]
async fn the_sessions_of_a_replica_that_leaves_move_before_it_is_gone() {
    let [one, two, _] = three().await;
    let replicas = [one.address, two.address];
    let ingress = Ingress::start([service("shop", "hiveway.sticky=sid", &replicas)]).await;
    let first = ask(&ingress, "").await;
    let left = if who(&first) == "one" { one.address } else { two.address };
    ingress.endpoint(left).unwrap().health.set_draining(true, hiveway::clock::now());
    let moved = ask(&ingress, &format!("Cookie: {}", session(&first).unwrap())).await;
    assert_ne!(who(&moved), who(&first));
    assert!(session(&moved).is_some());
}

#[tokio::test]
async fn a_cookie_that_nobody_set_begins_a_session_like_none() {
    let [one, two, _] = three().await;
    let replicas = [one.address, two.address];
    let ingress = Ingress::start([service("shop", "hiveway.sticky=sid", &replicas)]).await;
    for cookie in ["sid=", "sid=shop_web.1", "sid=0123456789abcdef", "sid=%00; sid", "=;;,"] {
        let reply = ask(&ingress, &format!("Cookie: {cookie}")).await;
        assert!(session(&reply).is_some_and(|sid| sid.len() == 20), "{cookie}: {reply}");
    }
}

#[tokio::test]
async fn a_key_leads_to_the_same_replica_and_what_has_none_to_all() {
    let [one, two, three] = three().await;
    let replicas = [one.address, two.address, three.address];
    for (balance, field) in [("cookie:id", "Cookie: a=b; id="), ("header:x-tenant", "X-Tenant: ")] {
        let labels = format!("hiveway.balance=hash:{balance}");
        let ingress = Ingress::start([service("shop", &labels, &replicas)]).await;
        let mut owners = BTreeSet::new();
        for key in 0..30 {
            let mut answered = BTreeSet::new();
            for _ in 0..4 {
                answered.insert(who(&ask(&ingress, &format!("{field}{key}")).await));
            }
            assert_eq!(answered.len(), 1, "{balance} {key}");
            owners.extend(answered);
        }
        assert_eq!(owners.len(), 3, "{balance}");
        let mut anybody = BTreeSet::new();
        for _ in 0..60 {
            anybody.insert(who(&ask(&ingress, "").await));
        }
        assert_eq!(anybody.len(), 3, "{balance}");
    }
}

#[tokio::test]
async fn a_client_is_known_by_the_address_that_trusted_proxies_tell() {
    let [one, two, three] = three().await;
    let replicas = [one.address, two.address, three.address];
    let services = [service("shop", "hiveway.balance=hash:client-ip", &replicas)];
    let options = "listeners.web.trusted-proxies=127.0.0.1/32";
    let ingress = Ingress::with_options(options, services).await;
    let mut owners = BTreeSet::new();
    for client in 1..30 {
        let mut answered = BTreeSet::new();
        for _ in 0..3 {
            let field = format!("X-Forwarded-For: 203.0.113.{client}");
            answered.insert(who(&ask(&ingress, &field).await));
        }
        assert_eq!(answered.len(), 1, "{client}");
        owners.extend(answered);
    }
    assert_eq!(owners.len(), 3);
    eventually("nothing is in flight", || {
        replicas.iter().all(|at| ingress.endpoint(*at).unwrap().in_flight() == 0)
    })
    .await;
}
