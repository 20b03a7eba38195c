//! The documents agree with the code: what they list is rendered from the tables that drive it.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in the README between `<!-- name -->` and `<!-- end of name -->`. What ought to stand
/// there is left in a file, so that it can be taken over.
fn check_readme(name: &str, expected: &str) {
    let readme = read("README.md");
    let begin = format!("<!-- {name} -->\n");
    let (_, rest) = readme.split_once(&begin).expect("the section begins");
    let (section, _) = rest.split_once(&format!("<!-- end of {name} -->")).expect("and ends");
    if section != expected {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.md"));
        std::fs::write(&file, expected).unwrap();
        panic!("the section {name} of README.md is out of date; put in {}", file.display());
    }
}

#[test]
fn the_readme_lists_the_labels_that_are_read() {
    check_readme("labels", &hiveway::labels::reference());
}

#[test]
fn the_readme_lists_the_metrics_that_are_told() {
    check_readme("metrics", &hiveway::metrics::reference());
}

#[test]
fn the_three_commands_of_the_readme_are_there() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "./check", "./swarm-up"] {
        assert!(readme.contains(command), "{command}");
    }
}

#[test]
fn every_module_stands_on_the_map() {
    let map = read("ARCHITECTURE.md");
    let modules = read("src/lib.rs");
    for module in modules.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let name = module.trim_end_matches(';');
        let named = [format!("`{name}`"), format!("`{name}/*`")];
        assert!(named.iter().any(|name| map.contains(name)), "{name} is not on the map");
    }
}

#[test]
fn the_labels_of_every_example_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let directories = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let files = directories.filter(|path| path.is_dir()).flat_map(|directory| {
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|name| name == "yml"))
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() >= 4, "{files:?}");
    let mut said = Vec::new();
    let good = hiveway::check::check(&files, &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(good && said.contains("0 errors, 0 warnings"), "{said}");
}

/// Whether the stack file and the Dockerfile start what exists.
#[test]
fn the_stack_runs_commands_that_exist() {
    let stack = read("docker-stack.single.yml");
    assert!(stack.contains(r#"command: ["edge"]"#), "{stack}");
    assert!(stack.contains(r#"["CMD", "/hiveway", "healthcheck"]"#), "{stack}");
}
