//! What is not the patch's fault, with a real ansible-playbook: hosts that are no nodes, plays without hosts, results
//! that contradict the exit status, bytes that are not UTF-8, and a broken operator's host. Issue 10, V4, V5, V7.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{TestRun, config, label, local_node};
use pushbutton_ansible::AnsibleConfig;
use pushbutton_core::{Error, ErrorKind, Node, StageStatus, TestCounts};
use serde_json::{Value, json};
use subunit::types::{event::Event, teststatus::TestStatus};

/// A port of the loopback that refuses connections.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run_with(vars: &[(&str, Value)]) -> TestRun {
    let mut run = TestRun::new(config());
    run.context.vars.insert("dead_port".into(), dead_port().into());
    run.context.vars.extend(vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    run
}

/// Issue 10, V4: the log server of `publish.yml` is down.
#[tokio::test]
async fn v4_an_unreachable_delegated_host_is_a_failure_and_no_lost_node() {
    for (hosts, delegates) in
        [("nodes", json!(["logs"])), ("localhost", json!(["logs"])), ("nodes", json!(["node", "logs"]))]
    {
        let run = run_with(&[("play_hosts_pattern", hosts.into()), ("delegates", delegates.clone())]);
        let outcome = run.playbook("unreachable_log_server.yml", &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Failed, "{delegates}: {outcome:?}\n{}", run.console());
        let detail = outcome.detail.unwrap();
        let host = if hosts == "nodes" { "node" } else { "localhost" };
        assert!(detail.contains(&format!("on logs (for {host})")) && detail.contains("refused"), "{detail}");
    }
}

#[tokio::test]
async fn v4_an_unreachable_added_host_is_a_failure_and_no_lost_node() {
    let run = run_with(&[]);
    let outcome = run.playbook("added_host.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", run.console());
    assert!(outcome.detail.as_ref().is_some_and(|detail| detail.contains("on array")), "{outcome:?}");
}

#[tokio::test]
async fn v4_a_node_that_a_task_is_delegated_to_is_still_a_node() {
    let run = run_with(&[("play_hosts_pattern", "localhost".into()), ("delegates", json!(["node"]))]);
    let node = Node::ssh("node", label(), "127.0.0.1", "nobody").with_port(dead_port());
    let outcome = run.playbook("unreachable_log_server.yml", &[node]).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", run.console());
}

/// Issue 10, V5: the test play has a typo in `hosts:`.
#[tokio::test]
async fn v5_a_play_without_hosts_beside_one_with_hosts_is_an_error_of_the_configuration() {
    let error = TestRun::new(config()).playbook("a_play_without_hosts.yml", &local_node()).await.unwrap_err();
    assert_eq!((error.kind(), error.context("hosts")), (ErrorKind::Config, Some("label_other")), "{error}");
    let run = TestRun::new(config().with_allow_no_hosts(["label_other".to_owned()]));
    let outcome = run.playbook("a_play_without_hosts.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}");
}

/// Reports.md 3: `stestr run --subunit` that exits with 0 in any case.
#[tokio::test]
async fn report_3_failed_tests_and_exit_0_are_a_failure_that_says_so() {
    let mut run = TestRun::new(config());
    let tests = [("a", TestStatus::Success), ("b", TestStatus::Failed), ("c", TestStatus::InProgress)];
    let packets = tests.map(|(id, status)| Event::new(status).test_id(id).build().to_vec().unwrap());
    let stream = run.folder.path().join("three-tests.subunit");
    fs::write(&stream, packets.concat()).unwrap();
    run.context.vars.insert("stream".into(), stream.to_str().unwrap().into());
    let outcome = run.playbook("hides_failed_tests.yml", &local_node()).await.unwrap();
    assert_eq!((outcome.status, outcome.tests), (StageStatus::Failed, Some(TestCounts::new(1, 2, 0))));
    let detail = outcome.detail.unwrap();
    assert!(detail.contains("exit status and results disagree") && detail.contains("2 tests"), "{detail}");
}

/// A full disk of the node cuts results: the lost part may hold failures, or none.
#[tokio::test]
async fn a_stage_that_passes_with_cut_results_is_a_fault_of_the_lab_and_says_so() {
    let mut run = TestRun::new(config());
    let packets = [("a", TestStatus::Success), ("b", TestStatus::InProgress), ("c", TestStatus::Success)]
        .map(|(id, status)| Event::new(status).test_id(id).build().to_vec().unwrap())
        .concat();
    let stream = run.folder.path().join("cut.subunit");
    fs::write(&stream, &packets[..packets.len() - 3]).unwrap();
    run.context.vars.insert("stream".into(), stream.to_str().unwrap().into());
    let outcome = run.playbook("hides_failed_tests.yml", &local_node()).await.unwrap();
    assert_eq!((outcome.status, outcome.tests), (StageStatus::Failed, Some(TestCounts::new(1, 0, 0))));
    assert_eq!(outcome.lab_fault.as_deref(), Some("incomplete test results"));
    let why = "test results are incomplete: tempest.subunit: it ends in the middle of a packet";
    assert_eq!(outcome.detail.as_deref(), Some(why));
    assert!(run.console().contains(&format!("pushbutton: {why}")), "{}", run.console());
    assert_eq!(outcome.test_page.as_deref(), Some("testr_results.html.gz"));

    // With the same results, a stage that fails by itself has failed.
    fs::remove_file(run.context.log_dir.join("tempest.subunit")).unwrap();
    let outcome = run.playbook("leaves_results.yml", &local_node()).await.unwrap();
    assert_eq!((outcome.status, outcome.lab_fault), (StageStatus::Failed, None));
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Fail" on node: 1 test failed"#));
}

