//! What is written for whole files.

use super::*;

fn run(files: &[&str]) -> (bool, String) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/check");
    let paths: Vec<PathBuf> = files.iter().map(|file| directory.join(file)).collect();
    let mut out = Vec::new();
    let is_good = check(&paths, &mut out).unwrap();
    let written = String::from_utf8(out).unwrap();
    (is_good, written.replace(&format!("{}/", directory.display()), ""))
}

/// Compares all that is written for a file with mistakes.
fn check_file(file: &str, expected: &str) {
    let (is_good, written) = run(&[file]);
    assert_eq!(written, expected);
    assert!(!is_good);
}

/// What is written for a text under a name, without the summary.
fn problems(name: &str, text: &str) -> Vec<String> {
    let findings = examine(Path::new(name), text);
    let first = |message: &String| message.lines().next().unwrap_or_default().to_owned();
    findings.messages.iter().map(first).collect()
}

#[test]
fn wrong_labels_are_shown_where_they_stand() {
    check_file("shop.yml", include_str!("../../tests/data/check/shop.txt"));
}

#[test]
fn rivals_in_one_file_are_found_and_variables_are_filled_in() {
    check_file("rivals.yml", include_str!("../../tests/data/check/rivals.txt"));
}

#[test]
fn a_file_that_is_no_stack_says_where() {
    check_file("broken.yml", include_str!("../../tests/data/check/broken.txt"));
}

#[test]
fn a_file_that_is_not_there_is_an_error_and_the_others_are_checked() {
    let (is_good, written) = run(&["missing.yml", "broken.yml"]);
    assert!(!is_good);
    assert!(written.starts_with("error: the file cannot be read: "), "{written}");
    assert!(written.ends_with("checked 2 files: 0 services, 0 routes, 2 errors, 0 warnings\n"));
}

#[test]
fn a_configuration_and_a_services_file_are_told_apart() {
    assert_eq!(problems("a.toml", "provider.kind = 'docker'"), [""; 0]);
    assert_eq!(
        problems("a.toml", "provider.kind = 'dockr'"),
        ["error: `provider.kind` is not a word that is known here"]
    );
    assert_eq!(
        problems("a.toml", "[services.a]\nendpoints = ['b:1']\nhiveway.prot = 1"),
        [
            "warning: service `a`: label `hiveway.prot=1` is not a label that this version knows; it was ignored"
        ]
    );
    assert_eq!(problems("stack", "services:\n  a:\n    image: b\n"), [""; 0]);
}

#[test]
fn a_port_is_needed_where_none_is_published() {
    let stack = |ports: &str| {
        format!(
            "services:\n  a:\n    ports: {ports}\n    deploy: {{labels: {{hiveway.host: a.test}}}}"
        )
    };
    assert_eq!(
        problems("a.yml", &stack("[]")),
        ["error: service `a`: says no port, and publishes none"]
    );
    assert_eq!(
        problems("a.yml", &stack("[80, '1:2']")),
        ["error: service `a`: says no port, and publishes 2"]
    );
    for enough in [
        "[80]",
        "['8080:80']",
        "['53:53/udp', '80:80/tcp']",
        "[{target: 80, mode: host}]",
        "['${P}:80']",
    ] {
        assert_eq!(problems("a.yml", &stack(enough)), [""; 0], "{enough}");
    }
}

#[test]
fn routes_of_one_service_can_be_rivals_too() {
    let labels = "hiveway.host: a.test, hiveway.port: 80, hiveway.routes.x.retry.attempts: 0";
    let stack = |more: &str| format!("services:\n  a:\n    deploy: {{labels: {{{labels}{more}}}}}");
    let rivals =
        "error: service `a`: its route `x` claims host `a.test` with path `/`, as service `a` does";
    assert_eq!(problems("a.yml", &stack("")), [rivals]);
    assert_eq!(problems("a.yml", &stack(", hiveway.routes.x.priority: 1")), [""; 0]);
    assert_eq!(problems("a.yml", &stack(", hiveway.routes.x.header.a: b")), [""; 0]);
}
