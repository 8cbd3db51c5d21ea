use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushbutton_core::check::{Finding, Level};
use secrecy::ExposeSecret;

use crate::executor::AnsibleExecutor;
use crate::mask::SHORTEST;

/// The oldest ansible-core that this is made for: Debian 12's.
const OLDEST: (u32, u32) = (2, 14);
/// Starting Ansible takes about a second; parsing a large playbook some more.
const LIMIT: Duration = Duration::from_secs(60);

impl AnsibleExecutor {
    /// Looks whether stages can be run: the program and its version, the SSH client, and the syntax of these playbooks. Takes about a second for
    /// each playbook.
    pub async fn check(&self, playbooks: &[String]) -> Vec<Finding> {
        let mut findings = vec![self.check_version().await];
        if findings.iter().any(|finding| finding.level == Level::Fail) {
            return findings;
        }
        findings.push(self.check_ssh().await);
        for name in playbooks {
            findings.push(self.check_playbook(name).await);
        }
        for (name, secret) in &self.config.secrets {
            if secret.expose_secret().len() < SHORTEST {
                let what = format!(
                    "the secret {name} is shorter than {SHORTEST} characters and is not masked in logs"
                );
                findings.push(Finding::warn(what, "make it longer"));
            }
        }
        findings
    }

    async fn check_version(&self) -> Finding {
        let program = self.config.ansible_playbook.display();
        let remedy = "install ansible-core 2.14 or later, and say in `ansible.ansible_playbook` where its ansible-playbook is";
        match self.output(&["--version".as_ref()]).await {
            Err(error) => Finding::fail(format!("{program} does not run: {error}"), remedy),
            Ok((_, text)) => match version(&text) {
                Some(found) if found >= OLDEST => Finding::ok(text.lines().next().unwrap_or_default()),
                _ => Finding::fail(
                    format!("{program} is too old: {}", text.lines().next().unwrap_or_default()),
                    remedy,
                ),
            },
        }
    }

    async fn check_ssh(&self) -> Finding {
        let mut command = std::process::Command::new("ssh");
        command.arg("-V");
        match finished(command).await {
            Ok((true, text)) => Finding::ok(text.lines().next().unwrap_or_default()),
            _ => Finding::fail(
                "there is no SSH client",
                "install OpenSSH's client: Ansible reaches nodes with it",
            ),
        }
    }

    async fn check_playbook(&self, name: &str) -> Finding {
        let path = match self.playbook(name) {
            Ok(path) => path,
            Err(error) => {
                return Finding::fail(
                    format!("playbook {name}: {error}"),
                    "put it there, or mend the stage's `playbook`",
                );
            }
        };
        let arguments = ["--syntax-check", "--inventory", "localhost,"].map(Path::new);
        match self.output(&[&arguments[..], &[&path]].concat()).await {
            Ok((true, _)) => Finding::ok(format!("playbook {name}")),
            Ok((false, text)) => {
                let said = text
                    .lines()
                    .find(|line| line.contains("ERROR"))
                    .unwrap_or("see ansible-playbook --syntax-check");
                Finding::fail(format!("playbook {name}: {said}"), "mend the playbook")
            }
            Err(error) => Finding::fail(
                format!("playbook {name}: {error}"),
                "try ansible-playbook --syntax-check by hand",
            ),
        }
    }

    async fn output(&self, arguments: &[&Path]) -> Result<(bool, String), String> {
        let mut command = self.command();
        // Only stages have the callback plugin.
        command.env_remove("ANSIBLE_CALLBACKS_ENABLED").args(arguments);
        finished(command).await
    }
}

/// Whether it ended well, and what it printed.
async fn finished(command: std::process::Command) -> Result<(bool, String), String> {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| format!("no end within {LIMIT:?}"))?;
    let output = output.map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// The version in `ansible-playbook [core 2.18.1]`, or in `ansible-playbook 2.9.6` of old.
fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.lines().next()?.rsplit(' ').next()?.trim_end_matches(']');
    let mut parts = word.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_old_and_new_are_read() {
        assert_eq!(version("ansible-playbook [core 2.18.19]\n  config file = None\n"), Some((2, 18)));
        assert_eq!(version("ansible-playbook 2.9.6\n"), Some((2, 9)));
        assert_eq!(version("ansible-playbook [core 2.20.0b1]"), Some((2, 20)));
        assert_eq!(version("zsh: not found"), None);
    }
}
