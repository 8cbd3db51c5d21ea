use std::path::Path;

use pushbutton_core::{HumanDuration, Trigger};
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by serde")]
struct Sample {
    name: String,
    port: u16,
    #[serde(default)]
    wait: HumanDuration,
    #[serde(default)]
    list: Vec<u8>,
    inner: Inner,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by serde")]
struct Inner {
    password: String,
}

fn faults<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let env = |name: &str| match name {
        "PORT" => Some("29418".to_owned()),
        "WAIT" => Some("s3cret".to_owned()),
        _ => None,
    };
    let mut tree = Tree::read(text, Path::new("/x/a.yml"), &env).unwrap();
    let value = read::<T>(&mut tree, &KeyPath::top().key("s"));
    match tree.verdict() {
        Ok(()) => {
            assert!(value.is_some());
            Vec::new()
        }
        Err(faults) => {
            assert!(value.is_none());
            faults.to_string().lines().map(|line| line.trim_start_matches("/x/a.yml:").to_owned()).collect()
        }
    }
}

#[test]
fn a_well_formed_section_is_read_and_a_reference_may_be_a_number() {
    let text = "s:\n  name: a\n  port: ${PORT}\n  inner: {password: x}\n";
    assert_eq!(faults::<Sample>(text), Vec::<String>::new());
}

#[test]
fn every_fault_is_found_with_its_line() {
    let text = "s:\n  nmae: a\n  port: many\n  wait: soon\n  list:\n    - 1\n    - no\n  inner:\n    password: 12345\n    user: x\n";
    assert_eq!(
        faults::<Sample>(text),
        [
            "1: s.name: this key is missing; add it below s",
            "2: s.nmae: unknown key; did you mean \"name\"?",
            "3: s.port: text, where a number belongs",
            "4: s.wait: \"soon\" is not a duration such as 90s, 45m or 2h 30m",
            "7: s.list[1]: text, where a number belongs",
            "9: s.inner.password: a number, where text belongs; put it in quotes",
            "10: s.inner.user: unknown key; known are password",
            "7 faults: nothing was started",
        ]
    );
}

#[test]
fn several_missing_keys_are_all_named() {
    let faults = faults::<Sample>("s: {}\n");
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(["s.name", "s.port", "s.inner"].iter().all(|key| faults.iter().any(|fault| fault.contains(key))));
}

#[test]
fn values_that_may_be_secret_are_not_shown() {
    let text = "s:\n  name: a\n  port: 99999\n  wait: ${WAIT}\n  inner: {password: [a, 777777]}\n";
    let faults = faults::<Sample>(text).join("\n");
    assert!(!faults.contains("s3cret") && !faults.contains("777777"), "{faults}");
    assert!(faults.contains("s.wait: this value does not fit"), "{faults}");
}

#[test]
fn a_trigger_s_condition_is_read_and_explained() {
    let good = "s:\n  name: r\n  on: {comment: {pattern: ^recheck}}\n  jobs: [a]\n";
    assert_eq!(faults::<Trigger>(good), Vec::<String>::new());
    assert_eq!(
        faults::<Trigger>("s:\n  name: r\n  on: patchset-created\n  jobs: [a]\n"),
        Vec::<String>::new()
    );
    let text = "s:\n  name: r\n  on:\n    coment:\n      pattern: x\n  jobs: [a b]\n";
    let faults = faults::<Trigger>(text);
    assert!(faults[0].contains("\"coment\" is not known here; did you mean \"comment\"?"), "{faults:?}");
    assert!(faults[1].starts_with("6: s.jobs[0]: \"a b\" is not a job name"), "{faults:?}");
}
