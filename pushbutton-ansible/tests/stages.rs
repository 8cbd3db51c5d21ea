//! Stages on the local machine, with a real ansible-playbook.

mod common;

use common::{TestRun, config, local_node, stage};
use pushbutton_core::LineSink;
use pushbutton_core::check::{Check, Level};
use pushbutton_core::{ErrorKind, StageStatus, TestCounts};
use subunit::types::{event::Event, teststatus::TestStatus};

#[tokio::test]
async fn the_failed_task_is_named_and_not_ignored_or_rescued_ones() {
    let run = TestRun::new(config());
    let outcome = run.playbook("fails.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.detail.unwrap(), r#"task "Run the tests" on node: exit 3: two tests failed"#);
    let console = run.console();
    assert!(console.contains("stage stage begins: fails.yml of job conformance for 12345,2"), "{console}");
    assert!(console.contains("stage stage ended: Failed"), "{console}");
}

#[tokio::test]
async fn a_hostile_subject_stays_text_and_the_operators_own_variables_are_expanded() {
    let mut run = TestRun::new(config());
    let trap = run.folder.path().join("trap");
    let subject = format!(
        "{{{{ 1+1 }}}} {{% raw %}} {{{{ lookup('pipe','touch {}') }}}} \"a' \\ $(id) `id` é 😀 \u{85}\u{7f}",
        trap.display()
    );
    run.context.job.change.subject = subject.clone();
    run.context.vars.insert("expanded".into(), "{{ pushbutton.change.project }}".into());
    let (sink, mut lines) = LineSink::bounded(1000);
    let outcome = run.playbook_with("hostile_subject.yml", &local_node(), &sink).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}");
    let written = std::fs::read_to_string(run.context.log_dir.join("subject")).unwrap();
    assert_eq!(written, format!("{subject}|{subject}|<{subject}>|openstack/cinder"));
    assert!(!trap.exists(), "the subject ran a command");
    common::wait_for_line(&mut lines, "subject {{ 1+1 }}").await;
}

/// A node that sends an archive without end must not fill the operator's disk.
#[tokio::test]
async fn no_process_of_a_stage_writes_a_larger_file_than_allowed() {
    let run = TestRun::new(config().with_file_limit_mib(2u64));
    let outcome = run.playbook("writes_a_large_file.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}");
    let size = std::fs::metadata(run.context.log_dir.join("large")).unwrap().len();
    assert_eq!(size, 2 << 20);
}

/// A node that sends an answer without end must not take the memory of the operator's host.
#[tokio::test]
async fn no_process_of_a_stage_takes_more_memory_than_allowed() {
    let run = TestRun::new(config().with_memory_limit_mib(512u64));
    for (playbook, task) in
        [("takes_memory.yml", "Keep a large text"), ("action_without_memory.yml", "Copy through memory")]
    {
        let outcome = run.playbook(playbook, &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}");
        let fault = outcome.lab_fault.unwrap();
        assert!(fault.contains("`ansible.memory_limit_mib`"), "{fault}");
        assert_eq!(outcome.detail.unwrap(), format!("task {task:?} on localhost: {fault}"));
    }
}

/// What playbooks copy is published too, and read again by the next stage.
#[tokio::test]
async fn files_that_a_playbook_copies_into_the_log_folder_are_redacted() {
    let secrets = [("array_password".to_owned(), "configured-secret".into())];
    let run = TestRun::new(config().with_secrets(secrets));
    for _ in 0..2 {
        let outcome = run.playbook("copies_a_secret.yml", &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}");
        let text = std::fs::read_to_string(run.context.log_dir.join("tempest.txt")).unwrap();
        assert_eq!(text, "login with ********\nsan_password = ********\n");
    }
}

