//! One request and its response head: connect, send, and on failure decide whether it may go again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request, response};

use crate::affinity::Wish;
use crate::clock;
use crate::deadline::Deadline;
use crate::grpc::Code;
use crate::proxy::Core;
use crate::proxy::admission::Target;
use crate::proxy::call;
use crate::proxy::connect::Connected;
use crate::proxy::error::ProxyError;
use crate::proxy::failure::Failure;
use crate::proxy::http1::Http1;
use crate::proxy::lease::{Lease, Source};
use crate::proxy::outcome::{Outcome, Trial, Verdict};
use crate::proxy::pool::{Connection, Stream};
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::spec::{Protocol, RetryOn};
use crate::telemetry::access::Entry;
use crate::timestamp::Timestamp;
use crate::upstream::load::Rpc;
use crate::upstream::{Endpoint, EndpointId, InFlight, Probation};

/// A request may be handed back unsent this often before it is given up: each time its connection
/// was closed just before, which does not happen to one request again and again.
const MOST_UNSENT: usize = 8;

/// A request on its way to a replica.
#[derive(Debug)]
pub struct Outgoing {
    head: request::Parts,
    /// More of its fields, as lines of an HTTP/1 head.
    lines: Bytes,
    upload: Upload,
    /// Time for the response head; an upgrade may take as long as it likes.
    answer_within: Option<Duration>,
    /// Whether it goes again when a connection breaks, and it cannot be known whether it ran.
    repeatable: bool,
    /// Whether it is a gRPC call.
    grpc: bool,
    /// Its method, if the replica takes calls alone.
    rpc: Option<Rpc>,
    /// Where it should go.
    pub wish: Wish,
    tried: Vec<EndpointId>,
    attempts: u8,
    unsent: usize,
}

/// A response head, and what its body holds on to.
#[derive(Debug)]
pub struct Answer {
    /// The head of the replica's response.
    pub head: response::Parts,
    /// Its body, and the connection that it comes on.
    pub lease: Lease,
    /// The request counts as load until the body is through.
    pub in_flight: InFlight,
    /// How a gRPC call went, which is to be told at its end; none if it has been told.
    pub outcome: Option<Outcome>,
}

/// Whose answer is judged: an endpoint that was asked at that time, maybe on probation.
struct Judged<'e> {
    endpoint: &'e Arc<Endpoint>,
    started: Timestamp,
    probation: Option<Probation>,
}

impl Outgoing {
    /// A request with its fields prepared, and with `lines` besides; its target is a path.
    pub fn new(
        mut head: request::Parts,
        upload: Upload,
        lines: Bytes,
        target: &Target,
        route: &Route,
        grpc: bool,
    ) -> Self {
        let protocol = route.upstream.key.protocol;
        let is_http1 = protocol == Protocol::Http;
        head.version = if is_http1 { Version::HTTP_11 } else { Version::HTTP_2 };
        if is_http1 {
            frame(&mut head, &upload);
        }
        let rpc = protocol.is_grpc().then(|| Rpc::of(head.uri.path()));
        head.uri = uri(target, head.uri, protocol);
        let repeatable = is_repeatable(&head.method, route, grpc);
        let upgrades = head.headers.contains_key(UPGRADE);
        let limit = route.policy().timeouts.response_header;
        Self {
            head,
            lines,
            upload,
            answer_within: limit.filter(|_| !upgrades),
            repeatable,
            grpc,
            rpc,
            wish: Wish::default(),
            tried: Vec::new(),
            attempts: 0,
            unsent: 0,
        }
    }

    /// Whether the request goes again after a failure, to another endpoint if there is one.
    fn may_follow(&mut self, failure: Failure, route: &Route) -> bool {
        let wanted = match failure {
            Failure::NotProcessed => {
                self.unsent = self.unsent.saturating_add(1);
                return self.unsent <= MOST_UNSENT && self.upload.can_begin_anew();
            }
            Failure::Client(_) | Failure::Malformed => return false,
            Failure::Reset | Failure::Silent | Failure::Stale => RetryOn::Reset,
            Failure::Timeout => RetryOn::Timeout,
        };
        self.may_run_twice(wanted, route)
    }

    /// Whether an answer is thrown away for that of an endpoint that has not been asked yet.
    fn may_replace(&mut self, status: StatusCode, route: &Route) -> bool {
        let wanted = match status {
            StatusCode::BAD_GATEWAY => RetryOn::BadGateway,
            StatusCode::SERVICE_UNAVAILABLE => RetryOn::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => RetryOn::GatewayTimeout,
            _ => return false,
        };
        route.upstream.endpoints().len() > self.tried.len() && self.may_run_twice(wanted, route)
    }

