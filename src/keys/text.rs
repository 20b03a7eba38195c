//! A secret as text: a line that can be pasted, and that tells when it was not pasted whole.
//!
//! `hiveway_agent_v1_<digits>`: the prefix says whose it is and how the rest is to be read; words are
//! joined with `_`, so that a double click takes all of it. What is wrong with a secret is said
//! without a letter of it.

use std::fmt;
use std::str;

use aws_lc_rs::digest::{Context, SHA256};

use super::Role;

/// Bytes of the checksum: one mistyped secret in four thousand million passes.
const CHECKSUM: usize = 4;

/// Why a text is not the secret that belongs where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretError {
    /// Whose secret belongs there.
    pub expected: Role,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is nothing.
    Empty,
    /// Not UTF-8.
    NotText,
    /// It is a secret of the other role.
    OtherRole,
    /// Its prefix is that of another version.
    OtherVersion,
    /// It does not begin as secrets do; most likely somebody made it up.
    Foreign,
    /// There is white space in it.
    Interrupted,
    /// It has not as many characters as a secret has.
    Length {
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A character is none that occurs in secrets.
    Digit {
        /// Which one, counted from 1.
        at: usize,
    },
    /// All looks well, but the checksum is another one.
    Mistyped,
    /// The cryptographic library makes no key of it.
    Unusable,
}

impl SecretError {
    pub(super) const fn new(expected: Role, problem: Problem) -> Self {
        Self { expected, problem }
    }
}

impl Role {
    /// What its secrets begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Agent => "hiveway_agent_v1_",
            Self::Edge => "hiveway_edge_v1_",
        }
    }

    /// The prefix without its version.
    fn word(self) -> &'static str {
        self.prefix().trim_end_matches("v1_")
    }

    const fn other(self) -> Self {
        match self {
            Self::Agent => Self::Edge,
            Self::Edge => Self::Agent,
        }
    }
}

/// A secret by name, for people: the agents' secret (`hiveway-agent`).
struct Named(Role);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.0 {
            Role::Agent => "agents'",
            Role::Edge => "edges'",
        };
        write!(f, "the {whose} secret (`{}`)", self.0.secret_name())
    }
}

impl fmt::Display for SecretError {
    /// A sentence whose subject is the file: `it is empty, and ... belongs there; ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, problem } = *self;
        match problem {
            Problem::Empty => write!(f, "it is empty"),
            Problem::NotText => write!(f, "it is not plain text"),
            Problem::OtherRole => write!(f, "it holds {}", Named(expected.other())),
            Problem::OtherVersion => {
                write!(
                    f,
                    "it was made by another version: it does not begin with `{}`",
                    expected.prefix()
                )
            }
            Problem::Foreign => {
                write!(
                    f,
                    "it does not begin with `{}`: no secret is made up by hand",
                    expected.prefix()
                )
            }
            Problem::Interrupted => write!(f, "it holds more than one line or word"),
            Problem::Length { found, expected } if found < expected => {
                write!(f, "it is cut short: it has {found} characters of {expected}")
            }
            Problem::Length { found, expected } => {
                write!(f, "it is too long: it has {found} characters instead of {expected}")
            }
            Problem::Digit { at } => write!(f, "its character {at} is none of 0-9 and a-f"),
            Problem::Mistyped => write!(f, "a character of it is wrong: its checksum does not fit"),
            Problem::Unusable => write!(f, "no key can be made of it"),
        }?;
        let named = Named(expected);
        write!(f, ", and {named} belongs there; `hiveway token` makes a new pair of secrets")
    }
}

impl std::error::Error for SecretError {}

/// The line for a role's bytes.
pub(super) fn write(role: Role, bytes: &[u8]) -> String {
    let mut line = role.prefix().to_owned();
    for byte in bytes.iter().chain(&checksum(role, bytes)) {
        push_hex(&mut line, *byte);
    }
    line
}

/// Two digits.
pub(super) fn push_hex(line: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    line.extend([digit(byte >> 4), digit(byte & 15)]);
}

/// The bytes of a role's secret.
pub(super) fn read<const N: usize>(written: &[u8], role: Role) -> Result<[u8; N], SecretError> {
    decode(written, role).map_err(|problem| SecretError::new(role, problem))
}

fn decode<const N: usize>(written: &[u8], role: Role) -> Result<[u8; N], Problem> {
    let line = str::from_utf8(written).map_err(|_| Problem::NotText)?.trim();
    if line.is_empty() {
        return Err(Problem::Empty);
    }
    let Some(digits) = line.strip_prefix(role.prefix()) else {
        return Err(without_prefix(line, role));
    };
    if line.contains(char::is_whitespace) {
        return Err(Problem::Interrupted);
    }
    let before = role.prefix().len();
    let expected = before + 2 * (N + CHECKSUM);
    let found = line.chars().count();
    if found != expected {
        return Err(Problem::Length { found, expected });
    }
    let mut bytes = [0; N];
    let mut sum = [0; CHECKSUM];
    let mut characters = digits.chars().enumerate();
    let mut digit = || {
        let (index, character) = characters.next().ok_or(Problem::Length { found, expected })?;
        let value = character.to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or(Problem::Digit { at: before + index + 1 })
    };
    for place in bytes.iter_mut().chain(&mut sum) {
        *place = digit()? << 4 | digit()?;
    }
    if sum == checksum(role, &bytes) { Ok(bytes) } else { Err(Problem::Mistyped) }
}

/// What a line is that does not begin as this role's secrets do.
fn without_prefix(line: &str, role: Role) -> Problem {
    if line.starts_with(role.other().word()) {
        Problem::OtherRole
    } else if line.starts_with(role.word()) {
        Problem::OtherVersion
    } else {
        Problem::Foreign
    }
}

/// The prefix counts too: digits behind the wrong one are no secret.
fn checksum(role: Role, bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut context = Context::new(&SHA256);
    context.update(role.prefix().as_bytes());
    context.update(bytes);
    let mut sum = [0; CHECKSUM];
    sum.iter_mut().zip(context.finish().as_ref()).for_each(|(place, byte)| *place = *byte);
    sum
}
