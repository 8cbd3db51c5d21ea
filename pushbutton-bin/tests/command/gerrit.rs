//! On the testbed's Gerrit.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use pushbutton_testbed::{Gerrit, gerrit};

use crate::lab::{Lab, Running};

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
    assert!(lab.run(&["status"]).with(0).out.contains("2 waiting"));

    let missing = lab.run(&["enqueue", &format!("{},99", change.number)]).with(6);
    assert!(missing.err.contains("its newest is 1"), "{}", missing.err);
    lab.run(&["enqueue", "999999999,1"]).with(6);
    let unknown = lab.run(&["enqueue", &target, "--job", "wiat"]).with(6);
    assert!(unknown.err.contains("did you mean \"wait\"?"), "{}", unknown.err);
}

#[test]
fn an_operator_runs_what_another_process_queued_in_the_same_folder() {
    let gerrit = gerrit();
    let lab = lab(&gerrit, "acme-ci").with_ansible();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    lab.configure(&(lab.config() + &format!("web: {{listen: \"127.0.0.1:{port}\"}}\n")));
    let change = gerrit.push_change("acme/sandbox", "master", &[("shared.txt", "one folder, two processes")]);
    let target = format!("{},1", change.number);
    let mut operator = Running::start(&mut lab.command(&["operator"]));
    let mut handler = lab.command(&["handler", "--dry-run"]);
    let handler = Running::start(handler.env("RUST_LOG", "info"));
    lab.run(&["enqueue", &target, "--job", "wait"]).with(0);
    operator.says("SUCCESS in");

    let page = get(port, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains(&change.number.to_string()), "{page}");
    operator.signal("-TERM");
    let (status, said) = operator.ends();
    assert_eq!(status.code(), Some(0), "{said}");
    let comments = std::fs::read_to_string(lab.path("state/comments.txt")).unwrap();
    assert!(comments.contains("Build succeeded (check pipeline)."), "{comments}");
    assert!(
        gerrit.messages(change.number).iter().all(|message| message.author != "acme-ci"),
        "nothing is posted"
    );
    assert!(lab.run(&["status"]).with(0).out.contains("0 waiting, 0 leased"));
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}
