use std::time::Duration;

use super::fake::{FakeEngine, Mood, unused_path};
use super::*;

const LIMIT: Duration = Duration::from_millis(50);

async fn check(engine: &FakeEngine, mood: Mood, words: &[&str]) {
    engine.turn(mood);
    let error = Engine::with_limit(engine.socket(), LIMIT).list().await.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[tokio::test]
async fn a_list_has_what_the_engine_answers() {
    let fake = FakeEngine::start("hiveway.port=80");
    let listing = Engine::new(fake.socket()).list().await.unwrap();
    assert_eq!((listing.services.len(), listing.tasks.len(), listing.unreadable), (1, 0, 0));
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let fake = FakeEngine::start("hiveway.port=80");
    let worker = Mood::Refusing(503, "This node is not a swarm manager. Worker nodes ...");
    check(&fake, worker, &["no Swarm manager", "node.role == manager", "Worker nodes"]).await;
    let leaderless = Mood::Refusing(500, "rpc error: The swarm does not have a leader. It's ...");
    check(&fake, leaderless, &["no leader", "docker node ls"]).await;
    let proxy = Mood::Refusing(403, "Forbidden");
    check(&fake, proxy, &["GET /", "403 Forbidden", "socket proxy"]).await;
    check(&fake, Mood::Hung, &["no answer to GET /", "50ms"]).await;
}

#[tokio::test]
async fn a_socket_that_is_not_there_says_how_to_mount_it() {
    let path = unused_path();
    let error = Engine::new(&path).list().await.unwrap_err();
    assert!(error.to_string().contains("docker.sock:/var/run/docker.sock:ro"), "{error}");
}

#[tokio::test]
async fn a_socket_without_an_engine_says_that_nobody_listens() {
    let path = unused_path();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Engine::new(&path).list().await.unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(error, EngineError::NotListening(_)), "{error}");
}

#[tokio::test]
async fn each_event_is_one_item_and_the_end_of_the_engine_ends_the_stream() {
    let fake = FakeEngine::start("hiveway.port=80");
    let mut events = Engine::new(fake.socket()).events();
    let (first, ()) = tokio::join!(events.next(), async {
        fake.watched(1).await;
        fake.event();
    });
    assert!(matches!(first, Some(Ok(()))), "{first:?}");
    drop(fake);
    assert!(!matches!(events.next().await, Some(Ok(()))));
}
