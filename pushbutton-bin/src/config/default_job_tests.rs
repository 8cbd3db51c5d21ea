//! The job that `init` writes, on the playbooks that are shipped: its first stage runs for real, on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pushbutton_ansible::{AnsibleConfig, AnsibleExecutor};
use pushbutton_core::LineSink;
use pushbutton_core::{Executor, Node, OnFailure, StageStatus};
use pushbutton_testkit::conformance::execute::context_at;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;

/// A folder on the "node" that is removed whatever happens.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn default_job(place: &Path) -> JobSpec {
    for name in ["key", "clouds.yaml"] {
        fs::write(place.join(name), "").unwrap();
    }
    std::os::unix::fs::symlink(playbooks(), place.join("playbooks")).unwrap();
    let env = |name: &str| match name {
        "GERRIT_KEY" => Some("key".to_owned()),
        "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
        _ => None,
    };
    let config = parse(DEFAULT, &place.join("pushbutton.yml"), true, &env).unwrap();
    config.jobs.into_values().next().unwrap()
}

fn playbooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks")
}

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-C", folder.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@example.org"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(folder: &Path, files: &[(&str, &str)]) -> String {
    fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q", "-b", "master"]);
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "a commit"]);
    git(folder, &["rev-parse", "HEAD"])
}

#[test]
fn what_comes_over_the_network_comes_in_a_stage_that_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let job = default_job(folder.path());
    let stages: Vec<_> = job.stages.iter().map(|stage| (stage.playbook.as_str(), stage.on_failure)).collect();
    let expected = [("prepare_node.yml", OnFailure::Retry), ("install_devstack.yml", OnFailure::Fail)];
    assert_eq!(stages[..2], expected);
    assert_eq!(job.vars["checkout_patchset_url"], "https://review.opendev.org");
}

#[tokio::test]
async fn the_default_jobs_first_stage_puts_the_patch_set_and_devstack_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let job = default_job(folder.path());
    let mut context = context_at(path("logs"));
    fs::create_dir(&context.log_dir).unwrap();
    let _source = Removed(format!("/var/tmp/pushbutton-{}", context.run).into());

    let project = path("git").join(context.job.change.project.as_str());
    commit(&project, &[("kept.py", "1\n"), ("setup.cfg", "1\n")]);
    git(&project, &["tag", "-a", "-m", "a release", "25.0.0"]);
    let revision = commit(&project, &[("kept.py", "1\n2\n")]);
    git(&project, &["update-ref", context.job.patchset.git_ref.as_str(), "HEAD"]);
    context.job.patchset.revision = revision.parse().unwrap();
    commit(&path("git/openstack/devstack"), &[("stack.sh", "#!/bin/sh\n")]);
    // What an image or an earlier run has left where the project goes.
    let stack = path("stack");
    commit(&stack.join("cinder"), &[("stale.py", "")]);
    commit(&stack.join("devstack"), &[("stale.sh", "")]);

    context.vars = job.vars.clone();
    let url = |name: &str| format!("file://{}", path(name).display());
    for (name, value) in [
        // Our own servers instead of the real ones, and not the folder of a real devstack.
        ("checkout_patchset_url", url("git")),
        ("install_devstack_url", url("git/openstack/devstack")),
        ("install_devstack_dest", stack.display().to_string()),
        // This machine's package sources are not ours.
        ("prepare_node_update_cache", "false".into()),
    ] {
        context.vars.insert(name.into(), value.into());
    }
    let ansible_playbook = pushbutton_testbed::ansible_bin().join("ansible-playbook");
    let config = AnsibleConfig::new(playbooks()).with_ansible_playbook(ansible_playbook);
    let executor = AnsibleExecutor::new(config, &path("state")).unwrap();
    let node: Node = serde_json::from_value(json!({
        "id": "1", "name": "node", "label": "devstack", "local": true, "address": "localhost", "port": 22, "user": "root"
    }))
    .unwrap();
    let (sink, _) = LineSink::bounded(2);
    let outcome =
        executor.execute(&job.stages[0], &[node], &context, &sink, &CancellationToken::new()).await.unwrap();
    let console = fs::read_to_string(context.log_dir.join("console.log")).unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{console}");

    let tree = stack.join("cinder");
    assert_eq!(git(&tree, &["rev-parse", "HEAD"]), revision);
    assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
    assert_eq!(fs::read_to_string(tree.join("kept.py")).unwrap(), "1\n2\n");
    // pbr makes the version from the tag.
    assert!(git(&tree, &["describe"]).starts_with("25.0.0-1-g"));
    let patchset = fs::read_to_string(context.log_dir.join("patchset.txt")).unwrap();
    assert!(patchset.ends_with("\n\n kept.py | 1 +\n 1 file changed, 1 insertion(+)\n"), "{patchset}");
    let devstack = fs::read_dir(stack.join("devstack")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut devstack: Vec<_> = devstack.collect();
    devstack.sort();
    assert_eq!(devstack, [".git", "stack.sh"]);
}
