//! On the testbed's Gerrit.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use pushbutton_testbed::{Gerrit, gerrit, until};

use crate::lab::{Lab, Running, command, ended};

pub(crate) fn lab(gerrit: &Gerrit, user: &str) -> Lab {
    Lab::with_gerrit(&format!(
        "host: {}\n  port: {}\n  user: {user}\n  key: {}\n  host_key: {{known_hosts: {}}}",
        gerrit.ssh_host,
        gerrit.ssh_port,
        gerrit.key("acme-ci").display(),
        gerrit.known_hosts.display()
    ))
}

#[test]
fn a_signal_ends_the_handler_and_the_operator_with_success() {
    let gerrit = gerrit();
    let lab = lab(&gerrit, "acme-ci");
    for (command, ready) in [("handler", "watching"), ("operator", "waiting for jobs"), ("run", "watching")] {
        let mut command = lab.command(&[command]);
        // The log goes to standard error; the test reads standard output.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(command.get_program()).args(command.get_args());
        shell.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        command = shell;
        let mut running = Running::start(&mut command);
        running.says(ready);
        running.signal("-TERM");
        let (status, said) = running.ends();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("SIGTERM"), "{said}");
    }
}

#[test]
fn a_refused_login_and_a_strange_host_key_end_it_at_once() {
    let gerrit = gerrit();
    let refused = lab(&gerrit, "nobody-of-this-name").run(&["handler"]).with(4);
    assert!(refused.err.contains("nobody-of-this-name"), "{}", refused.err);

    let lab = lab(&gerrit, "acme-ci");
    let pinned = format!("fingerprints: [\"SHA256:{}\"]", "A".repeat(43));
    lab.configure(&lab.config().replace(&format!("known_hosts: {}", gerrit.known_hosts.display()), &pinned));
    let strange = lab.run(&["handler"]).with(4);
    assert!(strange.err.contains("host key"), "{}", strange.err);
}

#[test]
fn a_job_is_enqueued_for_a_change_that_gerrit_knows() {
    let gerrit = gerrit();
    let lab = lab(&gerrit, "acme-ci");
    lab.configure(&lab.config().replace("acme/*", "acme/**"));
    let change = gerrit.push_change("acme/sandbox", "master", &[("enqueue.txt", "enqueue me")]);
    let target = format!("{},1", change.number);
    let said = lab.run(&["enqueue", &target]).with(0).out;
    assert!(said.contains(&format!("queued wait for {target}")), "{said}");
    lab.run(&["enqueue", &target, "--job", "wait"]).with(0);
    // The first one waits, and stands for the second.
    assert!(lab.run(&["status"]).with(0).out.contains("1 waiting"));

    let missing = lab.run(&["enqueue", &format!("{},99", change.number)]).with(6);
    assert!(missing.err.contains("its newest is 1"), "{}", missing.err);
    lab.run(&["enqueue", "999999999,1"]).with(6);
    let unknown = lab.run(&["enqueue", &target, "--job", "wiat"]).with(6);
    assert!(unknown.err.contains("did you mean \"wait\"?"), "{}", unknown.err);
}

/// Issue 10, part 1: only the handler has an account on Gerrit.
#[test]
fn an_operator_without_an_account_runs_what_was_queued_in_the_same_folder_and_the_handler_reports_it() {
    let gerrit = gerrit();
    let lab = lab(&gerrit, "acme-ci").with_ansible();
    let config = lab.config();
    lab.write("handler.yml", &config);
    let with_handler_config = |arguments: &[&str]| {
        let mut with_config = command();
        with_config.arg("--config").arg(lab.path("handler.yml")).args(arguments);
        with_config
    };
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let without = |config: &str, name: &str, next: &str| {
        let (start, end) = (config.find(name).unwrap(), config.find(next).unwrap());
        format!("{}{}", &config[..start], &config[end..])
    };
    let operator_config =
        without(&without(&config, "gerrit:\n", "machines:\n"), "triggers:\n", "jobs:\n  wait");
    lab.configure(&(operator_config + &format!("web: {{listen: \"127.0.0.1:{port}\"}}\n")));
    let change = gerrit.push_change("acme/sandbox", "master", &[("shared.txt", "one folder, two processes")]);
    let target = format!("{},1", change.number);
    let mut operator = Running::start(&mut lab.command(&["operator"]));
    ended(&mut with_handler_config(&["enqueue", &target, "--job", "wait"])).with(0);
    operator.says("SUCCESS in");
    let missing = lab.run(&["handler"]).with(2);
    assert!(missing.err.contains("gerrit: this section is missing"), "{}", missing.err);

    let page = get(port, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains(&change.number.to_string()), "{page}");
    operator.signal("-TERM");
    let (status, said) = operator.ends();
    assert_eq!(status.code(), Some(0), "{said}");
    let status = lab.run(&["status"]).with(0).out;
    assert!(
        status.contains("0 waiting, 0 leased") && status.contains("reports: 1 due, 0 undelivered"),
        "{status}"
    );
    assert!(!lab.path("state/comments.txt").exists(), "an operator reports nothing");

    let handler = Running::start(&mut with_handler_config(&["handler", "--dry-run"]));
    let comments = until("the report is delivered", Duration::from_secs(300), || {
        std::fs::read_to_string(lab.path("state/comments.txt")).ok()
    });
    assert!(comments.contains("Build succeeded (check pipeline)."), "{comments}");
    handler.signal("-TERM");
    let (status, said) = handler.ends();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        gerrit.messages(change.number).iter().all(|message| message.author != "acme-ci"),
        "nothing is posted"
    );
    assert!(lab.run(&["status"]).with(0).out.contains("reports: 0 due, 0 undelivered"));
}

/// Issue 10, part 1.
#[test]
fn the_jobs_of_one_command_make_one_comment() {
    let gerrit = gerrit();
    let lab = lab(&gerrit, "acme-ci").with_ansible();
    let config = lab
        .config()
        .replace("acme/*", "acme/**")
        .replace("      - wait\njobs:", "      - wait\n      - more\njobs:");
    let job = config[config.find("  wait:\n").unwrap()..].replace("  wait:\n", "  more:\n");
    lab.configure(&(config + &job));
    let change = gerrit.push_change("acme/sandbox", "master", &[("two.txt", "two jobs")]);
    let mut both = Running::start(&mut lab.command(&["run"]));
    lab.run(&["rerun", &change.number.to_string()]).with(0);
    let ours = || {
        let messages = gerrit.messages(change.number).into_iter();
        messages.filter(|message| message.author == "acme-ci").map(|message| message.text).collect::<Vec<_>>()
    };
    both.says("SUCCESS in");
    both.says("SUCCESS in");
    let comments =
        until("the comment", Duration::from_secs(300), || Some(ours()).filter(|ours| !ours.is_empty()));
    both.signal("-TERM");
    assert_eq!(both.ends().0.code(), Some(0));
    assert_eq!(comments, ours(), "one comment");
    assert_eq!(comments.len(), 1, "{comments:#?}");
    for line in ["- more https://", "- wait https://"] {
        assert_eq!(comments[0].lines().filter(|found| found.starts_with(line)).count(), 1, "{comments:#?}");
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}
