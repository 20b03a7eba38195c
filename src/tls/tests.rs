use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::files::{self, Listing};
use super::*;

/// A date on which the test certificates are valid: 2026-06-01.
const NOW: i64 = 1_780_272_000;

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hiveway-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    fn listing(&self) -> Listing {
        files::read(std::slice::from_ref(&self.0))
    }

    fn watch(&self) -> Watch {
        let mut watch = Watch::begin(std::slice::from_ref(&self.0), None);
        watch.look(self.listing(), NOW);
        watch
    }

    /// Looks until what is there counts.
    fn look(&self, watch: &mut Watch) {
        watch.look(self.listing(), NOW);
        watch.look(self.listing(), NOW);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, as PEM, valid to the end of a year.
fn made(names: &[&str], until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(until, 12, 31);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// What is served, by name and file: `a.test (one.pem)`, in the order in which it is listed.
fn served(watch: &Watch) -> String {
    let set = watch.certificates().load();
    let file = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let lines = set.all().iter().map(|it| format!("{} ({})", it.names.join(" "), file(&it.file)));
    lines.collect::<Vec<_>>().join(", ")
}

/// What was wrong, by file: `one.pem: its private key ...`.
fn said(watch: &Watch) -> Vec<String> {
    let directory = |text: String| text.rsplit_once('/').map_or(text.clone(), |(_, it)| it.into());
    let line = |complaint: &Complaint| {
        let file = directory(complaint.file.display().to_string());
        format!("{file}: {}", complaint.remedy.problem)
    };
    watch.said().iter().map(line).collect()
}

#[test]
fn certificates_and_keys_find_each_other_whatever_the_files_are_called() {
    let directory = Directory::new();
    let ((one, one_key), (two, two_key)) = (made(&["a.test"], 2030), made(&["b.test"], 2030));
    directory.put("db_password", "hunter2");
    directory.put("key", &one_key);
    directory.put("site", &one);
    directory.put("together", &format!("{two_key}{two}"));
    let watch = directory.watch();
    assert_eq!(served(&watch), "a.test (site), b.test (together)");
    assert_eq!(said(&watch), [""; 0]);
    let set = watch.certificates().load();
    assert!(set.all()[0].key_file.ends_with("key"), "{:?}", set.all());
    assert_eq!(set.all()[0].expires, "2030-12-31T00:00:00Z");
}

#[test]
fn what_has_no_other_half_is_named_once_and_the_rest_is_served() {
    let directory = Directory::new();
    let ((one, one_key), (two, _)) = (made(&["a.test"], 2030), made(&["b.test"], 2030));
    let (_, other_key) = made(&["c.test"], 2030);
    directory.put("good", &format!("{one}{one_key}"));
    directory.put("alone", &two);
    directory.put("key", &other_key);
    directory.put("torn", &one[..60]);
    let watch = directory.watch();
    assert_eq!(served(&watch), "a.test (good)");
    let said = said(&watch);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("torn: a PEM block cannot be read"), "{said:?}");
    assert_eq!(said[1], "alone: the key of its certificate for b.test is missing");
    assert_eq!(said[2], "key: its private key belongs to no certificate that is there");
}

#[test]
fn a_chain_is_put_in_order_from_any_files_and_ends_before_the_root() {
    let directory = Directory::new();
    let authority = |name: &str| {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        (parameters, KeyPair::generate().unwrap())
    };
    let (root, root_key) = authority("root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let (middle, middle_key) = authority("middle");
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle, middle_key);
    let key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = parameters.signed_by(&key, &middle).unwrap().pem();
    directory.put("bundle", &format!("{root_pem}{middle_pem}"));
    directory.put("leaf", &leaf);
    directory.put("key", &key.serialize_pem());
    let watch = directory.watch();
    assert_eq!((served(&watch).as_str(), said(&watch).len()), ("a.test (leaf)", 0));
    assert_eq!(watch.certificates().load().all()[0].key.cert.len(), 2);
}

/// Which of the certificates of `lines`, like `*.a.test until 2030`, is chosen for a name.
fn choice(lines: &str, name: Option<&str>) -> String {
    let directory = Directory::new();
    for (place, line) in lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (names, until) = line.split_once(" until ").unwrap();
        let names: Vec<_> = names.split(' ').collect();
        let (certificate, key) = made(&names, until.parse().unwrap());
        directory.put(&format!("{place}"), &format!("{certificate}{key}"));
    }
    let watch = directory.watch();
    let set = watch.certificates().load();
    let chosen = set.choose(name, |_| true).unwrap();
    format!("{} until {}", chosen.names.join(" "), &chosen.expires[..4])
}

