//! Stages on the local machine, with a real ansible-playbook.

mod common;

use common::{Lab, config, local, stage};
use pushbutton_ansible::AnsibleConfig;
use pushbutton_core::LineSink;
use pushbutton_core::check::Level;
use pushbutton_core::{ErrorKind, StageStatus, TestCounts};
use subunit::types::{event::Event, teststatus::TestStatus};

#[tokio::test]
async fn the_failed_task_is_named_and_not_the_forgiven_ones() {
    let lab = Lab::new(config());
    let outcome = lab.run("fails.yml", &local()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.detail.unwrap(), r#"task "Run the tests" on node: exit 3: two tests failed"#);
    let console = lab.console();
    assert!(console.contains("stage stage begins: fails.yml of job conformance for 12345,2"), "{console}");
    assert!(console.contains("stage stage ended: Failed"), "{console}");
}

#[tokio::test]
async fn a_hostile_subject_stays_text_and_the_operators_own_variables_are_expanded() {
    let mut lab = Lab::new(config());
    let trap = lab.folder.path().join("trap");
    let subject = format!(
        "{{{{ 1+1 }}}} {{% raw %}} {{{{ lookup('pipe','touch {}') }}}} \"a' \\ $(id) `id` é 😀 \u{85}\u{7f}",
        trap.display()
    );
    lab.context.job.change.subject = subject.clone();
    lab.context.vars.insert("expanded".into(), "{{ pushbutton.change.project }}".into());
    let (sink, mut lines) = LineSink::bounded(1000);
    let outcome = lab.run_with("hostile.yml", &local(), &sink).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}");
    let written = std::fs::read_to_string(lab.context.log_dir.join("subject")).unwrap();
    assert_eq!(written, format!("{subject}|{subject}|<{subject}>|openstack/cinder"));
    assert!(!trap.exists(), "the subject ran a command");
    common::hear(&mut lines, "subject {{ 1+1 }}").await;
}

#[tokio::test]
async fn secrets_are_masked_everywhere_and_the_environment_is_clean() {
    let secret = "tr\"icky\\Secret";
    let secrets = [("array_password".to_owned(), secret.into())].into();
    let lab = Lab::new(AnsibleConfig { secrets, verbosity: 3, ..config() });
    let (sink, mut lines) = LineSink::bounded(10_000);
    let outcome = lab.run_with("secret.yml", &local(), &sink).await.unwrap();
    drop(sink);
    assert_eq!(outcome.detail.unwrap(), r#"task "Fail with it" on node: wrong password ********"#);
    let mut shown = lab.console();
    while let Some(line) = lines.recv().await {
        shown.push_str(&line);
    }
    assert!(shown.contains("the password is ********"), "{shown}");
    assert!(!shown.contains("icky"), "{shown}");
    assert!(shown.contains("PATH=") && !shown.contains("CARGO_"), "{shown}");
    let mut left = vec![lab.folder.path().join("ansible")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(path.file_name().unwrap(), "known_hosts", "a file of the stage was left");
        }
    }
}

#[tokio::test]
async fn results_are_counted_links_that_leave_are_removed_and_the_log_url_is_taken() {
    let mut lab = Lab::new(config());
    use TestStatus::*;
    let tests =
        [("a", Success), ("b", Failed), ("c", Skipped), ("d", ExpectedFailure), ("e", UnexpectedSuccess)];
    let packets = tests.map(|(id, status)| Event::new(status).test_id(id).build().to_vec().unwrap());
    let stream = lab.folder.path().join("stream");
    std::fs::write(&stream, packets.concat()).unwrap();
    lab.context.vars.insert("stream".into(), stream.to_str().unwrap().into());
    let outcome = lab.run("results.yml", &local()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Fail" on node: 1 test failed"#));
    assert_eq!(outcome.tests, Some(TestCounts { passed: 2, failed: 2, skipped: 1 }));
    assert_eq!(outcome.failed_tests, ["b", "e"]);
    assert_eq!(outcome.log_url.as_deref(), Some("https://logs.example.org/45/12345/2/"));
    assert!(lab.context.log_dir.join("passwd").symlink_metadata().is_err());
    assert!(lab.console().contains("removed passwd"), "{}", lab.console());
    // The next stage does not count them again.
    assert_eq!(lab.run("passes.yml", &local()).await.unwrap().tests, None);
}

#[tokio::test]
async fn a_playbook_that_cannot_run_is_the_configurations_fault() {
    let lab = Lab::new(config());
    let error = lab.run("no_hosts.yml", &local()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("hosts: nodes"), "{error}");
    let error = lab.run("unparsable.yml", &local()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("no-such-role"), "{error}");
    for playbook in ["../src/callback.py", "/etc/passwd", "", "./passes.yml", "nowhere.yml"] {
        let error = lab.run(playbook, &local()).await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("mend"), "{playbook}: {error}");
    }
    let without =
        Lab::new(AnsibleConfig { ansible_playbook: "/nowhere/ansible-playbook".into(), ..config() });
    let error = without.run("passes.yml", &local()).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("install ansible-core"), "{error}");
}

#[tokio::test]
async fn endless_output_is_read_to_the_end_and_kept_in_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ansible-playbook");
    let script =
        "#!/bin/sh\nhead -c 50000000 /dev/zero\necho\nyes line | head -n 1000000\necho last >&2\nexit 250\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lab = Lab::new(AnsibleConfig { ansible_playbook: program, console_limit_mib: 1, ..config() });
    let error = lab.run("passes.yml", &local()).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let console = lab.console();
    assert!(console.len() < 1_100_000 && console.contains("did not fit in here"), "{}", console.len());
}

#[tokio::test]
async fn check_says_what_is_wrong() {
    let lab = Lab::new(AnsibleConfig { secrets: [("pin".to_owned(), "123".into())].into(), ..config() });
    let findings =
        lab.executor.check(&["passes.yml".into(), "unparsable.yml".into(), "nowhere.yml".into()]).await;
    let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
    assert_eq!(
        levels,
        [Level::Ok, Level::Ok, Level::Ok, Level::Fail, Level::Fail, Level::Warn],
        "{findings:#?}"
    );
    assert!(findings[0].what.contains("core 2."), "{findings:#?}");
    let without =
        Lab::new(AnsibleConfig { ansible_playbook: "/nowhere/ansible-playbook".into(), ..config() });
    assert_eq!(without.executor.check(&[]).await[0].level, Level::Fail);
}

#[tokio::test]
async fn stages_of_one_run_share_a_console_log() {
    let lab = Lab::new(config());
    let both = [stage("passes.yml"), stage("passes.yml")];
    for stage in both {
        lab.run(&stage.playbook, &local()).await.unwrap();
    }
    assert_eq!(lab.console().matches("begins: passes.yml").count(), 2);
}