#[tokio::test]
async fn secrets_are_redacted_everywhere_and_the_environment_is_clean() {
    let secret = "tr\"icky\\Secret";
    let secrets = [("array_password".to_owned(), secret.into())];
    let run = TestRun::new(config().with_secrets(secrets).with_verbosity(3));
    let (sink, mut lines) = LineSink::bounded(10_000);
    let outcome = run.playbook_with("prints_a_secret.yml", &local_node(), &sink).await.unwrap();
    drop(sink);
    assert_eq!(outcome.detail.unwrap(), r#"task "Fail with it" on node: wrong password ********"#);
    let mut shown = run.console();
    while let Some(line) = lines.recv().await {
        shown.push_str(&line);
    }
    assert!(shown.contains("the password is ********"), "{shown}");
    assert!(!shown.contains("icky"), "{shown}");
    assert!(shown.contains("PATH=") && !shown.contains("CARGO_"), "{shown}");
    let mut left = vec![run.folder.path().join("ansible")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(path.file_name().unwrap(), "known_hosts", "a file of the stage was left");
        }
    }
}

#[tokio::test]
async fn tests_are_counted_links_out_of_the_logs_are_removed_and_the_log_url_is_used() {
    let mut run = TestRun::new(config());
    use TestStatus::*;
    let tests =
        [("a", Success), ("b", Failed), ("c", Skipped), ("d", ExpectedFailure), ("e", UnexpectedSuccess)];
    let packets = tests.map(|(id, status)| Event::new(status).test_id(id).build().to_vec().unwrap());
    let stream = run.folder.path().join("stream");
    std::fs::write(&stream, packets.concat()).unwrap();
    run.context.vars.insert("stream".into(), stream.to_str().unwrap().into());
    let outcome = run.playbook("leaves_results.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Fail" on node: 1 test failed"#));
    assert_eq!(outcome.tests, Some(TestCounts::new(2, 2, 1)));
    assert_eq!(outcome.failed_tests, ["b", "e"]);
    assert_eq!(outcome.log_url.as_deref(), Some("https://logs.example.org/45/12345/2/"));
    assert!(run.context.log_dir.join("passwd").symlink_metadata().is_err());
    assert!(run.console().contains("removed passwd"), "{}", run.console());
    // The next stage does not count them again.
    assert_eq!(run.playbook("passes.yml", &local_node()).await.unwrap().tests, None);
}

#[tokio::test]
async fn a_playbook_that_cannot_run_is_an_error_of_the_configuration() {
    let run = TestRun::new(config());
    let error = run.playbook("no_hosts.yml", &local_node()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("hosts: nodes"), "{error}");
    let error = run.playbook("unparsable.yml", &local_node()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("no-such-role"), "{error}");
    for playbook in ["../src/callback_plugin.py", "/etc/passwd", "", "./passes.yml"] {
        let error = run.playbook(playbook, &local_node()).await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("fix"), "{playbook}: {error}");
    }
    // Another operator may have it.
    let error = run.playbook("nowhere.yml", &local_node()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Local && error.to_string().contains("fix"), "{error}");
}

#[tokio::test]
async fn large_output_is_read_to_its_end_and_kept_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ansible-playbook");
    let script =
        "#!/bin/sh\nhead -c 50000000 /dev/zero\necho\nyes line | head -n 1000000\necho last >&2\nexit 250\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = TestRun::new(config().with_ansible_playbook(program).with_console_limit_mib(1u64));
    let error = run.playbook("passes.yml", &local_node()).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let console = run.console();
    assert!(console.len() < 1_100_000 && console.contains("did not fit in here"), "{}", console.len());
}

#[tokio::test]
async fn check_finds_what_is_wrong() {
    let run = TestRun::new(config().with_secrets([("pin".to_owned(), "123".into())]));
    let playbooks = ["passes.yml", "unparsable.yml", "nowhere.yml"];
    let findings = run.executor.with_checked_playbooks(playbooks).check().await;
    let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
    assert_eq!(
        levels,
        [Level::Ok, Level::Ok, Level::Ok, Level::Fail, Level::Fail, Level::Warn],
        "{findings:#?}"
    );
    assert!(findings[0].what.contains("core 2."), "{findings:#?}");
    let without = TestRun::new(config().with_ansible_playbook("/nowhere/ansible-playbook"));
    assert_eq!(without.executor.check().await[0].level, Level::Fail);
}

#[tokio::test]
async fn stages_of_one_run_share_a_console_log() {
    let run = TestRun::new(config());
    let both = [stage("passes.yml"), stage("passes.yml")];
    for stage in both {
        run.playbook(&stage.playbook, &local_node()).await.unwrap();
    }
    assert_eq!(run.console().matches("begins: passes.yml").count(), 2);
}
