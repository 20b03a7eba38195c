//! Cases as they are written in `tests/data/hostile`, which its `README.md` explains.

use std::path::{Path, PathBuf};

/// One case of a file.
pub(crate) struct Case {
    /// Where it stands: `chunks.txt:17`.
    place: String,
    name: String,
    /// What is sent, one entry a line, escapes as written.
    pub(crate) sent: Vec<String>,
    /// What comes back; the last entry says what becomes of the connection.
    pub(crate) expected: Vec<String>,
    /// What the replica sees, apart from canaries.
    pub(crate) seen: Vec<Expected>,
}

/// A request that the replica sees.
#[derive(Default)]
pub(crate) struct Expected {
    /// The request line; a request that breaks off is `begins GET / HTTP/1.1`.
    pub(crate) line: String,
    /// `name: value`; `!name` for a field that is not there; `| bytes` for the body.
    pub(crate) details: Vec<String>,
}

impl Case {
    fn new(place: String, name: &str) -> Self {
        let (sent, expected, seen) = (Vec::new(), Vec::new(), Vec::new());
        Self { place, name: name.to_owned(), sent, expected, seen }
    }

    fn take(&mut self, line: &str) {
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            ">" => self.sent.push(rest.to_owned()),
            "<" => self.expected.extend(rest.split(", ").map(str::to_owned)),
            "@" if is_request_line(rest) => {
                self.seen.push(Expected { line: rest.to_owned(), ..Expected::default() });
            }
            "@" => {
                let last = self.seen.last_mut();
                last.expect("a request line comes first").details.push(rest.to_owned());
            }
            _ => panic!("{}: {line:?} begins with none of `>`, `<`, `@`", self.place),
        }
    }

    /// Whether that is what it says. What it has in brackets may be missing.
    pub(crate) fn expects(&self, came: &[String]) -> bool {
        let whole = self.expected.iter().map(|word| word.trim_matches(['[', ']']));
        let least = self.expected.iter().filter(|word| !word.starts_with('['));
        came.iter().eq(least) || came.iter().map(String::as_str).eq(whole)
    }

    /// Whether nothing follows what is sent but the end of the stream.
    pub(crate) fn finishes(&self) -> bool {
        self.sent.last().is_some_and(|line| line == "<fin>")
    }

    /// What is sent over HTTP/1.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in self.sent.iter().filter(|line| *line != "<fin>") {
            if let Some(open) = line.strip_suffix("\\-") {
                bytes.extend(unescape(open));
            } else {
                bytes.extend(unescape(line));
                bytes.extend(b"\r\n");
            }
        }
        bytes
    }

    /// What went wrong, with all that is needed to see why.
    pub(crate) fn failure(&self, problem: &str) -> String {
        let sent: Vec<_> = self.sent.iter().map(|line| format!("    > {line}")).collect();
        format!("{}: {}\n{}\n{problem}", self.place, self.name, sent.join("\n"))
    }
}

fn is_request_line(text: &str) -> bool {
    text.ends_with(" HTTP/1.1")
}

/// All cases of the files in a directory below `tests/data/hostile`.
pub(crate) fn read_all(directory: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile").join(directory);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{name}:{}", number + 1);
        match line.strip_prefix("== ") {
            Some(name) => cases.push(Case::new(place, name)),
            None => cases.last_mut().expect("a case begins with `== `").take(line),
        }
    }
    cases
}

/// The bytes of a text with escapes: `\r`, `\n`, `\0`, `\\`, `\x7f`, and `\{ab*3}` for `ababab`.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let (kind, behind) = escaped.split_at(1);
        rest = behind;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "\\" => bytes.push(b'\\'),
            "x" => {
                let (digits, behind) = behind.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = behind;
            }
            "{" => {
                let (repeated, behind) = behind.split_once('}').expect("`\\{` has its `}`");
                let (what, times) = repeated.rsplit_once('*').expect("`\\{` has its `*`");
                bytes.extend(unescape(what).repeat(times.parse().unwrap()));
                rest = behind;
            }
            _ => panic!("\\{kind} is no escape, in {text:?}"),
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[test]
fn escapes_stand_for_their_bytes() {
    assert_eq!(unescape("a\\r\\n\\x80\\\\"), b"a\r\n\x80\\");
    assert_eq!(unescape("\\{x: y\\n*2}z"), b"x: y\nx: y\nz");
}
