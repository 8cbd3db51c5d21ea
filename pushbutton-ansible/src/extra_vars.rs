//! Variables as a YAML file for `--extra-vars @FILE`.
//!
//! Ansible expands templates in variables when they are used, so a change titled `{{ lookup('pipe', 'id') }}` would run
//! a command on the operator. Text from outside therefore has the tag `!unsafe`, which tells Ansible never to expand
//! it. Variables of the operator's own configuration are expanded as in any playbook.

use std::io;

use pushbutton_core::{Error, ErrorKind, Job, Result, StageContext};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Value, json};

use crate::error::config;
use crate::inventory::SSH_COMMON_ARGS;

/// The variable that describes the run.
const RUN_VARIABLE: &str = "pushbutton";

/// The variables of a stage.
pub(crate) fn extra_vars(context: &StageContext) -> Result<String> {
    let mut text = entry(RUN_VARIABLE, &run_variable(context), true)?;
    for (name, value) in &context.vars {
        check_name(name)?;
        text.push_str(&entry(name, value, false)?);
    }
    Ok(text)
}

/// The secrets, for a file of their own.
pub(crate) fn secret_vars<'a>(
    secrets: impl IntoIterator<Item = (&'a String, &'a SecretString)>,
) -> Result<String> {
    let mut text = String::new();
    for (name, value) in secrets {
        check_name(name)?;
        text.push_str(&entry(name, value.expose_secret(), true)?);
    }
    // Ansible refuses an empty file.
    Ok(if text.is_empty() { "{}\n".into() } else { text })
}

fn run_variable(context: &StageContext) -> Value {
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
        "items": items(job),
        "log_dir": context.log_dir,
        "log_url": context.log_url,
        "attempt": context.attempt,
        "failed_so_far": context.failed_so_far,
    })
}

/// What the test is made of, in the order in which it applies, as Zuul's `zuul.items`: the dependencies, then the change.
fn items(job: &Job) -> Value {
    let dependencies = job.dependencies.iter().map(|dependency| {
        json!({
            "kind": dependency.kind,
            "project": dependency.project,
            "branch": dependency.branch,
            "change": dependency.change,
            "patchset": dependency.patchset,
            "ref": dependency.git_ref,
            "commit": dependency.revision,
        })
    });
    let change = json!({
        "kind": "change",
        "project": job.change.project,
        "branch": job.change.branch,
        "change": job.change.number,
        "patchset": job.patchset.number,
        "ref": job.patchset.git_ref,
        "commit": job.patchset.revision,
    });
    dependencies.chain([change]).collect()
}

/// Whether Ansible takes this as a variable's name, and it is not the run's.
fn check_name(name: &str) -> Result<()> {
    if name == SSH_COMMON_ARGS {
        let message = "ansible_ssh_common_args of a job would replace what pins the nodes' host keys; set it in `vars` of the node, or use ansible_ssh_extra_args";
        return Err(config(message));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name == RUN_VARIABLE {
        return Err(config("a variable cannot be called pushbutton: that one describes the run; rename it"));
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_allowed) {
        let message =
            "a variable's name is made of letters, digits and _, and does not start with a digit; rename it";
        return Err(config(message).with("variable", name.escape_debug()));
    }
    Ok(())
}

/// One `name: value` line. With `tagged`, all text in the value is tagged `!unsafe`.
fn entry(name: &str, value: &(impl Serialize + ?Sized), tagged: bool) -> Result<String> {
    let mut line = format!("{name}: ").into_bytes();
    let formatter = YamlFormatter { tagged, in_key: false };
    value
        .serialize(&mut Serializer::with_formatter(&mut line, formatter))
        .map_err(|error| Error::permanent(ErrorKind::Unexpected, "cannot write a variable").because(error))?;
    line.push(b'\n');
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// YAML's flow style: JSON, except for the tag, for numbers, and for characters that PyYAML refuses even in quotes.
struct YamlFormatter {
    tagged: bool,
    in_key: bool,
}

impl Formatter for YamlFormatter {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.in_key = true;
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.in_key = false;
        writer.write_all(b": ")
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.tagged && !self.in_key { b"!unsafe \"" } else { b"\"" })
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        for c in text.chars() {
            match c as u32 {
                0x20..=0x7e => write!(writer, "{c}")?,
                code @ ..=0xffff => write!(writer, "\\u{code:04x}")?,
                code => write!(writer, "\\U{code:08x}")?,
            }
        }
        Ok(())
    }

    /// YAML 1.1 reads `1e300` as text: it needs a point and a sign.
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        let text = format!("{number:?}");
        let Some((digits, exponent)) = text.split_once('e') else { return write!(writer, "{text}") };
        let point = if digits.contains('.') { "" } else { ".0" };
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        write!(writer, "{digits}{point}e{sign}{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use pushbutton_core::samples;

    use super::*;

    fn written(value: Value, tagged: bool) -> String {
        entry("x", &value, tagged).unwrap().strip_prefix("x: ").unwrap().trim_end().to_owned()
    }

    #[test]
    fn text_from_outside_is_tagged_at_every_depth() {
        let value = json!({"subject": "{{ 1+1 }}", "list": ["a", 1, {"b": "c"}]});
        assert_eq!(
            written(value.clone(), true),
            r#"{"list": [!unsafe "a",1,{"b": !unsafe "c"}], "subject": !unsafe "{{ 1+1 }}"}"#
        );
        assert!(!written(value, false).contains("!unsafe"));
    }

    #[test]
    fn text_is_written_in_ascii_and_cannot_end_its_quotes() {
        assert_eq!(
            written(json!("a\"\\\n\u{1}\u{7f}é😀\u{2028}"), false),
            r#""a\"\\\n\u0001\u007f\u00e9\U0001f600\u2028""#
        );
    }

    #[test]
    fn the_items_are_the_dependencies_in_their_order_and_then_the_change() {
        let job = samples::job("x").with_dependencies(vec![samples::dependency(7), samples::dependency(8)]);
        let items = items(&job);
        let changes: Vec<_> = items.as_array().unwrap().iter().map(|item| item["change"].clone()).collect();
        assert_eq!(changes, [7, 8, 12345]);
        let commit = format!("{:040x}", 7);
        let first = json!({
            "kind": "depends-on", "project": "openstack/nova", "branch": "master", "change": 7, "patchset": 1,
            "ref": "refs/changes/07/7/1", "commit": commit,
        });
        assert_eq!((&items[0], &items[2]["kind"]), (&first, &json!("change")));
    }

    /// Issue 10, H6.
    #[test]
    fn h6_a_job_cannot_replace_the_arguments_that_pin_host_keys() {
        let error = check_name(SSH_COMMON_ARGS).unwrap_err();
        assert!(error.to_string().contains("ansible_ssh_extra_args"), "{error}");
        assert!(check_name("ansible_ssh_extra_args").is_ok());
    }

    #[test]
    fn numbers_stay_numbers_in_yaml() {
        assert_eq!(written(json!([1, -2, 1.5, 1e300, 2.5e-9]), false), "[1,-2,1.5,1.0e+300,2.5e-9]");
    }

    #[test]
    fn names_that_ansible_would_refuse_are_refused_first() {
        for name in ["pushbutton", "", "1x", "a-b", "a b", "a.b", "é"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("tempest_regex").is_ok());
    }
}
