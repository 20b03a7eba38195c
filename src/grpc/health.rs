//! The messages of gRPC's health service (`grpc/health/v1/health.proto`): a question of one text, an
//! answer of one number. They are small enough to be written and read without a library.

use bytes::Bytes;

/// Where the service answers.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// In front of each message: not compressed, and its length in four bytes.
const PREFIX: usize = 5;

/// The first field of a message: of bytes, and of a number (protobuf's wire types 2 and 0).
const FIRST_BYTES: u8 = 0x0a;
const FIRST_NUMBER: u8 = 0x08;

/// What a server says about itself, or about one of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Nothing that means anything.
    Unknown,
    /// It is well.
    Serving,
    /// It is not.
    NotServing,
    /// It has no such service. (Only `Watch` may say so, but some say it here.)
    ServiceUnknown,
}

/// The question for a service; for the server as a whole if the name is empty. Names are at most
/// 127 bytes long; what is longer is cut.
pub fn question(service: &str) -> Bytes {
    let name: Vec<u8> = service.bytes().take(127).collect();
    let length = u8::try_from(name.len()).unwrap_or(0);
    let mut message = Vec::with_capacity(PREFIX + 2 + name.len());
    if length == 0 {
        message.extend([0; PREFIX]);
    } else {
        message.extend([0, 0, 0, 0, length + 2, FIRST_BYTES, length]);
        message.extend(name);
    }
    message.into()
}

/// Reads an answer with its prefix; none while it is not there as a whole, or if it is compressed.
/// Fields other than the first number are passed over only if they stand behind it.
pub fn answer(message: &[u8]) -> Option<Serving> {
    let (prefix, rest) = message.split_at_checked(PREFIX)?;
    let [0, length @ ..] = prefix else { return None };
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    match rest.get(..length)? {
        [FIRST_NUMBER, 1, ..] => Some(Serving::Serving),
        [FIRST_NUMBER, 2, ..] => Some(Serving::NotServing),
        [FIRST_NUMBER, 3, ..] => Some(Serving::ServiceUnknown),
        // A number that is 0 is not written.
        [..] => Some(Serving::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_written_as_its_library_does() {
        assert_eq!(&*question(""), b"\0\0\0\0\0");
        assert_eq!(&*question("shop.Shop"), b"\0\0\0\0\x0b\x0a\x09shop.Shop");
        assert_eq!(question(&"x".repeat(300)).len(), PREFIX + 2 + 127);
    }

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        assert_eq!(answer(b"\0\0\0\0\x02\x08\x01"), Some(Serving::Serving));
        assert_eq!(answer(b"\0\0\0\0\x02\x08\x02"), Some(Serving::NotServing));
        assert_eq!(answer(b"\0\0\0\0\x02\x08\x03"), Some(Serving::ServiceUnknown));
        assert_eq!(answer(b"\0\0\0\0\0"), Some(Serving::Unknown));
        assert_eq!(answer(b"\0\0\0\0\x02\x08"), None);
        assert_eq!(answer(b"\x01\0\0\0\x02\x08\x01"), None, "compressed");
        assert_eq!(answer(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes: Vec<u8>) {
            let _ = answer(&bytes);
        }
    }
}
