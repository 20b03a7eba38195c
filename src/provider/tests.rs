use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::docker::Engine;
use crate::docker::fake::{FakeEngine, Mood, unused_path};
use crate::inventory::SwarmService;
use docker::Pace;

/// So short that a test need not wait, so long that a burst is a burst on a busy machine.
fn pace() -> Pace {
    Pace {
        debounce: Duration::from_millis(50),
        // Never, in a test: what is listed was listed for a reason.
        resync: Duration::from_hours(1),
        distance: Duration::from_millis(20),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(20),
    }
}

/// A provider that runs until this is dropped.
struct Following {
    provider: Provider,
    updates: watch::Receiver<Option<Update>>,
    _running: JoinSet<()>,
}

fn follow(socket: &Path, pace: Pace) -> Following {
    let engine = Engine::with_limit(socket, Duration::from_millis(100));
    let (provider, driver) = docker::follow(engine, "cafecafecafe".to_owned(), pace);
    Following::new(provider, driver)
}

impl Following {
    fn new(provider: Provider, driver: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut running = JoinSet::new();
        running.spawn(driver);
        Self { updates: provider.updates(), provider, _running: running }
    }

    /// Waits until an inventory has this label on its only service.
    async fn has(&mut self, label: &str) {
        let has = |update: &Option<Update>| {
            let services = &update.as_ref()?.inventory.services;
            let (name, value) = services.first()?.labels.first_key_value()?;
            (format!("{name}={value}") == label).then_some(())
        };
        self.updates.wait_for(|update| has(update).is_some()).await.unwrap();
    }

