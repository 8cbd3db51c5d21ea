//! Pushing changes and patch sets, as a developer does it with git.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Gerrit, encode};
use crate::process::run;

/// A patch set that was pushed, with the change that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The project's full name.
    pub project: String,
    /// The branch's short name.
    pub branch: String,
    /// The change's number.
    pub number: u64,
    /// The number of this patch set, from 1.
    pub patchset: u32,
    /// The commit, 40 hexadecimal digits.
    pub revision: String,
    /// `I` and 40 hexadecimal digits.
    pub change_id: String,
    /// `refs/changes/NN/NUMBER/PATCHSET`.
    pub reference: String,
    /// The first line of the commit message.
    pub subject: String,
}

impl Gerrit {
    /// Pushes a new change by `alice` with these files (path, content).
    pub fn push_change(&self, project: &str, branch: &str, files: &[(&str, &str)]) -> Change {
        self.push_change_as("alice", project, branch, "A change", files, "")
    }

    /// Pushes a new change. `options` goes behind the branch of the push, as `%wip` or `%topic=x`.
    pub fn push_change_as(
        &self,
        user: &str,
        project: &str,
        branch: &str,
        subject: &str,
        files: &[(&str, &str)],
        options: &str,
    ) -> Change {
        let change_id = format!("I{}", &random_hex()[..40]);
        self.push(user, project, branch, &format!("{subject}\n\nChange-Id: {change_id}\n"), files, options);
        self.current(project, branch, &change_id)
    }

    /// Pushes the next patch set of a change by `alice`: the branch's tip with these files.
    pub fn amend(&self, change: &Change, files: &[(&str, &str)]) -> Change {
        let message = format!("{}\n\nChange-Id: {}\n", change.subject, change.change_id);
        self.push("alice", &change.project, &change.branch, &message, files, "");
        self.current(&change.project, &change.branch, &change.change_id)
    }

    /// Pushes a commit by `alice` with this whole message: a new change, or the next patch set of the one whose Change-Id it has.
    pub fn push_message(&self, project: &str, branch: &str, message: &str, files: &[(&str, &str)]) -> Change {
        let id = message.lines().find_map(|line| line.strip_prefix("Change-Id: "));
        let id = id.expect("a Change-Id in the message").to_owned();
        self.push("alice", project, branch, message, files, "");
        self.current(project, branch, &id)
    }

    /// The commit at the head of a branch.
    pub fn branch_head(&self, project: &str, branch: &str) -> String {
        let path = format!("/projects/{}/branches/{}", encode(project), encode(branch));
        let head = self.rest("admin", "GET", &path, None);
        head["revision"].as_str().expect("a branch's head").to_owned()
    }

    /// Makes a branch at the head of `master`.
    pub fn create_branch(&self, project: &str, branch: &str) {
        let path = format!("/projects/{}/branches/{}", encode(project), encode(branch));
        self.rest("admin", "PUT", &path, Some(&serde_json::json!({"revision": "master"})));
    }

    /// What Gerrit says of a change and its current patch set.
    fn current(&self, project: &str, branch: &str, change_id: &str) -> Change {
        let path =
            format!("/changes/{}~{}~{change_id}/detail?o=CURRENT_REVISION", encode(project), encode(branch));
        let detail = self.rest("admin", "GET", &path, None);
        let text = |value: &Value| value.as_str().expect("a string in a change").to_owned();
        let revision = text(&detail["current_revision"]);
        let current = &detail["revisions"][&revision];
        Change {
            project: project.to_owned(),
            branch: branch.to_owned(),
            number: detail["_number"].as_u64().expect("a change's number"),
            patchset: current["_number"]
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .expect("a patch set's number"),
            reference: text(&current["ref"]),
            subject: text(&detail["subject"]),
            change_id: change_id.to_owned(),
            revision,
        }
    }

    fn push(
        &self,
        user: &str,
        project: &str,
        branch: &str,
        message: &str,
        files: &[(&str, &str)],
        options: &str,
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let host = self.http_url.trim_start_matches("http://");
        let remote = format!("http://{user}:secret@{host}/a/{project}");
        let git = |arguments: &[&str]| git(folder.path(), user, arguments);
        git(&["init", "-q"]);
        git(&["fetch", "-q", "--depth=1", &remote, branch]);
        git(&["reset", "-q", "--hard", "FETCH_HEAD"]);
        for (path, content) in files {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("the file's folder");
            std::fs::write(file, content).expect("the file");
        }
        git(&["add", "-A"]);
        git(&["commit", "-q", "--allow-empty", "-m", message]);
        git(&["push", "-q", &remote, &format!("HEAD:refs/for/{branch}{options}")]);
    }
}

fn git(folder: &Path, user: &str, arguments: &[&str]) -> String {
    let email = format!("{user}@example.org");
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        // The settings of the person who runs the tests (signing, hooks, templates) have no part in them.
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
        ])
        .envs([("GIT_AUTHOR_NAME", user), ("GIT_AUTHOR_EMAIL", &email)])
        .envs([("GIT_COMMITTER_NAME", user), ("GIT_COMMITTER_EMAIL", &email)])
        .args(arguments);
    run(&mut command, "")
}

/// 64 random hexadecimal digits.
fn random_hex() -> String {
    let uuid =
        || std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux").trim().replace('-', "");
    uuid() + &uuid()
}
