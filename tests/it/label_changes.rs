//! What a change of labels does to traffic, and what it does not.

use std::collections::BTreeMap;

use hiveway::inventory::SwarmService;

use crate::support::{Ingress, Origin, Wire, check, eventually, get, service};

#[tokio::test]
async fn a_changed_label_holds_for_the_next_request() {
    let shop = Origin::named("shop").await;
    let at = |labels| [service("shop", labels, &[shop.address])];
    let ingress = Ingress::start(at("hiveway.host=old.test")).await;
    check(&ingress, "old.test", "/", "200 shop: GET /").await;
    ingress.announce(at("hiveway.host=new.test")).await;
    check(&ingress, "new.test", "/", "200 shop: GET /").await;
    check(&ingress, "old.test", "/", "404 404 Not Found (no_route)").await;
    // The replica stayed the same, and so did the connection to it.
    assert_eq!(shop.accepted(), 1);
}

#[tokio::test]
async fn a_request_under_way_keeps_the_route_that_it_came_by() {
    let origin = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await;
        wire.head().await;
    })
    .await;
    let other = Origin::named("other").await;
    let slow = service("shop", "hiveway.host=old.test", &[origin.address]);
    let ingress = Ingress::start([slow.clone()]).await;
    let mut client = Wire::to(ingress.address).await;
    client.write("GET / HTTP/1.1\r\nHost: old.test\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.exactly(3).await, "one");
    ingress.deploy([service("other", "hiveway.host=old.test", &[other.address])]).await;
    check(&ingress, "old.test", "/", "200 other: GET /").await;
    assert!(!client.closed_within(std::time::Duration::from_millis(300)).await);
}

#[tokio::test]
async fn services_that_did_not_change_keep_their_connections_and_health() {
    let (shop, blog) = (Origin::named("shop").await, Origin::named("blog").await);
    let services = |blog_labels| {
        [
            service("shop", "hiveway.host=shop.test", &[shop.address]),
            service("blog", blog_labels, &[blog.address]),
        ]
    };
    let ingress = Ingress::start(services("hiveway.host=a.test")).await;
    let before = ingress.endpoint(shop.address).unwrap();
    for labels in ["hiveway.host=b.test", "hiveway.port=nonsense", "hiveway.enable=false"] {
        ingress.announce(services(labels)).await;
        check(&ingress, "shop.test", "/", "200 shop: GET /").await;
    }
    assert_eq!(ingress.endpoint(shop.address).unwrap().id, before.id);
    assert_eq!(shop.accepted(), 1);
}

#[tokio::test]
async fn a_wrong_label_disables_only_its_route() {
    let shop = Origin::named("shop").await;
    let labels = "hiveway.routes.api.host=api.test hiveway.routes.api.timeout.queue=soon \
                  hiveway.routes.img.host=img.test";
    let ingress = Ingress::start([service("shop", labels, &[shop.address])]).await;
    check(&ingress, "img.test", "/", "200 shop: GET /").await;
    check(&ingress, "api.test", "/", "404 404 Not Found (no_route)").await;
    let snapshot = ingress.proxy.snapshot.load();
    assert_eq!(snapshot.diagnostics.len(), 1, "{:?}", snapshot.diagnostics);
}

#[tokio::test]
async fn a_label_that_became_wrong_leaves_the_last_good_form_in_force() {
    let shop = Origin::named("shop").await;
    let at = |labels| [service("shop", labels, &[shop.address])];
    let ingress = Ingress::start(at("hiveway.host=shop.test")).await;
    for wrong in ["hiveway.host=no_host!", "hiveway.host=new.test hiveway.weight=many"] {
        ingress.announce(at(wrong)).await;
        check(&ingress, "shop.test", "/", "200 shop: GET /").await;
        check(&ingress, "new.test", "/", "404 404 Not Found (no_route)").await;
    }
    ingress.announce(at("hiveway.host=new.test")).await;
    check(&ingress, "new.test", "/", "200 shop: GET /").await;
}

