use std::path::Path;

use pushbutton_core::{HumanDuration, Trigger};
use serde::Deserialize;

use super::super::needs::Needs;
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

fn errors<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let env = |name: &str| match name {
        "PORT" => Some("29418".to_owned()),
        "WAIT" => Some("s3cret".to_owned()),
        _ => None,
    };
    let mut document = Document::read(text, Path::new("/x/a.yml"), Needs::ALL, &env).unwrap();
    let value = read::<T>(&mut document, &KeyPath::section("s"));
    match document.finish() {
        Ok(()) => {
            assert!(value.is_some());
            Vec::new()
        }
        Err(errors) => {
            assert!(value.is_none());
            errors.to_string().lines().map(|line| line.trim_start_matches("/x/a.yml:").to_owned()).collect()
        }
    }
}

#[test]
fn a_well_formed_section_is_read_and_a_reference_may_be_a_number() {
    let text = "s:\n  name: a\n  port: ${PORT}\n  inner: {password: x}\n";
    assert_eq!(errors::<Sample>(text), Vec::<String>::new());
}

#[test]
fn every_error_is_found_with_its_line() {
    let text = "s:\n  nmae: a\n  port: many\n  wait: soon\n  list:\n    - 1\n    - no\n  inner:\n    password: 12345\n    user: x\n";
    assert_eq!(
        errors::<Sample>(text),
        [
            "1: s.name: this key is missing; add it below s",
            "2: s.nmae: unknown key; did you mean \"name\"?",
            "3: s.port: text, where a number belongs",
            "4: s.wait: \"soon\" is not a duration such as 90s, 45m or 2h 30m",
            "7: s.list[1]: text, where a number belongs",
            "9: s.inner.password: a number, where text belongs; put it in quotes",
            "10: s.inner.user: unknown key; known are password",
            "7 errors: nothing was started",
        ]
    );
}

#[test]
fn several_missing_keys_are_all_named() {
    let errors = errors::<Sample>("s: {}\n");
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(["s.name", "s.port", "s.inner"].iter().all(|key| errors.iter().any(|error| error.contains(key))));
}

#[test]
fn values_that_may_be_secret_are_not_shown() {
    let text = "s:\n  name: a\n  port: 99999\n  wait: ${WAIT}\n  inner: {password: [a, 777777]}\n";
    let errors = errors::<Sample>(text).join("\n");
    assert!(!errors.contains("s3cret") && !errors.contains("777777"), "{errors}");
    assert!(errors.contains("s.wait: this value does not fit"), "{errors}");
}

#[test]
fn a_trigger_s_condition_is_read_and_explained() {
    let good = "s:\n  name: r\n  on: {comment: {pattern: ^recheck}}\n  jobs: [a]\n";
    assert_eq!(errors::<Trigger>(good), Vec::<String>::new());
    assert_eq!(
        errors::<Trigger>("s:\n  name: r\n  on: patchset-created\n  jobs: [a]\n"),
        Vec::<String>::new()
    );
    let text = "s:\n  name: r\n  on:\n    coment:\n      pattern: x\n  jobs: [a b]\n";
    let errors = errors::<Trigger>(text);
    assert!(errors[0].contains("\"coment\" is not known here; did you mean \"comment\"?"), "{errors:?}");
    assert!(errors[1].starts_with("6: s.jobs[0]: \"a b\" is not a job name"), "{errors:?}");
}
