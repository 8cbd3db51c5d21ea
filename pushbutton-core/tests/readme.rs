//! The code in the README is the code of the examples, which `cargo test` runs.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use std::path::Path;

/// The Rust code blocks of the README, in order.
fn blocks() -> Vec<&'static str> {
    let readme = include_str!("../README.md");
    readme.split("```rust\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_readme_shows_the_examples() {
    let [pipeline, provisioner] = blocks()[..] else { panic!("the README has two blocks of Rust") };
    let in_memory = example("in_memory.rs");
    let (_, code) = in_memory.split_once("\n\nuse ").unwrap();
    assert_eq!(pipeline, format!("use {}", code.trim_end()), "copy examples/in_memory.rs to the README");
    assert!(
        example("custom_provisioner.rs").contains(provisioner),
        "copy the provisioner of examples/custom_provisioner.rs to the README"
    );
}

#[test]
fn a_custom_provisioner_has_at_most_40_lines() {
    let (_, own) = blocks()[1].split_once("struct ").unwrap();
    assert!(own.lines().count() <= 40, "{} lines", own.lines().count());
}
