//! Cookies as far as balancing reads and sets them (RFC 6265).

use http::HeaderValue;

use crate::affinity::Mark;

/// The value of a cookie among the values of `Cookie` fields: of the first one of that name, which
/// browsers put before those of shorter paths (section 5.4). Quotes are part of it.
///
/// What is no cookie is passed over: other cookies are not ours to judge.
pub fn find<'c>(fields: impl IntoIterator<Item = &'c [u8]>, name: &str) -> Option<&'c [u8]> {
    let pairs = fields.into_iter().flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
        Some(value.trim_ascii_start())
    })
}

/// The value of the `Set-Cookie` that ties a client to a replica for as long as its browser runs. No
/// script needs it (`HttpOnly`), and requests that other sites cause carry it only when they lead
/// here (`SameSite=Lax`). None if the name is no cookie's.
pub fn set(name: &str, mark: Mark, is_secure: bool) -> Option<HeaderValue> {
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={mark}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(cookie).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_the_first_one_counts() {
        let check = |fields: &str, expected: Option<&str>| {
            let found = find(fields.split('|').map(str::as_bytes), "sid");
            assert_eq!(
                found.map(|value| std::str::from_utf8(value).unwrap()),
                expected,
                "{fields}"
            );
        };
        check("sid=1", Some("1"));
        check("a=b; sid=1; sid=2", Some("1"));
        check("a=b|c=d;sid=1", Some("1"));
        check("sid = 1 ;x", Some("1"));
        check("sid=", Some(""));
        check("sid=a=b", Some("a=b"));
        check("sid=\"x\"", Some("\"x\""));
        check("xsid=1; sidx=2; SID=3; sid; a=sid=1", None);
        check("", None);
        check(";;=;|;", None);
    }

    #[test]
    fn a_cookie_is_set_for_the_session_and_for_no_script() {
        let mark = Mark::parse(b"00000000000000ff").unwrap();
        let of = |secure| set("sid", mark, secure).unwrap();
        assert_eq!(of(false), "sid=00000000000000ff; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(of(true), "sid=00000000000000ff; Path=/; HttpOnly; SameSite=Lax; Secure");
    }

    proptest! {
        #[test]
        fn what_is_set_is_found_among_anything_that_comes_behind(
            bits in 1_u64.., before in "[a-r0-9=; ]{0,20}", behind: Vec<u8>,
        ) {
            let mark = Mark::from_bits(bits).unwrap();
            let mut field = format!("{before}; sid={mark};").into_bytes();
            field.extend(behind);
            prop_assert_eq!(find([&*field], "sid").and_then(Mark::parse), Some(mark));
        }
    }
}
