//! What gRPC writes into the fields of HTTP/2, as its `PROTOCOL-HTTP2.md` says: which messages are its
//! own, deadlines, statuses. Messages themselves are never read, but those of health checks.

pub mod health;

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The number that a call ends with, as text.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What a human is told about it, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const MEDIA_TYPE: &[u8] = b"application/grpc";

/// Longer numbers are no timeout.
const MOST_DIGITS: usize = 8;

/// Everything but printable ASCII is encoded, and the sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Well.
    Ok,
    /// The client gave up.
    Canceled,
    /// Nobody knows how.
    Unknown,
    /// The request makes no sense, whatever the state of things.
    InvalidArgument,
    /// The client's own time ran out.
    DeadlineExceeded,
    /// What is asked for is not there.
    NotFound,
    /// What was to be made exists.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// A quota or limit is reached.
    ResourceExhausted,
    /// The state of things forbids it.
    FailedPrecondition,
    /// Somebody else was faster.
    Aborted,
    /// Past the end.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// Somebody broke the rules of the protocol, or an invariant.
    Internal,
    /// Not now; worth another try.
    Unavailable,
    /// Gone for good.
    DataLoss,
    /// Nobody knows who the caller is.
    Unauthenticated,
}

impl Code {
    /// In the order of their numbers, from 0.
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The status that fields carry, trailers or those of a response without any message; none if
    /// they carry none. What is no number of a code counts as `Unknown`, as it does for clients.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let number = fields.get(GRPC_STATUS)?.to_str().ok().and_then(|text| text.parse().ok());
        Some(number.and_then(|at: usize| Self::ALL.get(at)).copied().unwrap_or(Self::Unknown))
    }

    /// What a client makes of a response that is not gRPC's, by `http-grpc-status-mapping.md`.
    pub const fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The value of `grpc-status`.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from(self as u16)
    }

    /// The name for metrics, as the libraries for Go write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Canceled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }
}

/// Whether a message is gRPC's by its content type: `application/grpc`, alone or with a suffix or
/// parameter. `application/grpc-web` is another protocol, whose trailers are part of the body.
pub fn is_grpc(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let Some((kind, rest)) = kind.split_at_checked(MEDIA_TYPE.len()) else {
        return false;
    };
    kind.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// How long the client will wait for the whole call; none if it does not say, or says nonsense,
/// which is left to the replica to refuse.
pub fn timeout(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes how a call ended, with what a human is told.
pub fn end_with(fields: &mut HeaderMap, code: Code, message: &str) {
    fields.insert(GRPC_STATUS, code.value());
    let encoded: Cow<'_, str> = utf8_percent_encode(message, ENCODED).into();
    if let Ok(message) = HeaderValue::try_from(encoded.as_ref()) {
        fields.insert(GRPC_MESSAGE, message);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(name: HeaderName, value: &str) -> HeaderMap {
        [(name, HeaderValue::try_from(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let check = |kind, expected| {
            assert_eq!(is_grpc(&fields(CONTENT_TYPE, kind)), expected, "{kind}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("Application/GRPC; charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/grpc-web+proto", false);
        check("application/grpcx", false);
        check("application/json", false);
        check("", false);
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_have_a_unit_and_at_most_eight_digits() {
        let check = |text, expected| {
            assert_eq!(timeout(&fields(GRPC_TIMEOUT, text)), expected, "{text}");
        };
        check("1H", Some(Duration::from_hours(1)));
        check("2M", Some(Duration::from_mins(2)));
        check("3S", Some(Duration::from_secs(3)));
        check("4m", Some(Duration::from_millis(4)));
        check("70000000u", Some(Duration::from_secs(70)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        check("99999999H", Some(Duration::from_hours(99_999_999)));
        check("0S", Some(Duration::ZERO));
        for nonsense in ["", "S", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "100000000n"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn a_status_that_is_no_code_is_unknown() {
        let check = |text, expected| {
            assert_eq!(Code::of(&fields(GRPC_STATUS, text)), Some(expected), "{text}");
        };
        check("0", Code::Ok);
        check("8", Code::ResourceExhausted);
        check("14", Code::Unavailable);
        check("16", Code::Unauthenticated);
        check("17", Code::Unknown);
        check("-1", Code::Unknown);
        check("", Code::Unknown);
        assert_eq!(Code::of(&HeaderMap::new()), None);
    }

    #[test]
    fn codes_are_written_as_they_are_read() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.value(), number.to_string());
            assert_eq!(Code::of(&fields(GRPC_STATUS, &number.to_string())), Some(code));
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut fields = HeaderMap::new();
        end_with(&mut fields, Code::Unavailable, "50 % für\nalle");
        assert_eq!(fields[GRPC_STATUS], "14");
        assert_eq!(fields[GRPC_MESSAGE], "50 %25 f%C3%BCr%0Aalle");
    }

    proptest! {
        #[test]
        fn every_message_can_be_sent_and_read_again(message: String) {
            let mut fields = HeaderMap::new();
            end_with(&mut fields, Code::Unknown, &message);
            let sent = fields[GRPC_MESSAGE].as_bytes();
            let read = percent_encoding::percent_decode(sent).decode_utf8().unwrap();
            prop_assert_eq!(read, message);
        }

        #[test]
        fn any_timeout_is_read_or_ignored(text in "[ -~]{0,12}") {
            let _ = timeout(&fields(GRPC_TIMEOUT, &text));
        }
    }
}
