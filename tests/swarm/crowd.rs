//! More services than one machine can run: a socket that answers as the engine does, and adds recorded ones.
//!
//! What is recorded stands in `tests/data/docker`; ids, names, labels and networks are replaced, and
//! each recorded service has the task of a real one, under which DNS knows it by an alias. Everything
//! but the two lists, the event stream above all, passes between client and engine as it is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use crate::lab::root;

/// Recorded services for each real one.
pub(crate) const ALIASES: u32 = 5;

/// The name of a recorded service, which is an alias of the real one's.
pub(crate) fn alias(of: &str, n: u32) -> String {
    format!("{of}-recorded{n}")
}

/// An engine with a crowd, listening until the program ends.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Where it listens.
    pub(crate) socket: PathBuf,
}

impl Crowd {
    /// Listens at `socket`, and adds [`ALIASES`] recorded services for each real one whose name
    /// begins with `prefix`.
    pub(crate) fn before(engine: &Path, socket: PathBuf, prefix: &'static str) -> Self {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket in the lab's directory");
        let engine = engine.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = engine.clone();
                // A client that leaves in the middle is no failure of the test.
                thread::spawn(move || answer(client, &engine, prefix));
            }
        });
        Self { socket }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Answers one request for a list, or joins the two sides.
fn answer(client: UnixStream, engine: &Path, prefix: &str) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let list: fn(&Path, &str) -> io::Result<Vec<Value>> = match head.split(' ').nth(1) {
        Some("/services") => services,
        Some("/tasks") => tasks,
        _ => return join(reader, client, &head, engine),
    };
    let body = Value::from(list(engine, prefix)?).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(&client, "{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn join(
    mut from: BufReader<UnixStream>,
    client: UnixStream,
    head: &str,
    engine: &Path,
) -> io::Result<()> {
    let mut to = UnixStream::connect(engine)?;
    to.write_all(head.as_bytes())?;
    let mut back = to.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut back, &mut &client);
        client.shutdown(Shutdown::Both)
    });
    let _ = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Both)
}

/// The engine's own answer. One to HTTP/1.0 comes in one piece, which ends with the connection.
pub(crate) fn ask(engine: &Path, path: &str) -> io::Result<Value> {
    let mut engine = UnixStream::connect(engine)?;
    write!(engine, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    engine.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(body)?)
}

fn real(engine: &Path, path: &str) -> io::Result<Vec<Value>> {
    Ok(serde_json::from_value(ask(engine, path)?)?)
}

fn services(engine: &Path, prefix: &str) -> io::Result<Vec<Value>> {
    let mut list = real(engine, "/services")?;
    let recorded = recorded("services.json", |service| text(service, "/Spec/Name") == "shop_web");
    for owner in owners(&list, prefix) {
        for n in 0..ALIASES {
            let name = alias(text(&owner, "/Spec/Name"), n);
            let mut service = recorded.clone();
            service["ID"] = json!(format!("{}{n}", text(&owner, "/ID")));
            service["Endpoint"] = json!({});
            service["Spec"]["EndpointSpec"] = json!({});
            service["Spec"]["Labels"] =
                json!({ "hiveway.host": format!("{name}.test"), "hiveway.port": "8080" });
            service["Spec"]["TaskTemplate"]["ContainerSpec"]["Labels"] = json!({});
            service["Spec"]["TaskTemplate"]["Networks"] =
                owner["Spec"]["TaskTemplate"]["Networks"].clone();
            service["Spec"]["Mode"] = owner["Spec"]["Mode"].clone();
            service["Spec"]["Name"] = json!(name);
            list.push(service);
        }
    }
    Ok(list)
}

fn tasks(engine: &Path, prefix: &str) -> io::Result<Vec<Value>> {
    let services = real(engine, "/services")?;
    let mut list = real(engine, "/tasks")?;
    let recorded = recorded("tasks.json", |task| task["Slot"] == json!(1));
    for owner in owners(&services, prefix) {
        let own = list.iter().filter(|task| task["ServiceID"] == owner["ID"]);
        let own: Vec<Value> = own.cloned().collect();
        for (real, n) in own.iter().flat_map(|real| (0..ALIASES).map(move |n| (real, n))) {
            let mut task = recorded.clone();
            task["ID"] = json!(format!("{}{n}", text(real, "/ID")));
            task["ServiceID"] = json!(format!("{}{n}", text(&owner, "/ID")));
            for field in ["Slot", "Status", "DesiredState", "NetworksAttachments"] {
                task[field] = real[field].clone();
            }
            list.push(task);
        }
    }
    Ok(list)
}

fn owners(services: &[Value], prefix: &str) -> Vec<Value> {
    let owns = |service: &&Value| text(service, "/Spec/Name").starts_with(prefix);
    services.iter().filter(owns).cloned().collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn recorded(file: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let text = std::fs::read_to_string(root().join("tests/data/docker").join(file));
    let list: Vec<Value> =
        serde_json::from_str(&text.expect("the recorded answer")).expect("a JSON list");
    list.into_iter().find(wanted).expect("the recorded object")
}
