//! Host names, and the patterns of them that a route may ask for.

use std::fmt;
use std::str::FromStr;

/// Longest name DNS can carry, in bytes of text (RFC 1035, section 2.3.4).
pub const MAX_LEN: usize = 253;

/// A host as requests and routes name it: lower case, no port, no final dot.
///
/// A DNS name of letters, digits, `-` and `_`, or an IP address (an IPv6 one in brackets).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

/// Why a text is no [`HostName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name")]
pub struct InvalidHost;

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = InvalidHost;

    /// # Errors
    /// If the text is no DNS name and no IP address.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if !is_host(name) {
            return Err(InvalidHost);
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

/// Whether the text is a DNS name or an IP address, in either case of letters.
pub fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    text.len() <= MAX_LEN && text.split('.').all(is_dns_label)
}

fn is_dns_label(label: &str) -> bool {
    matches!(label.len(), 1..=63)
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The part of a name behind its first dot, for which a wildcard pattern may stand.
pub fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

/// Which hosts a route asks for. Exact beats wildcard beats any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only.
    Exact(HostName),
    /// `*.example.com`: exactly one label before the name, as in certificates (RFC 9525, 6.3).
    Wildcard(HostName),
    /// Every host.
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    /// # Errors
    /// If the text is neither `*`, nor `*.` before a host name, nor a host name.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(parent) => parent.parse().map(Self::Wildcard),
            None => text.parse().map(Self::Exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_lower_case_and_without_the_final_dot() {
        assert_eq!("Shop.Example.COM.".parse::<HostName>().unwrap().as_str(), "shop.example.com");
        assert_eq!("shop_web".parse::<HostName>().unwrap().as_str(), "shop_web");
        assert_eq!("[FD99::1]".parse::<HostName>().unwrap().as_str(), "[fd99::1]");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", ".", "a..b", "a b", "a@b", "a,b", "a/x", "a:80", "[::1", "[zz]", "-*", "ü"]
        {
            assert_eq!(text.parse::<HostName>(), Err(InvalidHost), "{text}");
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!(["a"; 127].join(".").parse::<HostName>().is_ok());
        assert!(["a"; 128].join(".").parse::<HostName>().is_err());
    }

    #[test]
    fn a_pattern_reads_as_it_is_written() {
        for text in ["shop.example.com", "*.example.com", "*"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
        for text in ["*.", "**.example.com", "a.*.com", "*example.com"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
