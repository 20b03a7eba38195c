//! The lab that the tests run in: where it is, its scripts, and waiting for what becomes true.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use hiveway::keys::{AgentSecret, KEY_LENGTH};

use crate::docker::docker;

/// The stack that serves, the service in it that does, and the one that tells what to serve.
const STACK: &str = "hiveway";
pub(crate) const EDGE: &str = "hiveway_edge";
pub(crate) const AGENT: &str = "hiveway_agent";

/// Whether there is time for the long forms.
pub(crate) fn extended() -> bool {
    env::var_os("HIVEWAY_EXTENDED").is_some()
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where the lab keeps its nodes; the same rule as in `lab/lib.sh`.
pub(crate) fn lab_root() -> PathBuf {
    let temporary = || env::temp_dir().join("swarm-lab");
    env::var_os("LAB_ROOT").map_or_else(temporary, PathBuf::from)
}

/// What a command printed.
///
/// # Panics
///
/// If it fails, with all that it said.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let Output { status, stdout, stderr } = &output;
    let stderr = String::from_utf8_lossy(stderr);
    assert!(status.success(), "{command:?} ended with {status}: {stderr}");
    String::from_utf8_lossy(stdout).trim_end().to_owned()
}

/// One of the lab's scripts with its arguments.
pub(crate) fn script(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(root().join("lab").join(name));
    command.args(args);
    command
}

/// What the edge of that service on a node tells Prometheus; none while it does not answer.
pub(crate) fn metrics_inside(node: u8, service: &str) -> Option<String> {
    let url = "http://127.0.0.1:9400/metrics";
    let args = [&*node.to_string(), service, "curl", "-sS", "--fail", url];
    let output = script("inside.sh", &args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Polls every 20 ms until there is a value.
///
/// # Panics
///
/// If there is none within the time, naming what was waited for.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "gave up waiting for {what} after {within:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes sure that there is a lab without an edge; for tests of the tests' own means.
///
/// # Panics
///
/// If no lab is up, with the commands that make one.
pub(crate) fn require_lab() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let socket = lab_root().join("1/docker.sock");
        assert!(
            socket.exists(),
            "no lab is up ({} is not there): run lab/up.sh 1, then lab/images.sh, and start this \
             program by lab/client.sh; or let ./check do all of it",
            socket.display()
        );
        let images = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
        for image in ["hiveway:latest", "replica:latest"] {
            assert!(
                images.lines().any(|line| line == image),
                "the lab has no image {image}: run lab/images.sh"
            );
        }
    });
}

/// Makes sure that an edge serves: deploys `docker-stack.single.yml` if that is not done yet.
///
/// # Panics
///
/// If no lab is up, or the edge is not ready within a minute.
pub(crate) fn require_edge() {
    // Failed once, it fails at once for every other test.
    static ONCE: Once = Once::new();
    require_lab();
    ONCE.call_once(|| {
        deploy(STACK, "docker-stack.single.yml");
        wait_for("the edge to be ready", Duration::from_mins(1), || admin("/readyz").map(|_| ()));
    });
}

/// Deploys the whole stack, with secrets of its own.
pub(crate) fn deploy_whole_stack() {
    let [agents, edges] =
        ["hiveway-agent", "hiveway-edge"].map(|name| lab_root().join("1").join(name));
    if !edges.exists() {
        let mut random = [0; KEY_LENGTH];
        fastrand::fill(&mut random);
        let secret = AgentSecret::new(random).expect("a secret");
        for (file, text) in [(agents, secret.to_text()), (edges, secret.edge().to_text())] {
            fs::write(&file, text).expect("a secret in the lab's directory");
            let name = file.file_name().and_then(|name| name.to_str()).expect("its name");
            docker(&["secret", "create", name, file.to_str().expect("the lab's path is text")]);
        }
    }
    deploy(STACK, "docker-stack.yml");
}

/// The edges' secret in the whole stack.
pub(crate) fn edges_secret() -> String {
    fs::read_to_string(lab_root().join("1/hiveway-edge")).expect("the edges' secret")
}

/// Deploys a stack file of this repository.
pub(crate) fn deploy(stack: &str, file: &str) {
    let file = root().join(file);
    let file = file.to_str().expect("the repository's path is text");
    docker(&["stack", "deploy", "--resolve-image", "never", "-c", file, stack]);
}

/// What the edge on node 1 answers on its admin port; none unless 2xx.
///
/// The port is not published. The question is asked from within the edge's own network.
pub(crate) fn admin(path: &str) -> Option<String> {
    admin_of(1, path)
}

/// As [`admin`], of the edge on another node.
pub(crate) fn admin_of(node: u8, path: &str) -> Option<String> {
    let url = format!("http://127.0.0.1:9400{path}");
    let node = node.to_string();
    let args = [&node, EDGE, "curl", "--silent", "--fail", "--max-time", "5", &url];
    let output = script("inside.sh", &args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the edge complains about, by service: `GET /api/v1/diagnostics`.
pub(crate) fn diagnostics() -> Vec<(String, String)> {
    let text = admin("/api/v1/diagnostics").expect("the edge lists its diagnostics");
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a JSON list");
    let text = |entry: &serde_json::Value, key: &str| {
        entry.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    };
    list.iter().map(|entry| (text(entry, "service"), text(entry, "problem"))).collect()
}
