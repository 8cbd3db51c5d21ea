//! Stages on nodes behind a real sshd.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{TestRun, config, host_keys_of, ssh_node, sshd};
use pushbutton_core::{Node, StageOutcome, StageStatus};
use pushbutton_testbed::{Sshd, SshdOptions};

/// Runs a stage on a node that has another host key now. ssh refuses it; when ssh exits before Ansible has written the
/// module to its stdin, Ansible reports only the broken pipe, and the stage is run again.
async fn assert_host_key_is_refused(run: &TestRun, nodes: &[Node]) {
    for _ in 0..5 {
        let outcome = run.playbook("passes.yml", nodes).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}");
        let detail = outcome.detail.unwrap();
        if !detail.contains("Broken pipe") {
            assert!(detail.contains("another host key"), "{detail}");
            return;
        }
    }
    panic!("ansible never reported ssh's message");
}

#[tokio::test]
async fn a_node_with_the_pinned_key_is_used_and_one_with_another_is_not() {
    let mut server = sshd();
    let nodes = ssh_node(&server, &host_keys_of(&server));
    let run = TestRun::new(config());
    let outcome = run.playbook("passes.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    server.change_host_key();
    assert_host_key_is_refused(&run, &nodes).await;
}

#[tokio::test]
async fn a_key_accepted_at_first_contact_is_pinned_for_the_run() {
    let mut server = sshd();
    let nodes = ssh_node(&server, &[]);
    let run = TestRun::new(config());
    let outcome = run.playbook("passes.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    server.change_host_key();
    assert_host_key_is_refused(&run, &nodes).await;
}

/// Reports.md 6: sshd answers, but pam_nologin refuses logins while the system boots.
#[tokio::test]
async fn report_6_a_login_that_is_refused_at_first_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let attempts = folder.path().join("attempts");
    let script = format!(
        "echo x >> {0}\nif [ -d {0} ] || [ $(wc -l < {0}) -le 3 ]; then\necho 'System is booting up. Unprivileged users are not permitted to log in yet.' >&2\nexit 255\nfi\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"",
        attempts.display()
    );
    let server = Sshd::start(&SshdOptions { forced_command: Some(script), ..SshdOptions::default() });
    let nodes = ssh_node(&server, &host_keys_of(&server));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks");
    let mut run = TestRun::new(config().with_roles_path([shipped.join("roles")]));
    run.context.vars.insert("prepare_node_login_delay".into(), 0.into());
    let outcome = run.playbook("waits_for_a_login.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    assert!(std::fs::read_to_string(&attempts).unwrap().lines().count() > 3);

    // A node that refuses logins for longer is no fault of the patch.
    std::fs::remove_file(&attempts).unwrap();
    std::fs::create_dir(&attempts).unwrap();
    run.context.vars.insert("prepare_node_login_timeout".into(), 1.into());
    let outcome = run.playbook("waits_for_a_login.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", run.console());

    for playbook in ["prepare_node.yml", "demo/prepare.yml"] {
        let text = std::fs::read_to_string(shipped.join(playbook)).unwrap();
        let first = text.split_once("pre_tasks:").unwrap().1;
        assert!(
            first.find("tasks_from: wait").unwrap() < first.find("record-environment").unwrap(),
            "{playbook}"
        );
    }
}

/// Runs the playbook and kills the node's sshd, with all its connections, once a task has made the marker.
async fn run_while_the_node_dies(playbook: &str) -> (StageOutcome, TestRun) {
    let mut server = sshd();
    let nodes = ssh_node(&server, &host_keys_of(&server));
    let mut run = TestRun::new(config());
    let marker = run.folder.path().join("marker");
    run.context.vars.insert("marker".into(), marker.to_str().unwrap().into());
    let dying = async {
        while !marker.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.kill9();
        std::fs::write(marker.with_extension("dead"), "").unwrap();
        std::future::pending::<()>().await
    };
    let outcome = tokio::select! {
        outcome = run.playbook(playbook, &nodes) => outcome.unwrap(),
        () = dying => unreachable!(),
    };
    (outcome, run)
}

#[tokio::test]
async fn a_node_that_dies_during_a_task_is_unreachable() {
    let (outcome, run) = run_while_the_node_dies("runs_until_the_node_dies.yml").await;
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", run.console());
}

#[tokio::test]
async fn a_task_that_fails_while_the_node_is_dead_does_not_count_against_the_patch() {
    let (outcome, run) = run_while_the_node_dies("fails_after_the_node_died.yml").await;
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", run.console());
    assert_eq!(
        outcome.detail.as_deref(),
        Some(r#"node does not answer any more, after: task "Run the tests" on localhost (for node): exit 3"#)
    );
}

#[tokio::test]
async fn a_task_that_fails_on_a_running_node_is_a_failure() {
    let server = sshd();
    let run = TestRun::new(config());
    let outcome = run.playbook("fails.yml", &ssh_node(&server, &host_keys_of(&server))).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", run.console());
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Run the tests" on node: exit 3: two tests failed"#));
}

/// A node sends the result of each module that runs there, with whatever keys it likes.
#[tokio::test]
async fn facts_that_a_node_sends_do_not_replace_the_defaults_of_roles() {
    let server = sshd();
    let run = TestRun::new(config());
    let outcome = run.playbook("sends_facts.yml", &ssh_node(&server, &host_keys_of(&server))).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
}

#[tokio::test]
async fn statistics_that_a_node_sends_do_not_set_the_log_url() {
    let server = sshd();
    let nodes = ssh_node(&server, &host_keys_of(&server));
    let mut run = TestRun::new(config());
    let outcome = run.playbook("forges_the_log_url.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    assert_eq!(outcome.log_url, None);

    run.context.vars.insert("honest_url".into(), "https://logs.example.org/1/".into());
    let outcome = run.playbook("forges_the_log_url.yml", &nodes).await.unwrap();
    assert_eq!(outcome.log_url.as_deref(), Some("https://logs.example.org/1/"));

    let urls = ["https://logs.example.org/2/", "https://logs.example.org/3/"];
    run.context.vars.insert("honest_urls".into(), urls.as_slice().into());
    let outcome = run.playbook("forges_the_log_url.yml", &nodes).await.unwrap();
    assert_eq!(outcome.log_url.as_deref(), Some("https://logs.example.org/3/"));
}
