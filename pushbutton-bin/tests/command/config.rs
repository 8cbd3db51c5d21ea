use crate::lab::{Lab, command, ended};

#[test]
fn a_file_with_five_errors_shows_all_five_with_lines_and_starts_nothing() {
    let lab = Lab::new();
    let broken = lab
        .config()
        .replace("user: acme-ci", "user: acme-ci\n  prot: 29418")
        .replace("dir: logs", "dir: key/logs")
        .replace("shutdown_deadline: 1s", "shutdown_deadline: later")
        .replace("- wait\n", "- wiat\n")
        .replace("playbook: wait.yml", "playbook: wiat.yml");
    lab.configure(&broken);
    for command in ["check", "run", "handler", "operator", "status"] {
        let ended = lab.run(&[command]).with(2);
        let file = lab.path("pushbutton.yml");
        let line_of = |text: &str| broken.lines().position(|line| line.contains(text)).unwrap() + 1;
        for (text, what) in [
            ("prot: 29418", "gerrit.prot: unknown key; did you mean \"port\"?"),
            ("dir: key/logs", "logs.dir: cannot write to the folder"),
            ("later", "operator.shutdown_deadline: \"later\" is not a duration"),
            ("- wiat", "triggers[0].jobs[0]: no job is named \"wiat\"; did you mean \"wait\"?"),
            ("wiat.yml", "jobs.wait.stages[0].playbook: no playbook \"wiat.yml\""),
        ] {
            let expected = format!("{}:{}: {what}", file.display(), line_of(text));
            assert!(ended.err.contains(&expected), "{expected}\nin\n{}", ended.err);
        }
        assert!(ended.err.contains("5 errors: nothing was started"), "{}", ended.err);
    }
    assert!(!lab.path("state").exists());
}

#[test]
fn a_missing_file_is_named_with_a_fix() {
    let ended = ended(command().args(["--config", "/nonexistent/p.yml", "run"])).with(2);
    assert!(
        ended.err.contains("/nonexistent/p.yml:1: cannot read") && ended.err.contains("pushbutton-bin init"),
        "{}",
        ended.err
    );
}

#[test]
fn a_variable_is_filled_in_and_a_missing_one_is_an_error() {
    let lab = Lab::new();
    lab.configure(
        &lab.config()
            .replace("port: 1\n", "port: ${GERRIT_PORT}\n")
            .replace("owner: lab", "owner: ${OWNER:-lab}"),
    );
    let missing = lab.run(&["status"]).with(2);
    assert!(
        missing.err.contains(":5: gerrit.port: the environment has no variable GERRIT_PORT"),
        "{}",
        missing.err
    );
    ended(lab.command(&["status"]).env("GERRIT_PORT", "29418")).with(0);
}

#[test]
fn secrets_are_never_shown() {
    let lab = Lab::new();
    lab.configure(&(lab.config() + "rabbitmq:\n  url: ${AMQP}\n  lease: 1ms\n"));
    let shown = ended(lab.command(&["check"]).env("AMQP", "amqp://ci:hush-hush@127.0.0.1:1")).with(2);
    assert!(shown.err.contains("rabbitmq.lease") && !(shown.err + &shown.out).contains("hush-hush"));
}
