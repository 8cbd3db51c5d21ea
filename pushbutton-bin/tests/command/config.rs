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
    // A handler needs neither the playbooks nor the folder of the logs, and who asks for the status needs no job.
    for (command, of_operators) in
        [("check", true), ("run", true), ("operator", true), ("handler", false), ("status", false)]
    {
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
            let is_shown = of_operators || !(text.starts_with("dir:") || text == "wiat.yml");
            assert_eq!(ended.err.contains(&expected), is_shown, "{command}: {expected}\nin\n{}", ended.err);
        }
        let count = if of_operators { "5 errors" } else { "3 errors" };
        assert!(ended.err.contains(&format!("{count}: nothing was started")), "{}", ended.err);
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

/// core.md S3-8: the other half of an installation is on another host.
#[test]
fn s3_8_on_the_hosts_of_handlers_and_of_people_nothing_of_operators_need_be_there() {
    let lab = Lab::new();
    std::fs::remove_dir_all(lab.path("playbooks")).unwrap();
    std::fs::remove_file(lab.path("key")).unwrap();
    let machines = lab.config();
    let machines = machines.lines().filter(|line| !line.contains("- {label: here"));
    let cloud = machines.map(|line| {
        line.replace(
            "machines:",
            "cloud:\n  clouds_file: none.yaml\n  nodes: {devstack: {image: a, flavor: b, user: c}}",
        )
    });
    lab.configure(&(cloud.collect::<Vec<_>>().join("\n").replace("here", "devstack") + "\n"));
    for arguments in [
        &["status"][..],
        &["dead", "list"],
        &["dead", "requeue", "--all"],
        &["reports", "list"],
        &["reports", "retry", "--all"],
        &["mute"],
        &["unmute"],
        &["cancel", "12345"],
        &["replay", "stream.jsonl"],
    ] {
        lab.run(arguments).with(0);
    }
    let operator = lab.run(&["operator"]).with(2).err;
    assert!(operator.contains("cloud.clouds_file: cannot read"), "{operator}");
    assert!(
        operator.contains("ansible.playbooks: cannot read") && !operator.contains("gerrit"),
        "{operator}"
    );
    // These need the account, and find their errors only there.
    for arguments in [&["handler"][..], &["check", "--handler"], &["enqueue", "12345,2"]] {
        let error = lab.run(arguments).with(2).err;
        assert!(error.contains("gerrit.key: cannot read") && error.contains("1 error:"), "{error}");
    }
    lab.write("key", "no key");
    let check = lab.run(&["check", "--handler"]).with(5).out;
    let parts: Vec<&str> = check.lines().filter_map(|line| line.split(' ').next()).collect();
    let named: Vec<&str> =
        parts.into_iter().filter(|part| part.chars().all(|c| c.is_ascii_lowercase())).collect();
    assert!(named.contains(&"gerrit") && named.contains(&"queue"), "{check}");
    assert!(!["nodes", "ansible", "logs"].iter().any(|part| named.contains(part)), "{check}");
}

#[test]
fn secrets_are_never_shown() {
    let lab = Lab::new();
    lab.configure(&(lab.config() + "rabbitmq:\n  url: ${AMQP}\n  lease: 1ms\n"));
    let shown = ended(lab.command(&["check"]).env("AMQP", "amqp://ci:hush-hush@127.0.0.1:1")).with(2);
    assert!(shown.err.contains("rabbitmq.lease") && !(shown.err + &shown.out).contains("hush-hush"));
}