/// Reports.md 4: tools print Latin-1, and ansible-core 2.18 and later refuse a module's reply with it.
#[tokio::test]
async fn report_4_output_that_is_not_utf_8_passes_and_its_failures_are_read() {
    for (exit, status) in [(0, StageStatus::Passed), (3, StageStatus::Failed)] {
        let run = run_with(&[("exit", exit.into())]);
        let outcome = run.playbook("latin_1.yml", &local_node()).await.unwrap();
        assert_eq!(outcome.status, status, "{outcome:?}\n{}", run.console());
        let expected = (exit != 0).then_some(r#"task "Show it" on node: exit 3: no d?vice"#);
        assert_eq!(outcome.detail.as_deref(), expected);
    }
}

fn assert_local(error: &Error, remedy: &str) {
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Local, true), "{error:?}");
    assert!(error.to_string().contains(remedy), "{error}");
}

/// A program that stands in for ansible-playbook, or runs it.
fn program(folder: &Path, script: &str, mode: u32) -> PathBuf {
    let path = folder.join("ansible-playbook");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn with_program(folder: &Path, script: &str, mode: u32) -> AnsibleConfig {
    let real = config().ansible_playbook;
    let script = script.replace("REAL", real.to_str().unwrap());
    config().with_ansible_playbook(program(folder, &script, mode))
}

#[tokio::test]
async fn v7_a_dead_worker_is_a_fault_of_the_operators_host() {
    let run = TestRun::new(config());
    let error = run.playbook("kills_its_worker.yml", &local_node()).await.unwrap_err();
    assert_local(&error, "lower `slots` or `ansible.forks`");
}

#[tokio::test]
async fn v7_an_ansible_that_cannot_be_run_is_a_fault_of_the_operators_host() {
    let folder = tempfile::tempdir().unwrap();
    let script = |script: &str, mode| with_program(folder.path(), script, mode);
    for (config, remedy) in [
        (config().with_ansible_playbook("/nowhere/ansible-playbook"), "install ansible-core"),
        (config().with_ansible_playbook("/etc"), "install ansible-core"),
        (script("#!/nowhere/python3\n", 0o755), "install ansible-core"),
        (script("#!/bin/sh\n", 0o644), "install ansible-core"),
        (script("#!/bin/sh\nexec /nowhere/ansible-playbook\n", 0o755), "install ansible-core"),
        (script("#!/bin/sh\necho 'ModuleNotFoundError: ansible' >&2\nexit 1\n", 0o755), "reinstall"),
    ] {
        let run = TestRun::new(config);
        assert_local(&run.playbook("passes.yml", &local_node()).await.unwrap_err(), remedy);
    }
}

#[tokio::test]
async fn v7_a_killed_ansible_is_a_fault_of_the_operators_host() {
    let folder = tempfile::tempdir().unwrap();
    for script in ["#!/bin/sh\nkill -9 $$\n", "#!/bin/sh\nsh -c 'kill -9 $$'\nexit $?\n"] {
        let run = TestRun::new(with_program(folder.path(), script, 0o755));
        let error = run.playbook("passes.yml", &local_node()).await.unwrap_err();
        assert_local(&error, "out of memory");
        assert_eq!(error.context("signal"), Some("9"));
    }
}

/// A full disk under the events' file, also when the disk becomes full in the middle of a play that fails.
#[tokio::test]
async fn v7_events_that_cannot_be_written_are_a_fault_of_the_operators_host() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["/dev/full", "/nowhere/events.jsonl"] {
        let script = format!("#!/bin/sh\nPUSHBUTTON_EVENTS={file} exec REAL \"$@\"\n");
        let run = TestRun::new(with_program(folder.path(), &script, 0o755));
        for playbook in ["fails.yml", "passes.yml"] {
            let error = run.playbook(playbook, &local_node()).await.unwrap_err();
            assert_local(&error, "free space");
        }
    }
}

#[tokio::test]
async fn v7_output_that_cannot_be_decoded_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nprintf '\\377\\376\\000\\201\\n\\355\\240\\200'\nexec REAL \"$@\"\n";
    let run = TestRun::new(with_program(folder.path(), script, 0o755));
    assert_eq!(run.playbook("passes.yml", &local_node()).await.unwrap().status, StageStatus::Passed);
    let garbage = "#!/bin/sh\nhead -c 100000 /dev/urandom | tee -a \"$PUSHBUTTON_EVENTS\"\nexit 0\n";
    let run = TestRun::new(with_program(folder.path(), garbage, 0o755));
    assert_local(&run.playbook("passes.yml", &local_node()).await.unwrap_err(), "install ansible-core");
}
