//! Why a request is answered by the proxy itself, and everything that follows from it.

use http::StatusCode;

use crate::grpc::Code;
use crate::routing::path::InvalidPath;

/// A request that no replica answers.
///
/// Status, reason word and headers are derived by matches without a `_`: a new variant does not
/// compile until someone has decided them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No host, more than one, or one that is no host.
    #[error("the request does not name one valid host")]
    BadHost,
    /// The target is not one of a proxied request.
    #[error("the request target is not a path, nor a URL of http or https")]
    BadTarget,
    /// The path has no normal form.
    #[error("the path {0}")]
    BadPath(InvalidPath),
    /// The framing could be read in two ways (RFC 9112, section 6.1).
    #[error("the request has both Content-Length and Transfer-Encoding, or an unknown coding")]
    BadFraming,
    /// A field's value begins or ends with a space (RFC 9113, section 8.2.1).
    #[error("the value of a field begins or ends with a space")]
    BadField,
    /// CONNECT and TRACE.
    #[error("the method is not proxied")]
    Method,
    /// An `Expect` other than `100-continue` (RFC 9110, section 10.1.1).
    #[error("the expectation cannot be met")]
    Expectation,
    /// The client's address is not in the route's `allow`.
    #[error("the client's address is not allowed")]
    Forbidden,
    /// The client was asked for a certificate and has shown none.
    #[error("the route is for clients with a certificate, and this one has shown none")]
    NoCertificate,
    /// The client was not asked for a certificate on this connection.
    #[error(
        "the route is for clients with a certificate: come by TLS, and ask for this host by name"
    )]
    Misdirected,
    /// The head did not come within `limits.head-time`.
    #[error("the request head did not come in time")]
    SlowHead,
    /// Plain HTTP where TLS is spoken.
    #[error("this port speaks TLS: write https:// instead of http://")]
    NotTls,
    /// Nothing takes the request.
    #[error("no route takes this host and path")]
    NoRoute,
    /// The body is larger than `limit.body`.
    #[error("the request body is larger than the route allows")]
    BodyTooLarge,
    /// The client stopped sending its body.
    #[error("the request body did not come in time")]
    ClientTooSlow,
    /// The client's body is malformed.
    #[error("the request body is malformed")]
    ClientBroken,
    /// The client's body ended before its end: nobody is left to be answered, but for a client that
    /// has closed its own side alone.
    #[error("the request body broke off")]
    ClientLeft,
    /// The edge has hardly any memory left.
    #[error("the edge is short of memory")]
    OutOfMemory,
    /// `limit.inflight` is reached.
    #[error("the service has as many requests in flight as it allows")]
    TooManyInFlight,
    /// `limit.queue` is reached.
    #[error("too many requests wait for a replica already")]
    QueueFull,
    /// The service is scaled to zero.
    #[error("the service wants no replicas")]
    ScaledToZero,
    /// All replicas had as many connections as `limit.connections` allows, for `timeout.queue`.
    #[error("the replicas have as many connections as the service allows")]
    ReplicasFull,
    /// None became ready within `timeout.queue`.
    #[error("no replica became ready in time")]
    NoEndpoint,
    /// The connection to the replica broke before its response head.
    #[error("the connection to the replica broke")]
    Reset,
    /// The replica answered with something that is not HTTP.
    #[error("the replica's response is malformed")]
    BadResponse,
    /// `timeout.response-header` passed.
    #[error("the replica did not answer in time")]
    ResponseTimeout,
    /// The client's own `grpc-timeout` ran out.
    #[error("the call took longer than its client allows")]
    DeadlineExceeded,
}

