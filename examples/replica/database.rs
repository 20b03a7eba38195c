//! A tiny key-value store over TCP: `GET key`, `SET key value` and `INCR key`, one line each.
//!
//! It answers one line: the value, an empty line for a key that it has not, or `error ...`. Nothing
//! is kept on disk. The backend opens a connection for every question; its own private network is
//! the only thing that keeps others out.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 4096;

type Values = Arc<Mutex<BTreeMap<String, String>>>;

/// Answers until `ended` is ready.
pub(crate) async fn serve(port: u16, ended: impl Future<Output = ()>) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let values = Values::default();
    tokio::pin!(ended);
    loop {
        let (stream, _) = tokio::select! {
            () = &mut ended => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        // A client that breaks off has only itself to blame.
        tokio::spawn(connection(stream, Arc::clone(&values)));
    }
}

async fn connection(mut stream: TcpStream, values: Values) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        if (&mut read).take(MAX_LINE).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = answer(line.trim_end(), &values);
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

fn answer(line: &str, values: &Values) -> String {
    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(key), None) => values.get(key).cloned().unwrap_or_default(),
        (Some("SET"), Some(key), Some(value)) => {
            values.insert(key.to_owned(), value.to_owned());
            value.to_owned()
        }
        (Some("INCR"), Some(key), None) => {
            let value = values.entry(key.to_owned()).or_default();
            *value = value.parse::<u64>().unwrap_or(0).saturating_add(1).to_string();
            value.clone()
        }
        _ => "error: write GET key, SET key value or INCR key".to_owned(),
    }
}

/// Asks the store at `address` (`host:port`) one question; two seconds at most.
pub(crate) async fn ask(address: &str, question: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{question}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).take(MAX_LINE).read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), exchange).await?
}
