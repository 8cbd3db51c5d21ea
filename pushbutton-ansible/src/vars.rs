//! Variables as a YAML file for `--extra-vars @FILE`.
//!
//! Ansible expands templates in variables when they are used, so a change titled `{{ lookup('pipe', 'id') }}` would run a command on the
//! operator. Text from outside therefore carries the tag `!unsafe`, which Ansible takes as "never expand". What the operator's own
//! configuration sets is expanded as in any playbook.

use std::fmt::Write;

use pushbutton_core::{Result, StageContext};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::error::config;

/// The variable that holds what is known of the run.
const OURS: &str = "pushbutton";

/// The variables of a stage.
pub(crate) fn extra_vars(context: &StageContext) -> Result<String> {
    let mut text = String::from("---\n");
    write_entry(&mut text, OURS, &described(context), true);
    for (name, value) in &context.vars {
        check_name(name)?;
        write_entry(&mut text, name, value, false);
    }
    Ok(text)
}

/// The secrets, for a file of their own.
pub(crate) fn secret_vars<'a>(
    secrets: impl IntoIterator<Item = (&'a String, &'a SecretString)>,
) -> Result<String> {
    let mut text = String::from("---\n");
    for (name, value) in secrets {
        check_name(name)?;
        write_entry(&mut text, name, &Value::from(value.expose_secret()), true);
    }
    // A file without any is not "no variables" to Ansible, but a fault.
    if text.len() == "---\n".len() {
        text.push_str("{}\n");
    }
    Ok(text)
}

fn described(context: &StageContext) -> Value {
    let job = &context.job;
    json!({
        "run": context.run,
        "job": job.name,
        "change": {
            "project": job.change.project,
            "branch": job.change.branch,
            "number": job.change.number,
            "subject": job.change.subject,
            "url": job.change.url,
            "topic": job.change.topic,
        },
        "patchset": {
            "number": job.patchset.number,
            "revision": job.patchset.revision,
            "ref": job.patchset.git_ref,
        },
        "log_dir": context.log_dir,
        "log_url": context.log_url,
        "attempt": context.attempt,
        "failed_so_far": context.failed_so_far,
    })
}

/// What Ansible takes as a variable's name, without the one that is ours.
fn check_name(name: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name == OURS {
        return Err(config("a variable cannot be called pushbutton: that one holds the run; rename it"));
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
        return Err(config(
            "a variable's name is made of letters, digits and _, and starts with no digit; rename it",
        )
        .with("variable", name.escape_debug()));
    }
    Ok(())
}

fn write_entry(out: &mut String, name: &str, value: &Value, guarded: bool) {
    out.push_str(name);
    out.push_str(": ");
    write_value(out, value, guarded);
    out.push('\n');
}

/// YAML's flow style, which is JSON but for the tag and for what YAML's readers refuse.
fn write_value(out: &mut String, value: &Value, guarded: bool) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => {
            if guarded {
                out.push_str("!unsafe ");
            }
            write_text(out, text);
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_value(out, item, guarded);
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Object(fields) => write_object(out, fields, guarded),
    }
}

fn write_object(out: &mut String, fields: &Map<String, Value>, guarded: bool) {
    out.push('{');
    for (name, value) in fields {
        write_text(out, name);
        out.push_str(": ");
        write_value(out, value, guarded);
        out.push_str(", ");
    }
    out.push('}');
}

/// YAML 1.1 takes `1e300` for text: it wants a point and a sign.
fn write_number(out: &mut String, number: &serde_json::Number) {
    let text = number.to_string();
    match text.split_once('e') {
        Some((digits, power)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if power.starts_with(['-', '+']) { "" } else { "+" };
            let _ = write!(out, "{digits}{point}e{sign}{power}");
        }
        None => out.push_str(&text),
    }
}

/// A quoted string in plain ASCII: PyYAML refuses some characters even when quoted.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ if (c as u32) <= 0xffff => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Value, guarded: bool) -> String {
        let mut out = String::new();
        write_value(&mut out, &value, guarded);
        out
    }

    #[test]
    fn text_from_outside_is_tagged_at_every_depth() {
        let value = json!({"subject": "{{ 1+1 }}", "list": ["a", 1]});
        assert_eq!(
            written(value.clone(), true),
            r#"{"list": [!unsafe "a", 1, ], "subject": !unsafe "{{ 1+1 }}", }"#
        );
        assert!(!written(value, false).contains("!unsafe"));
    }

    #[test]
    fn text_is_written_in_ascii_and_cannot_end_its_quotes() {
        assert_eq!(
            written(json!("a\"\\\n\u{7f}é😀\u{2028}"), false),
            r#""a\"\\\u000a\u007f\u00e9\U0001f600\u2028""#
        );
    }

    #[test]
    fn numbers_stay_numbers_in_yaml() {
        assert_eq!(written(json!([1, -2, 1.5, 1e300]), false), "[1, -2, 1.5, 1.0e+300, ]");
    }

    #[test]
    fn names_that_ansible_would_refuse_are_refused_first() {
        for name in ["pushbutton", "", "1x", "a-b", "a b", "a.b", "é"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("tempest_regex").is_ok());
    }
}
