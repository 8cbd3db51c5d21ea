use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::check::{Check, Finding};
use secrecy::ExposeSecret;

use crate::command::resolve_playbook;
use crate::executor::AnsibleExecutor;
use crate::redact::MIN_SECRET;

/// The oldest supported ansible-core: Debian 12's.
const OLDEST: (u32, u32) = (2, 14);
/// For one program. Starting Ansible takes about a second; parsing a large playbook takes some more.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Checks the program and its version, the SSH client, the secrets, and the syntax of the playbooks that
/// [`AnsibleExecutor::with_checked_playbooks`] names. Takes about a second for each playbook.
#[async_trait]
impl Check for AnsibleExecutor {
    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self.check_version().await {
            Ok(finding) => findings.push(finding),
            Err(finding) => return vec![finding],
        }
        findings.push(check_ssh().await);
        for name in &self.checked_playbooks {
            findings.push(self.check_playbook(name).await);
        }
        for (name, secret) in &self.config.secrets {
            if secret.expose_secret().len() < MIN_SECRET {
                let what = format!(
                    "the secret {name} is shorter than {MIN_SECRET} characters and is not redacted in logs"
                );
                findings.push(Finding::warn(what, "make it longer"));
            }
        }
        findings
    }
}

impl AnsibleExecutor {
    async fn check_version(&self) -> Result<Finding, Finding> {
        let program = self.config.ansible_playbook.display();
        let fail = |problem: String| {
            let remedy = "install ansible-core 2.14 or later, and set `ansible.ansible_playbook` to its ansible-playbook";
            Finding::fail(format!("{program} {problem}"), remedy)
        };
        let ran = self.output(&["--version".as_ref()]).await;
        let (_, text) = ran.map_err(|error| fail(format!("does not run: {error}")))?;
        match version(&text) {
            Some(found) if found >= OLDEST => Ok(Finding::ok(first_line(&text))),
            _ => Err(fail(format!("is too old: {}", first_line(&text)))),
        }
    }

    async fn check_playbook(&self, name: &str) -> Finding {
        let path = match resolve_playbook(&self.playbooks, name) {
            Ok(path) => path,
            Err(error) => {
                let remedy = "put it there, or fix the stage's `playbook`";
                return Finding::fail(format!("playbook {name}: {error}"), remedy);
            }
        };
        let arguments = ["--syntax-check", "--inventory", "localhost,"].map(Path::new);
        match self.output(&[&arguments[..], &[&path]].concat()).await {
            Ok((true, _)) => Finding::ok(format!("playbook {name}")),
            Ok((false, text)) => {
                let error = text.lines().find(|line| line.contains("ERROR"));
                let error = error.unwrap_or("see ansible-playbook --syntax-check");
                Finding::fail(format!("playbook {name}: {error}"), "fix the playbook")
            }
            Err(error) => Finding::fail(
                format!("playbook {name}: {error}"),
                "try ansible-playbook --syntax-check by hand",
            ),
        }
    }

    async fn output(&self, arguments: &[&Path]) -> Result<(bool, String), String> {
        let files = self.check_files().map_err(|error| error.to_string())?;
        let mut command = self.command();
        command.envs(self.module_environment(&files));
        // The callback plugin exists only while a stage runs.
        command.env_remove("ANSIBLE_CALLBACKS_ENABLED").args(arguments);
        output(command).await
    }
}

async fn check_ssh() -> Finding {
    let mut command = std::process::Command::new("ssh");
    command.arg("-V");
    match output(command).await {
        Ok((true, text)) => Finding::ok(first_line(&text)),
        _ => Finding::fail(
            "there is no SSH client",
            "install the OpenSSH client: Ansible reaches nodes with it",
        ),
    }
}

/// Runs the command; returns whether it succeeded, and what it printed.
async fn output(command: std::process::Command) -> Result<(bool, String), String> {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(TIMEOUT, command.output()).await;
    let output =
        output.map_err(|_| format!("no end within {TIMEOUT:?}"))?.map_err(|error| error.to_string())?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The version in `ansible-playbook [core 2.18.1]`, or in the older `ansible-playbook 2.9.6`.
fn version(text: &str) -> Option<(u32, u32)> {
    let version = text.lines().next()?.rsplit(' ').next()?.trim_end_matches(']');
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_versions_are_parsed() {
        assert_eq!(version("ansible-playbook [core 2.18.19]\n  config file = None\n"), Some((2, 18)));
        assert_eq!(version("ansible-playbook 2.9.6\n"), Some((2, 9)));
        assert_eq!(version("ansible-playbook [core 2.20.0b1]"), Some((2, 20)));
        assert_eq!(version("zsh: not found"), None);
    }

    #[test]
    fn the_debian_package_asks_for_the_same_version() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../pushbutton-bin/Cargo.toml");
        let recommended = format!("\"ansible-core (>= {}.{}), ", OLDEST.0, OLDEST.1);
        assert!(std::fs::read_to_string(manifest).unwrap().contains(&recommended), "{recommended}");
    }
}
