//! The order of the modules, and what keeps it readable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Nothing that touches the world, or has a will of its own, may be named by a pure module.
const IMPURE: [&str; 10] = [
    "hyper",
    "hyper_util",
    "bollard",
    "hickory_resolver",
    "socket2",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "fastrand::u",
    "fastrand::shuffle",
];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 8] =
    ["mod", "utils", "util", "helpers", "helper", "common", "types", "misc"];

/// Lines that a file may have, and one of tests.
const LONGEST: usize = 400;
const LONGEST_TESTS: usize = 600;

struct SourceFile {
    path: PathBuf,
    /// The first part of its path: the module of `lib.rs` that it belongs to.
    module: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `src`, or below `tests`.
fn files(below: &str) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(below)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_owned();
                let module = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
                let module = module.trim_end_matches(".rs").to_owned();
                found.push(SourceFile { path, module, text });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

impl SourceFile {
    /// Its lines of code, numbered from 1: no comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        lines.filter(|(_, line)| !line.starts_with("//"))
    }

    /// The same without what stands in `mod tests` at the end of the file, or is all tests.
    fn code_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_tests = self.is_tests();
        self.code().take_while(move |(_, line)| !is_tests && *line != "#[cfg(test)]")
    }

    fn is_tests(&self) -> bool {
        self.path.components().any(|part| {
            let part = part.as_os_str().to_str().unwrap();
            part == "tests.rs" || part == "tests"
        })
    }
}

/// The modules in the order of `lib.rs`, and how many of them are pure.
fn modules() -> (Vec<String>, usize) {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let (mut modules, mut pure) = (Vec::new(), None);
    for line in text.lines() {
        if line.starts_with("// Edges") {
            pure = Some(modules.len());
        }
        let module = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "));
        modules.extend(module.and_then(|name| name.strip_suffix(';')).map(str::to_owned));
    }
    (modules, pure.expect("a line that begins with `// Edges`"))
}

fn nothing(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The names that follow a mark in a line: the modules of `crate::a` and `crate::{a, b::c}`.
fn named(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let several = rest.starts_with('{');
        let words = list.split(if several { ", " } else { "\0" });
        let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
        names.extend(words.map(|text| &text[..word(text).unwrap_or(text.len())]));
    }
    names
}

#[test]
fn the_modules_that_a_line_names_are_found() {
    assert_eq!(named("use crate::a::B;"), ["a"]);
    assert_eq!(named("let x: crate::a::B = crate::c::d();"), ["a", "c"]);
    assert_eq!(named("use crate::{a, b::C};"), ["a", "b"]);
    assert_eq!(named("use super::x;"), [""; 0]);
}

#[test]
fn a_module_names_only_modules_above_it() {
    let (modules, _) = modules();
    let rank: BTreeMap<&str, usize> =
        modules.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut violations = Vec::new();
    for file in files("src") {
        let Some(own) = rank.get(file.module.as_str()) else {
            assert!(["lib", "main"].contains(&file.module.as_str()), "{:?}", file.path);
            continue;
        };
        for (number, line) in file.code_without_tests() {
            for name in named(line) {
                match rank.get(name) {
                    Some(other) if other <= own => {}
                    Some(_) => violations.push(format!(
                        "{}:{number}: names `{name}`, which stands below it",
                        file.path.display()
                    )),
                    None => violations.push(format!(
                        "{}:{number}: `{name}` is no module of lib.rs",
                        file.path.display()
                    )),
                }
            }
        }
    }
    nothing(&violations);
}

#[test]
fn pure_modules_touch_nothing() {
    let (modules, pure) = modules();
    let mut violations = Vec::new();
    for file in files("src").iter().filter(|file| modules[..pure].contains(&file.module)) {
        for (number, line) in file.code_without_tests() {
            let impure = IMPURE.iter().find(|name| names(line, name));
            let tokio = line.contains("tokio::") && !line.contains("tokio::sync");
            if let Some(name) = impure.copied().or_else(|| tokio.then_some("tokio")) {
                violations.push(format!("{}:{number}: names `{name}`", file.path.display()));
            }
        }
    }
    nothing(&violations);
}

/// Whether a line names a crate or an item, and not merely something that ends alike.
fn names(line: &str, name: &str) -> bool {
    let ends_before = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let rest = &line[at + name.len()..];
        let is_path = name.contains("::") || rest.starts_with("::") || rest.starts_with(';');
        ends_before(at) && is_path
    })
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    let mut violations = Vec::new();
    for file in files("src").into_iter().chain(files("tests")) {
        let path = file.path.display();
        // What a `tests.rs` tests is said where it belongs.
        if !file.path.ends_with("tests.rs") && !file.text.starts_with("//! ") {
            violations.push(format!("{path}: does not begin with `//!`"));
        }
        let lines = file.text.lines().count();
        let longest = if file.is_tests() { LONGEST_TESTS } else { LONGEST };
        if lines > longest {
            violations.push(format!("{path}: has {lines} lines, more than {longest}"));
        }
    }
    nothing(&violations);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let mut violations = Vec::new();
    for file in files("src").into_iter().chain(files("tests")) {
        let name = file.path.file_stem().unwrap().to_str().unwrap();
        if EMPTY_NAMES.contains(&name) || name.ends_with("_utils") || name.ends_with("manager") {
            violations.push(file.path.display().to_string());
        }
    }
    nothing(&violations);
}