    /// Whether a request that may have run goes again: only one that does no harm, that is still at
    /// hand, and within its count and the service's budget.
    fn may_run_twice(&mut self, wanted: RetryOn, route: &Route) -> bool {
        let retry = &route.policy().retry;
        let allowed = retry.on.contains(&wanted)
            && self.repeatable
            && self.upload.can_begin_anew()
            && self.attempts < retry.attempts
            && route.upstream.retry_budget.spend(clock::now());
        if allowed {
            self.attempts = self.attempts.saturating_add(1);
        }
        allowed
    }
}

/// Whether a request may be sent again without proof that it never ran: by its method (RFC 9110,
/// section 9.2.2), and by its route. Of a `grpc` call nobody but its application knows.
pub fn is_repeatable(method: &Method, route: &Route, grpc: bool) -> bool {
    let retry = &route.policy().retry;
    let idempotent = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    idempotent && !grpc && retry.attempts > 0 && !retry.on.is_empty()
}

/// Origin form for HTTP/1; HTTP/2 carries scheme and authority beside the path.
fn uri(target: &Target, path: Uri, protocol: Protocol) -> Uri {
    if protocol == Protocol::Http {
        return path;
    }
    let mut parts = path.into_parts();
    parts.scheme = Some(if protocol.has_tls() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(target.authority.clone());
    Uri::from_parts(parts).unwrap_or_default()
}

/// Says how a body is framed in HTTP/1: hyper would drop that of a GET or HEAD that does not say so.
fn frame(head: &mut request::Parts, upload: &Upload) {
    if !upload.is_empty() && !head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The head for a replica that could have had HTTP/2, and chose HTTP/1.1.
fn for_http1(outgoing: &Outgoing) -> request::Parts {
    let mut head = outgoing.head.clone();
    head.version = Version::HTTP_11;
    head.headers.remove(TE);
    let mut uri = head.uri.into_parts();
    let host = uri.authority.and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    if let Some(host) = host {
        head.headers.insert(HOST, host);
    }
    (uri.scheme, uri.authority) = (None, None);
    head.uri = Uri::from_parts(uri).unwrap_or_default();
    frame(&mut head, &outgoing.upload);
    head
}

impl Core {
    /// Sends a request to a replica of the route, to another one if it may go again, until there is
    /// a response head. Which replicas were asked is noted in `entry`; `call` is the time limit that
    /// the client of a call has set.
    ///
    /// # Errors
    /// What the client is to be told instead.
    pub async fn exchange(
        self: &Arc<Self>,
        route: &Arc<Route>,
        outgoing: &mut Outgoing,
        deadline: &Deadline,
        call: Option<&Deadline>,
        mut entry: Option<&mut Entry>,
    ) -> Result<Answer, ProxyError> {
        route.upstream.retry_budget.earn(route.policy().retry.budget_percent);
        loop {
            let Outgoing { wish, repeatable, tried, .. } = &*outgoing;
            let connected = self.connect(route, *wish, tried, *repeatable).await?;
            let Connected { endpoint, connection, probation } = connected;
            let started = clock::now();
            let in_flight = route.upstream.start_request(&endpoint, outgoing.rpc, started);
            outgoing.tried.push(endpoint.id);
            if let Some(entry) = &mut entry {
                entry.tried(&endpoint, started);
            }
            let trial = Trial::begin(self, route, &endpoint, outgoing.rpc, started);
            let sent = self.send(route, connection, outgoing, deadline, call).await;
            let now = trial.over(sent.is_ok());
            match sent {
                Ok((head, lease)) => {
                    let status = head.status;
                    let took = self.note_head(route, &endpoint, outgoing.rpc, started, now);
                    if let Some(entry) = &mut entry {
                        entry.answered(took);
                    }
                    let asked = Judged { endpoint: &endpoint, started, probation };
                    let outcome = self.judge(route, asked, &head, &lease, outgoing.grpc);
                    if !outgoing.may_replace(status, route) {
                        outgoing.upload.answered();
                        return Ok(Answer { head, lease, in_flight, outcome });
                    }
                    self.note_retry(&endpoint, "status");
                }
                Err(failure) => {
                    self.note_failure(route, &endpoint, failure, started);
                    if !outgoing.may_follow(failure, route) {
                        return Err(failure.error());
                    }
                    self.note_retry(&endpoint, failure.word());
                }
            }
        }
    }

    /// Notes how a request went, by the response's head. How a call goes, its trailers tell.
    fn judge(
        self: &Arc<Self>,
        route: &Arc<Route>,
        judged: Judged<'_>,
        head: &response::Parts,
        lease: &Lease,
        grpc: bool,
    ) -> Option<Outcome> {
        let Judged { endpoint, started, probation } = judged;
        let verdict = if !grpc || !call::is_answer(&head.headers) {
            Verdict::of_http(head.status)
        } else if let Some(code) = Code::of(&head.headers) {
            Verdict::of_grpc(code)
        } else if lease.is_over() {
            Verdict::of_failure(Failure::Malformed)
        } else {
            return Some(Outcome::pending(self, route, endpoint, started, probation));
        };
        self.note(route, endpoint, verdict, started);
        None
    }

    /// One try.
    async fn send(
        self: &Arc<Self>,
        route: &Route,
        connection: Connection,
        outgoing: &mut Outgoing,
        deadline: &Deadline,
        call: Option<&Deadline>,
    ) -> Result<(response::Parts, Lease), Failure> {
        deadline.set(outgoing.upload.longest_pause().or(outgoing.answer_within));
        let sent = match connection {
            Connection::Http1(http1) => send_http1(http1, outgoing, deadline).await,
            Connection::Http2(stream) => send_http2(stream, outgoing, deadline, call).await,
        };
        deadline.set(None);
        deadline.await_client(false);
        match sent {
            Ok((head, source)) => {
                Ok((head, Lease::new(source, route.policy().keepalive, &self.pools)))
            }
            // A broken body of the client's looks like a broken exchange with the replica.
            Err(failure) => Err(outgoing.upload.client_error().map_or(failure, Failure::Client)),
        }
    }
}

/// The outcome of a future, unless the deadline passes first.
pub async fn in_time<F>(mut future: F, deadline: &Deadline) -> Option<F::Output>
where
    F: Future + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => deadline.poll_over(cx).map(|()| None),
    })
    .await
}

