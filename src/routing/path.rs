//! Paths in their one normal form, and the patterns of them that a route may ask for.
//!
//! A path is matched and forwarded in the same form. If the two differed, a client could write a
//! path one way for the route and have it read another way by the replica.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use regex::Regex;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It does not begin with `/`.
    #[error("does not begin with `/`")]
    Relative,
    /// `%` without two hexadecimal digits behind it.
    #[error("has a `%` without two hexadecimal digits behind it")]
    BrokenEscape,
    /// An encoded `/`, `\` or NUL, a plain `\`, or `;` where only dots or nothing stand before it:
    /// servers disagree on what these mean.
    #[error("has an encoded `/`, a `\\`, a NUL or `/;`, which servers read in different ways")]
    Ambiguous,
    /// `..` leads above the root.
    #[error("leads above the root with `..`")]
    ClimbsOut,
}

/// The one form in which a path is matched and forwarded (RFC 3986, section 6.2.2).
///
/// Needless percent-encoding is undone, what must stay encoded is written in capitals, `.` and `..`
/// are resolved, and `//` becomes `/`. A path that is in this form already is borrowed.
///
/// # Errors
/// If the path can be read in more than one way, or not at all.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    if !path.starts_with('/') {
        return Err(InvalidPath::Relative);
    }
    if is_plainly_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    resolve_dots(&decode(path)?).map(Cow::Owned)
}

/// Whether nothing in the path could need a change; says no to some that are normal.
fn is_plainly_normal(path: &str) -> bool {
    let mut previous = 0;
    path.bytes().all(|byte| {
        let suspicious = matches!(byte, b'%' | b'\\' | 0)
            || (previous == b'/' && matches!(byte, b'/' | b'.' | b';'));
        previous = byte;
        !suspicious
    })
}

fn decode(path: &str) -> Result<String, InvalidPath> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\', '\0']) {
        let (plain, found) = rest.split_at(at);
        decoded.push_str(plain);
        let Some(digits) = found.strip_prefix('%') else {
            return Err(InvalidPath::Ambiguous);
        };
        let digits = digits.get(..2).ok_or(InvalidPath::BrokenEscape)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(InvalidPath::BrokenEscape);
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidPath::BrokenEscape)?;
        match byte {
            b'/' | b'\\' | 0 => return Err(InvalidPath::Ambiguous),
            b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = found.get(3..).unwrap_or_default();
    }
    decoded.push_str(rest);
    Ok(decoded)
}

fn resolve_dots(path: &str) -> Result<String, InvalidPath> {
    /// Parameters behind dots, also where a server decodes them first.
    const DOTS: [&str; 4] = [".;", "..;", ".%3B", "..%3B"];
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        ends_in_directory = false;
        match segment {
            "" | "." => ends_in_directory = true,
            ".." => {
                kept.pop().ok_or(InvalidPath::ClimbsOut)?;
                ends_in_directory = true;
            }
            // Some servers drop what follows `;` and only then resolve the dots, or merge the slashes.
            _ if DOTS.iter().any(|dots| segment.starts_with(dots)) => {
                return Err(InvalidPath::Ambiguous);
            }
            _ if segment.starts_with(';') && segments.peek().is_some() => {
                return Err(InvalidPath::Ambiguous);
            }
            _ => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_in_directory || kept.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

/// A path in normal form without the parameters of its segments: `/a;b=1/c` is `/a/c` (RFC 3986,
/// section 3.3). Routes are found by this form. Servers of Java drop parameters before they look at
/// a path, so that `/admin;x` is `/admin` to them, and must be to whoever guards `/admin`.
pub fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        plain.push('/');
        plain.push_str(segment.split(';').next().unwrap_or_default());
    }
    Cow::Owned(plain)
}

/// The beginning of a path, in whole segments: `/api` covers `/api` and `/api/x`, not `/apix`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// The prefix of every path.
    pub fn root() -> Self {
        Self("".into())
    }

    /// The prefix without a final `/`; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many segments it has; 0 for the root.
    pub fn depth(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'/').count()
    }

    /// What follows the prefix in a path that it covers: empty, or begins with `/`.
    pub fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.0)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPath;

    /// # Errors
    /// If the text is no path that has a normal form.
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let normal = normalize(text)?;
        Ok(Self(normal.trim_end_matches('/').into()))
    }
}

