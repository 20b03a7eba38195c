//! One GET at a time from an admin port.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Uri};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than any edge has to tell.
const LARGEST: usize = 256 << 20;

/// Why the state of an edge cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The address that was given is none.
    #[error(
        "`{0}` is not the address of an admin port: write host and port without TLS and path, for \
         example `--admin http://127.0.0.1:9400`"
    )]
    Address(String),
    /// Nothing answers.
    #[error(
        "the admin port {admin} does not answer: {problem}\n  help: start an edge here, or name \
         another one's with `--admin http://<host>:<port>`; the port is `address` in `[admin]` of \
         the edge's configuration"
    )]
    NoAnswer {
        /// Where.
        admin: String,
        /// What happened.
        problem: String,
    },
    /// Something answers, but not what was asked for.
    #[error(
        "{admin}{path} answers {problem}\n  help: see that this is the admin port of an edge, and \
         that this address may read it (`networks` in `[admin]`)"
    )]
    Unexpected {
        /// Where.
        admin: String,
        /// What was asked for.
        path: String,
        /// What came.
        problem: String,
    },
    /// The edge answers, but does not serve.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The output is closed.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Where an admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminPort {
    host: String,
    port: u16,
}

impl FromStr for AdminPort {
    type Err = StatusError;

    /// # Errors
    /// If the text is not `http://<host>:<port>`, or the same without `http://`.
    fn from_str(text: &str) -> Result<Self, StatusError> {
        parse(text).ok_or_else(|| StatusError::Address(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<AdminPort> {
    let uri: Uri = text.parse().ok()?;
    let is_plain = uri.scheme_str().is_none_or(|scheme| scheme == "http");
    let has_path = !matches!(uri.path(), "" | "/") || uri.query().is_some();
    let authority: &Authority = uri.authority()?;
    if !is_plain || has_path || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(AdminPort { host, port: authority.port_u16()? })
}

impl AdminPort {
    /// The status and text of what is there.
    ///
    /// # Errors
    /// If no whole answer comes in the given time.
    pub(super) async fn get(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<(StatusCode, String), StatusError> {
        let problem = match timeout(within, self.exchange(path)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(problem)) => problem,
            Err(_elapsed) => format!("nothing came within {} s", within.as_secs()),
        };
        Err(StatusError::NoAnswer { admin: self.to_string(), problem })
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, String), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(plain)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(plain)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = path.parse().map_err(plain)?;
        let host = self.to_string();
        let host = host.strip_prefix("http://").unwrap_or(&host);
        request.headers_mut().insert(HOST, HeaderValue::try_from(host).map_err(plain)?);
        let answer = async {
            let (head, body) = sender.send_request(request).await.map_err(plain)?.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(|e| e.to_string())?;
            let text = String::from_utf8(body.to_bytes().to_vec()).map_err(plain)?;
            Ok((head.status, text))
        };
        let mut answer = std::pin::pin!(answer);
        // The connection ends after its one answer, or breaks: then the answer says how.
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }
}

fn plain(error: impl std::error::Error) -> String {
    error.to_string()
}

impl std::fmt::Display for AdminPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            return write!(f, "http://[{host}]:{port}");
        }
        write!(f, "http://{host}:{port}")
    }
}