impl ProxyError {
    /// The status that the client sees.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadHost
            | Self::BadTarget
            | Self::BadPath(_)
            | Self::BadFraming
            | Self::NotTls
            | Self::BadField
            | Self::ClientBroken
            | Self::ClientLeft => StatusCode::BAD_REQUEST,
            Self::Forbidden | Self::NoCertificate => StatusCode::FORBIDDEN,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowHead | Self::ClientTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Reset | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::OutOfMemory
            | Self::TooManyInFlight
            | Self::QueueFull
            | Self::ReplicasFull
            | Self::ScaledToZero
            | Self::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
            Self::ResponseTimeout | Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The status that the client of a gRPC call sees. Clients try again after UNAVAILABLE, and pass
    /// CANCELLED and `DEADLINE_EXCEEDED` on to their users as if those had meant it: so every failure
    /// and timeout of ours is the first, and only the client's own deadline is the last. What no
    /// client of gRPC sends is INTERNAL, as `http-grpc-status-mapping.md` reads 400.
    pub const fn grpc_status(self) -> Code {
        match self {
            Self::BadHost
            | Self::BadTarget
            | Self::BadPath(_)
            | Self::BadFraming
            | Self::BadField
            | Self::Method
            | Self::Expectation
            | Self::NotTls
            | Self::ClientBroken => Code::Internal,
            Self::ClientLeft => Code::Canceled,
            Self::Forbidden => Code::PermissionDenied,
            Self::NoCertificate | Self::Misdirected => Code::Unauthenticated,
            // Nothing is accepted before the first table, so that this is never said too early.
            Self::NoRoute => Code::Unimplemented,
            Self::BodyTooLarge
            | Self::OutOfMemory
            | Self::TooManyInFlight
            | Self::ReplicasFull
            | Self::QueueFull => Code::ResourceExhausted,
            Self::SlowHead
            | Self::ClientTooSlow
            | Self::ScaledToZero
            | Self::NoEndpoint
            | Self::Reset
            | Self::BadResponse
            | Self::ResponseTimeout => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    /// The word that stands in the answer, the log and the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::BadPath(_) => "bad_path",
            Self::BadFraming => "bad_framing",
            Self::BadField => "bad_field",
            Self::Method => "method",
            Self::Expectation => "expectation",
            Self::Forbidden => "forbidden",
            Self::NoCertificate => "no_certificate",
            Self::Misdirected => "misdirected",
            Self::SlowHead => "slow_head",
            Self::NotTls => "not_tls",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientTooSlow => "client_too_slow",
            Self::ClientBroken => "client_broken",
            Self::ClientLeft => "client_left",
            Self::OutOfMemory => "memory",
            Self::TooManyInFlight => "limit",
            Self::QueueFull => "queue_full",
            Self::ReplicasFull => "replicas_full",
            Self::ScaledToZero => "scaled_to_zero",
            Self::NoEndpoint => "no_endpoint",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::ResponseTimeout => "timeout",
            Self::DeadlineExceeded => "deadline",
        }
    }

    /// Whether the client may try again soon, and is told so with `Retry-After`.
    pub const fn is_temporary(self) -> bool {
        match self {
            Self::OutOfMemory
            | Self::TooManyInFlight
            | Self::QueueFull
            | Self::ReplicasFull
            | Self::ScaledToZero
            | Self::NoEndpoint => true,
            Self::BadHost
            | Self::BadTarget
            | Self::BadPath(_)
            | Self::BadFraming
            | Self::BadField
            | Self::Method
            | Self::Expectation
            | Self::Forbidden
            | Self::NoCertificate
            | Self::Misdirected
            | Self::SlowHead
            | Self::NotTls
            | Self::NoRoute
            | Self::BodyTooLarge
            | Self::ClientTooSlow
            | Self::ClientBroken
            | Self::ClientLeft
            | Self::Reset
            | Self::BadResponse
            | Self::ResponseTimeout
            | Self::DeadlineExceeded => false,
        }
    }

    /// Whether bytes of the request may still be on their way, so that the connection cannot be
    /// used again; or whether the client had better make another one.
    pub const fn closes(self) -> bool {
        match self {
            Self::BadHost
            | Self::BadTarget
            | Self::BadFraming
            | Self::BadField
            | Self::Method
            | Self::Expectation
            | Self::NoCertificate
            | Self::Misdirected
            | Self::SlowHead
            | Self::NotTls
            | Self::BodyTooLarge
            | Self::ClientTooSlow
            | Self::ClientBroken
            | Self::ClientLeft => true,
            Self::BadPath(_)
            | Self::Forbidden
            | Self::NoRoute
            | Self::OutOfMemory
            | Self::TooManyInFlight
            | Self::QueueFull
            | Self::ReplicasFull
            | Self::ScaledToZero
            | Self::NoEndpoint
            | Self::Reset
            | Self::BadResponse
            | Self::ResponseTimeout
            | Self::DeadlineExceeded => false,
        }
    }
}
