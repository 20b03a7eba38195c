//! A stream of bytes, cut into lines.

use bytes::{Bytes, BytesMut};

/// Bytes of a line at most: a whole inventory of some 100,000 tasks.
pub const LONGEST: usize = 32 << 20;

/// What has come and is no whole line yet.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: BytesMut,
    /// How many of them are known to have no end of a line.
    searched: usize,
}

/// A line is longer than [`LONGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than {} MiB", LONGEST >> 20)]
pub struct TooLong;

impl Lines {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line without its end; none until more bytes come.
    ///
    /// # Errors
    /// If more has come than a line may have. The stream is of no use then.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let new = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', new) else {
            self.searched = self.bytes.len();
            return if self.searched > LONGEST { Err(TooLong) } else { Ok(None) };
        };
        let mut line = self.bytes.split_to(self.searched + at + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        if line.len() > LONGEST { Err(TooLong) } else { Ok(Some(line.freeze())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_end_is_given_up_in_time() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LONGEST]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(text in "[a-c\n]{0,60}", size in 1_usize..9) {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece);
                while let Some(line) = lines.next_line().unwrap() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            let mut expected: Vec<_> = text.split('\n').map(str::to_owned).collect();
            expected.pop();
            prop_assert_eq!(found, expected);
        }
    }
}
