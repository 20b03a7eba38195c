//! An edge that starts while nobody tells it what the Swarm runs.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hiveway::provider::saved::FILE;

use crate::support::{Ingress, Origin, check, eventually, soon, swarm_service};

/// A directory of its own for an edge's state. Removed at the end.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        let name = format!("hiveway-state-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.0.join(FILE)).unwrap_or_default()
    }

    /// The state of an edge that served this service and has ended.
    async fn left_by(services: [hiveway::inventory::SwarmService; 1]) -> Self {
        let state = Self::new();
        let mut ingress = Ingress::silent(&state.0).await;
        ingress.announce(services).await;
        eventually("it is saved", || !state.text().is_empty()).await;
        ingress.stop();
        ingress.ended().await;
        state
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The shop of a Swarm, at this replica alone.
fn shop(host: &str, replica: &Origin) -> [hiveway::inventory::SwarmService; 1] {
    let labels = format!("hiveway.host={host} hiveway.port={}", replica.address.port());
    [swarm_service("shop", &labels, 1, &[(Ipv4Addr::LOCALHOST, true)])]
}

#[tokio::test]
async fn an_edge_starts_from_what_was_saved_and_then_takes_what_it_is_told() {
    let (old, new) = (Origin::named("old").await, Origin::named("new").await);
    let state = State::left_by(shop("a.test", &old)).await;
    let mut ingress = Ingress::silent(&state.0).await;
    soon("readiness without a word of the provider", ingress.readiness.wait()).await;
    check(&ingress, "a.test", "/x", "200 old: GET /x").await;
    ingress.deploy(shop("b.test", &new)).await;
    check(&ingress, "b.test", "/x", "200 new: GET /x").await;
    check(&ingress, "a.test", "/", "404 404 Not Found (no_route)").await;
    eventually("it is saved as well", || state.text().contains("b.test")).await;
}

#[tokio::test]
async fn endpoints_that_were_saved_take_requests_before_anybody_has_reached_them() {
    let origin = Origin::named("shop").await;
    let address = origin.address;
    let state = State::left_by(shop("a.test", &origin)).await;
    drop(origin);
    let mut ingress = Ingress::silent(&state.0).await;
    soon("readiness without a word of the provider", ingress.readiness.wait()).await;
    eventually("it is trusted", || ingress.state(address) == "healthy").await;
}

#[tokio::test]
async fn an_edge_with_nothing_that_it_could_start_from_waits() {
    for text in [None, Some("{\"version\":2}"), Some("{\"version\":1,\"inven")] {
        let state = State::new();
        if let Some(text) = text {
            std::fs::create_dir(&state.0).unwrap();
            std::fs::write(state.0.join(FILE), text).unwrap();
        }
        let origin = Origin::named("shop").await;
        let mut ingress = Ingress::silent(&state.0).await;
        assert_eq!(ingress.readiness.obstacle(), Some("no inventory yet"));
        ingress.deploy(shop("a.test", &origin)).await;
        ingress.readiness.wait().await;
        check(&ingress, "a.test", "/", "200 shop: GET /").await;
        eventually("it is saved", || state.text().contains("a.test")).await;
    }
}