/// The leading parts of a path that end where a segment ends, by number of segments.
///
/// `head("/a/b/c", 2)` is `/a/b`; `head("/a", 2)` is none; `head(path, 0)` is empty.
pub fn head(path: &str, depth: usize) -> Option<&str> {
    if depth == 0 {
        return Some("");
    }
    let mut slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    match slashes.nth(depth) {
        Some((end, _)) => path.get(..end),
        None => (path.bytes().filter(|byte| *byte == b'/').count() == depth).then_some(path),
    }
}

/// Which paths a route asks for. Exact beats regular expression beats prefix.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// This path only, in normal form.
    Exact(Box<str>),
    /// Paths in which the expression is found.
    Regex(Regex),
    /// Paths below the prefix.
    Prefix(PathPrefix),
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Exact(_) | Self::Regex(_) | Self::Prefix(_), _) => false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Regex(regex) => write!(f, "~ {regex}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, normal: &str) {
        assert_eq!(normalize(path).as_deref(), Ok(normal), "{path}");
    }

    #[test]
    fn equal_paths_get_one_form() {
        check("/", "/");
        check("/a/b", "/a/b");
        check("/a/", "/a/");
        check("//a///b//", "/a/b/");
        check("/a/./b/.", "/a/b/");
        check("/a/x/../b", "/a/b");
        check("/a/..", "/");
        check("/%7euser/%61%2D%2e", "/~user/a-.");
        check("/a/%2e%2E/b", "/b");
        check("/a%3ab", "/a%3Ab");
        check("/.well-known/x", "/.well-known/x");
        check("/a;b=1/c", "/a;b=1/c");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (path, error) in [
            ("a", InvalidPath::Relative),
            ("/a%2fb", InvalidPath::Ambiguous),
            ("/a%5Cb", InvalidPath::Ambiguous),
            ("/a\\b", InvalidPath::Ambiguous),
            ("/a%00", InvalidPath::Ambiguous),
            ("/a/..;/b", InvalidPath::Ambiguous),
            ("/a/%2e%2e;x/b", InvalidPath::Ambiguous),
            ("/a/..%3bx/b", InvalidPath::Ambiguous),
            ("/;a/b", InvalidPath::Ambiguous),
            ("/a//;b/", InvalidPath::Ambiguous),
            ("/..", InvalidPath::ClimbsOut),
            ("/a/../..", InvalidPath::ClimbsOut),
            ("/a%", InvalidPath::BrokenEscape),
            ("/a%2", InvalidPath::BrokenEscape),
            ("/a%zz", InvalidPath::BrokenEscape),
            ("/a%+1", InvalidPath::BrokenEscape),
        ] {
            assert_eq!(normalize(path), Err(error), "{path}");
        }
    }

    #[test]
    fn parameters_are_no_part_of_what_a_route_is_found_by() {
        for (path, plain) in [
            ("/a", "/a"),
            ("/a;b", "/a"),
            ("/a;b=1;c/d;/e/", "/a/d/e/"),
            ("/a/;jsessionid=1", "/a/"),
            ("/;jsessionid=1", "/"),
        ] {
            assert_eq!(without_parameters(path), plain);
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        let api: PathPrefix = "/api/".parse().unwrap();
        assert_eq!(api.strip("/api"), Some(""));
        assert_eq!(api.strip("/api/x"), Some("/x"));
        assert_eq!(api.strip("/apix"), None);
        assert_eq!(PathPrefix::root().strip("/x"), Some("/x"));
        assert_eq!("/".parse(), Ok(PathPrefix::root()));
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(path in "/[a-c./%;2eEfF5]{0,24}") {
            if let Ok(normal) = normalize(&path) {
                let again = normalize(&normal);
                prop_assert_eq!(again.as_deref(), Ok(&*normal));
                prop_assert!(!normal.contains("//"));
                let plain = without_parameters(&normal);
                let again = normalize(&plain);
                prop_assert_eq!(again.as_deref(), Ok(&*plain));
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(path in "\\PC*") {
            let _ = normalize(&path);
        }

        #[test]
        fn a_prefix_is_the_head_of_what_it_covers(prefix in "(/[a-c]{1,2}){0,3}", rest in "(/[a-c]{0,2}){0,3}") {
            let prefix: PathPrefix = if prefix.is_empty() { PathPrefix::root() } else { prefix.parse().unwrap() };
            let path = format!("{}{rest}", prefix.as_str());
            if !path.is_empty() {
                prop_assert_eq!(head(&path, prefix.depth()), Some(prefix.as_str()));
                prop_assert_eq!(prefix.strip(&path), Some(&*rest));
            }
        }
    }
}