    async fn fails(&self, times: u64) {
        while self.provider.errors_total() < times {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for a list that was asked for after this call and did succeed.
    async fn lists_again(&self) {
        let before = clock::now();
        self.provider.ask();
        while self.provider.listed_at() <= before {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_burst_of_events_makes_one_list() {
    let engine = FakeEngine::start("hiveway.port=1");
    let mut following = follow(engine.socket(), pace());
    following.has("hiveway.port=1").await;
    engine.watched(1).await;
    // The first list, and the one after the stream was opened, may be one and the same.
    following.lists_again().await;
    tokio::time::sleep(pace().debounce * 2).await;
    let before = engine.lists();

    engine.relabel("hiveway.port=2");
    for _ in 0..50 {
        engine.event();
    }

    following.has("hiveway.port=2").await;
    tokio::time::sleep(pace().debounce * 2).await;
    assert_eq!(engine.lists(), before + 1);
}

#[tokio::test]
async fn an_equal_inventory_is_not_published_again_and_yet_seen_to_be_fresh() {
    let engine = FakeEngine::start("hiveway.port=1");
    let mut following = follow(engine.socket(), pace());
    following.has("hiveway.port=1").await;
    let before = following.updates.borrow_and_update().clone().unwrap();

    following.lists_again().await;

    assert!(!following.updates.has_changed().unwrap());
    let after = following.updates.borrow().clone().unwrap();
    assert!(Arc::ptr_eq(&before.inventory, &after.inventory));
    assert!(following.provider.last_success_unix_seconds() > 0.0);
}

#[tokio::test]
async fn asking_often_is_asking_once() {
    let engine = FakeEngine::start("hiveway.port=1");
    let pace = Pace { distance: Duration::from_hours(1), ..pace() };
    let mut following = follow(engine.socket(), pace);
    following.has("hiveway.port=1").await;
    for _ in 0..100 {
        following.provider.ask();
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.lists(), 1);
}

#[tokio::test]
async fn a_hung_engine_is_given_up_and_asked_again() {
    let engine = FakeEngine::start("hiveway.port=1");
    engine.turn(Mood::Hung);
    let mut following = follow(engine.socket(), pace());
    following.fails(2).await;
    assert!(following.updates.borrow().is_none());
    engine.turn(Mood::Well);
    following.has("hiveway.port=1").await;
}

#[tokio::test]
async fn a_demoted_manager_leaves_the_last_inventory_and_is_followed_again_later() {
    let engine = FakeEngine::start("hiveway.port=1");
    let mut following = follow(engine.socket(), pace());
    following.has("hiveway.port=1").await;
    engine.watched(1).await;

    engine.turn(Mood::Refusing(503, "This node is not a swarm manager."));
    engine.relabel("hiveway.port=2");
    following.provider.ask();
    following.fails(3).await;
    following.has("hiveway.port=1").await;

    engine.turn(Mood::Well);
    following.has("hiveway.port=2").await;
    engine.watched(2).await;
}

#[tokio::test]
async fn an_engine_that_restarts_is_found_again_with_its_events() {
    let socket = unused_path();
    let engine = FakeEngine::start_at(&socket, "hiveway.port=1");
    let mut following = follow(&socket, pace());
    following.has("hiveway.port=1").await;
    engine.watched(1).await;

    drop(engine);
    following.fails(3).await;
    let engine = FakeEngine::start_at(&socket, "hiveway.port=2");
    following.has("hiveway.port=2").await;

    engine.watched(1).await;
    engine.relabel("hiveway.port=3");
    engine.event();
    following.has("hiveway.port=3").await;
}

/// Each line of the file is `name=value`, a label of a service; `broken` is a mistake.
fn read(text: &str) -> Result<Vec<SwarmService>, String> {
    let service = |line: &str| {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("`{line}` is no label"))?;
        let labels = [(name.to_owned(), value.to_owned())].into();
        Ok(SwarmService { labels, ..SwarmService::default() })
    };
    text.lines().map(service).collect()
}

#[tokio::test]
async fn a_broken_file_leaves_the_last_good_state() {
    let path = unused_path();
    std::fs::write(&path, "hiveway.port=1").unwrap();
    let (provider, driver) = file::follow(&path, Duration::from_millis(5), read);
    let mut following = Following::new(provider, driver);
    following.has("hiveway.port=1").await;

    std::fs::write(&path, "broken").unwrap();
    following.fails(1).await;
    following.has("hiveway.port=1").await;

    std::fs::remove_file(&path).unwrap();
    following.fails(2).await;
    following.has("hiveway.port=1").await;

    std::fs::write(&path, "hiveway.port=2").unwrap();
    following.has("hiveway.port=2").await;
    std::fs::remove_file(&path).unwrap();
}

/// An inventory that is known by its label, as an earlier process saved it.
async fn saved(label: &str) -> std::path::PathBuf {
    let engine = FakeEngine::start(label);
    let directory = unused_path();
    let (_, mut following) = follow_and_save(engine.socket(), &directory, Duration::from_mins(1));
    following.has(label).await;
    is_saved(&directory, label).await;
    directory
}

/// Waits until the file has this label.
async fn is_saved(directory: &Path, label: &str) {
    let (name, value) = label.split_once('=').unwrap();
    let label = format!("\"{name}\":\"{value}\"");
    let text = || std::fs::read_to_string(directory.join(saved::FILE)).unwrap_or_default();
    while !text().contains(&label) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The provider itself, and what the edge sees of it.
fn follow_and_save(socket: &Path, directory: &Path, patience: Duration) -> (Provider, Following) {
    let engine = Engine::with_limit(socket, Duration::from_millis(100));
    let (live, driver) = docker::follow(engine, "cafecafecafe".to_owned(), pace());
    let (provider, saving) = saved::follow(&live, directory, patience);
    let following = Following::new(provider, async {
        tokio::join!(driver, saving);
    });
    (live, following)
}

#[tokio::test]
async fn what_was_saved_stands_in_until_the_engine_answers() {
    let directory = saved("hiveway.port=1").await;
    let engine = FakeEngine::start("hiveway.port=2");
    engine.turn(Mood::Hung);
    let patience = Duration::from_millis(20);
    let (live, mut following) = follow_and_save(engine.socket(), &directory, patience);
    following.has("hiveway.port=1").await;
    // It is no news from the engine.
    assert!(live.updates().borrow().is_none());
    assert_eq!(following.provider.listed_at(), Timestamp::START);
    engine.turn(Mood::Well);
    following.has("hiveway.port=2").await;
    assert!(following.provider.listed_at() > Timestamp::START);
    is_saved(&directory, "hiveway.port=2").await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn what_was_saved_is_not_looked_at_while_the_engine_answers() {
    let directory = saved("hiveway.port=1").await;
    let engine = FakeEngine::start("hiveway.port=2");
    let (_, mut following) = follow_and_save(engine.socket(), &directory, Duration::from_mins(1));
    following.updates.changed().await.unwrap();
    following.has("hiveway.port=2").await;
    assert!(!following.updates.has_changed().unwrap());
    is_saved(&directory, "hiveway.port=2").await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone_and_nothing_else_is_left_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = saved("hiveway.port=1").await;
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|at| at.unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(names[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_in_nobodys_way() {
    let engine = FakeEngine::start("hiveway.port=1");
    let file = unused_path();
    std::fs::write(&file, "no directory").unwrap();
    let (_, mut following) = follow_and_save(engine.socket(), &file, Duration::from_millis(1));
    following.has("hiveway.port=1").await;
    engine.relabel("hiveway.port=2");
    following.provider.ask();
    following.has("hiveway.port=2").await;
    std::fs::remove_file(&file).unwrap();
}