type Sent = Result<(response::Parts, Source), Failure>;

async fn send_http1(mut http1: Box<Http1>, outgoing: &Outgoing, deadline: &Deadline) -> Sent {
    let reused = http1.requests > 0;
    if reused && !outgoing.repeatable {
        // The replica may just have closed the connection, and this request cannot be repeated then.
        // One turn of the runtime lets it tell.
        tokio::task::yield_now().await;
        if http1.is_spoiled() {
            return Err(Failure::NotProcessed);
        }
    }
    let body = outgoing.upload.body(None);
    if outgoing.head.version == Version::HTTP_2 {
        http1.start(&for_http1(outgoing), b"", body);
    } else {
        http1.start(&outgoing.head, &outgoing.lines, body);
    }
    let answered = poll_fn(|cx| http1.poll_head(cx, &outgoing.head.method));
    let Some(answered) = in_time(answered, deadline).await else {
        return Err(overdue(outgoing));
    };
    let answered = answered?;
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.headers) = (answered.status, answered.headers);
    if reused && closes_idle(&head) {
        // Some servers say so when a connection has been idle for too long; nobody read the request.
        return Err(Failure::Stale);
    }
    Ok((head, Source::Http1(http1)))
}

async fn send_http2(
    stream: Arc<Stream>,
    outgoing: &Outgoing,
    deadline: &Deadline,
    call: Option<&Deadline>,
) -> Sent {
    let mut sender = stream.made_sender().ok_or(Failure::NotProcessed)?;
    let body = outgoing.upload.body(Some(Arc::clone(&stream)));
    // HTTP/2 never hands a request back.
    let request = Request::from_parts(outgoing.head.clone(), body);
    let mut sent = pin!(sender.try_send_request(request));
    match in_time(sent.as_mut(), deadline).await {
        // h2 takes the same length twice, of which two lines would be made (RFC 9110, section 8.6).
        Some(Ok(response))
            if response.headers().get_all(CONTENT_LENGTH).iter().nth(1).is_some() =>
        {
            Err(Failure::Malformed)
        }
        Some(Ok(response)) => {
            let (head, incoming) = response.into_parts();
            Ok((head, Source::Http2(incoming, stream)))
        }
        Some(Err(mut error)) => match error.take_message() {
            Some(_) => Err(Failure::NotProcessed),
            None => Err(Failure::of_call(error.error(), call)),
        },
        None => Err(overdue(outgoing)),
    }
}

/// Time is up: the client's fault while its body is awaited, else the replica's.
fn overdue(outgoing: &Outgoing) -> Failure {
    if outgoing.upload.waits_for_client() {
        Failure::Client(ProxyError::ClientTooSlow)
    } else {
        Failure::Timeout
    }
}

fn closes_idle(head: &response::Parts) -> bool {
    head.status == StatusCode::REQUEST_TIMEOUT
        && head.headers.get(CONNECTION).is_some_and(|value| value == "close")
}
