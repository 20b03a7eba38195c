//! The targets of the fuzzer, with the inputs that are kept for them: seeds, and what once was wrong.

use std::path::Path;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Inputs that a target has at least.
const SEEDS: usize = 5;

#[test]
fn every_target_of_the_fuzzer_holds_for_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, _) in targets::TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(inputs.len() >= SEEDS, "{name} has {} inputs", inputs.len());
        for input in inputs {
            let input = input.unwrap().path();
            let bytes = std::fs::read(&input).unwrap();
            let outcome = std::panic::catch_unwind(|| targets::run(name, &bytes));
            assert!(outcome.is_ok(), "{}", input.display());
        }
    }
}

#[test]
fn every_target_of_the_fuzzer_has_its_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut names: Vec<_> =
        std::fs::read_dir(programs).unwrap().map(|at| at.unwrap().path()).collect();
    names.sort();
    let names: Vec<_> =
        names.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, targets::TARGETS.map(|(name, _)| name));
}