#[tokio::test]
async fn of_two_services_with_the_same_host_the_older_keeps_it() {
    let (older, newer) = (Origin::named("older").await, Origin::named("newer").await);
    let old = service("a_web", "hiveway.host=old.test", &[older.address]);
    let new = service("b_web", "hiveway.host=old.test hiveway.path=/", &[newer.address]);
    let ingress = Ingress::start([old.clone(), new.clone()]).await;
    for _ in 0..5 {
        check(&ingress, "old.test", "/", "200 older: GET /").await;
    }
    let complaints = |service| {
        let snapshot = ingress.proxy.snapshot.load();
        snapshot.diagnostics.iter().filter(|found| found.service == service).count()
    };
    assert_eq!(complaints("a_web"), 1, "two stacks claim one host");
    assert_eq!(complaints("b_web"), 2, "and it does not get the traffic");
    // When the older one leaves, the newer one takes over.
    ingress.announce([new]).await;
    check(&ingress, "old.test", "/", "200 newer: GET /").await;
}

/// How many of a hundred requests each service takes.
async fn shares(ingress: &Ingress) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..100 {
        let reply = get(ingress, "old.test", "/").await;
        let name = reply.body.split(':').next().unwrap().to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn two_services_of_one_stack_share_the_traffic_by_weight() {
    let (stable, canary) = (Origin::named("stable").await, Origin::named("canary").await);
    let side = |name, weight: u32, replicas: &[_]| -> SwarmService {
        let labels = format!("hiveway.host=old.test hiveway.weight={weight}");
        service(&format!("shop_{name}"), &labels, replicas)
    };
    let ingress = Ingress::start([
        side("stable", 80, &[stable.address]),
        side("canary", 20, &[canary.address]),
    ])
    .await;
    let taken = shares(&ingress).await;
    assert!((60..=95).contains(&taken["stable"]), "{taken:?}");
    assert!((5..=40).contains(&taken["canary"]), "{taken:?}");
    // A side of weight 0 takes nothing, and one without replicas yields its share.
    for canary in [side("canary", 0, &[canary.address]), side("canary", 100, &[])] {
        ingress.deploy([side("stable", 80, &[stable.address]), canary]).await;
        assert_eq!(shares(&ingress).await["stable"], 100);
    }
}

#[tokio::test]
async fn a_service_that_wants_no_replica_answers_503_at_once() {
    let labels = "hiveway.host=old.test";
    let ingress = Ingress::start([service("shop", labels, &[])]).await;
    let started = hiveway::clock::now();
    let reply = get(&ingress, "old.test", "/").await;
    assert!(reply.to_string().starts_with("503 503 Service Unavailable (scaled_to_zero)"));
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert!(hiveway::clock::now().since(started).as_millis() < 1000);
}

#[tokio::test]
async fn a_service_that_is_removed_answers_404() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    check(&ingress, "a", "/", "200 shop: GET /").await;
    ingress.announce([]).await;
    check(&ingress, "a", "/", "404 404 Not Found (no_route)").await;
}

#[tokio::test]
async fn requests_do_not_fail_while_the_table_is_replaced_again_and_again() {
    let shop = Origin::named("shop").await;
    let ingress = Ingress::before(shop.address).await;
    let mut client = Wire::to(ingress.address).await;
    for change in 0..30 {
        let labels = format!("hiveway.path=/ hiveway.limit.queue={}", 100 + change);
        let service = service("shop", &labels, &[shop.address]);
        let (reply, ()) = tokio::join!(
            async {
                client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                client.reply().await.to_string()
            },
            ingress.announce([service])
        );
        assert_eq!(reply, "200 shop: GET /");
    }
}

#[tokio::test]
async fn replicas_that_come_and_go_cost_no_request() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let at = |replicas: &[_]| [service("shop", "hiveway.path=/", replicas)];
    let ingress = Ingress::start(at(&[one.address])).await;
    for _ in 0..5 {
        for replicas in [&[one.address, two.address][..], &[two.address], &[one.address]] {
            ingress.announce(at(replicas)).await;
            for _ in 0..3 {
                assert_eq!(get(&ingress, "a", "/").await.status(), 200);
            }
        }
    }
    eventually("who left had no connection", || two.open() == 0).await;
}