#[test]
fn an_exact_name_beats_a_wildcard_which_stands_for_one_label() {
    let lines = "
        other.test until 2030
        *.a.test until 2040
        x.a.test until 2030
        x.a.test until 2035
    ";
    let check = |name, expected| assert_eq!(choice(lines, name), expected, "{name:?}");
    check(Some("x.a.test"), "x.a.test until 2035");
    check(Some("y.a.test"), "*.a.test until 2040");
    check(Some("z.y.a.test"), "other.test until 2030");
    check(Some("a.test"), "other.test until 2030");
    check(None, "other.test until 2030");
}

#[test]
fn expired_certificates_come_last() {
    let lines = "
        x.a.test until 2022
        *.a.test until 2030
        old.test until 2021
        old.test until 2023
    ";
    let check = |name, expected| assert_eq!(choice(lines, name), expected, "{name:?}");
    check(Some("x.a.test"), "*.a.test until 2030");
    check(Some("old.test"), "old.test until 2023");
    check(Some("none.test"), "*.a.test until 2030");
}

#[test]
fn an_expired_certificate_is_complained_about_when_its_time_is_over() {
    let directory = Directory::new();
    let (certificate, key) = made(&["a.test"], 2026);
    directory.put("site", &format!("{certificate}{key}"));
    let mut watch = directory.watch();
    watch.look(directory.listing(), NOW);
    assert_eq!(said(&watch), [""; 0]);
    let year = 366 * 24 * 3600;
    watch.look(directory.listing(), NOW + year);
    let expected = "site: its certificate for a.test expired on 2026-12-31T00:00:00Z";
    assert_eq!(said(&watch), [expected]);
}

#[test]
fn a_broken_file_keeps_what_was_read_from_it_last() {
    let directory = Directory::new();
    let ((one, one_key), (two, two_key)) = (made(&["a.test"], 2030), made(&["b.test"], 2030));
    directory.put("one", &one);
    directory.put("one.key", &one_key);
    directory.put("two", &format!("{two}{two_key}"));
    let mut watch = directory.watch();
    let before = "a.test (one), b.test (two)";
    // A half-written key, and one of another certificate.
    for (file, content) in [("one.key", &one_key[..80]), ("one.key", &made(&["x"], 2030).1)] {
        directory.put(file, content);
        directory.look(&mut watch);
        assert_eq!(served(&watch), "b.test (two), a.test (one)", "{content}");
    }
    directory.put("one.key", &one_key);
    directory.put("two", "-----BEGIN CERTIFICATE-----\n");
    directory.look(&mut watch);
    assert_eq!(served(&watch), before);
    assert_eq!(said(&watch).len(), 1);
    // One that is removed is no longer served; the last one stays.
    directory.put("two", &format!("{two}{two_key}"));
    directory.remove("one");
    directory.remove("one.key");
    directory.look(&mut watch);
    assert_eq!(served(&watch), "b.test (two)");
    directory.remove("two");
    directory.look(&mut watch);
    assert_eq!(served(&watch), "b.test (two)");
    assert!(said(&watch)[0].contains("those read last stay in use"), "{:?}", said(&watch));
}

#[test]
fn a_file_counts_when_it_has_not_changed_between_two_looks() {
    let directory = Directory::new();
    let (one, one_key) = made(&["a.test"], 2030);
    let mut watch = directory.watch();
    directory.put("one", &one);
    watch.look(directory.listing(), NOW);
    directory.put("one", &format!("{one}{one_key}"));
    watch.look(directory.listing(), NOW);
    assert_eq!((served(&watch), said(&watch).len()), (String::new(), 0));
    watch.look(directory.listing(), NOW);
    assert_eq!(served(&watch), "a.test (one)");
}

#[test]
fn a_path_that_is_named_must_hold_a_certificate() {
    let directory = Directory::new();
    directory.put("note", "nothing");
    let watch = Watch::begin(&[directory.0.join("note"), directory.0.join("nowhere")], None);
    let expected =
        ["note: it holds no certificate and no key", "nowhere: there is no such file or directory"];
    assert_eq!(said(&watch), expected);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "(-----BEGIN (CERTIFICATE|PRIVATE KEY|EC PRIVATE KEY)-----\n[A-Za-z0-9+/=]{0,80}\n-----END CERTIFICATE-----\n){0,2}",
    ) {
        let _ = pem::read(&bytes);
        let _ = certificate::Facts::read(&bytes);
        if let Ok(parts) = pem::read(text.as_bytes()) {
            for der in parts.certificates {
                let _ = certificate::Facts::read(&der);
            }
        }
    }
}
