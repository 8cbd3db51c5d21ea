//! The private sshd runs its forced command, and can be killed, frozen and given another host key.

#![expect(clippy::expect_used, reason = "test helpers")]

use std::process::{Command, Output};

use pushbutton_testbed::{Sshd, SshdOptions};

fn ssh(sshd: &Sshd, command: &str) -> Output {
    Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=2",
            "-o",
        ])
        .arg(format!("UserKnownHostsFile={}", sshd.known_hosts.display()))
        .args(["-p", &sshd.port.to_string(), "-i"])
        .arg(&sshd.key)
        .args([&format!("{}@{}", sshd.user, sshd.host), command])
        .output()
        .expect("ssh runs")
}

#[test]
fn a_forced_command_stands_in_for_gerrit() {
    let options = SshdOptions {
        forced_command: Some("echo \"asked: $SSH_ORIGINAL_COMMAND\"".to_owned()),
        ..Default::default()
    };
    let sshd = Sshd::start(&options);
    let output = ssh(&sshd, "gerrit stream-events -s comment-added");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "asked: gerrit stream-events -s comment-added\n",
        "{output:?}"
    );
}

#[test]
fn faults() {
    let mut sshd = Sshd::start(&SshdOptions::default());
    assert!(ssh(&sshd, "true").status.success());
    sshd.freeze();
    assert!(!ssh(&sshd, "true").status.success(), "frozen, it does not answer in 2 s");
    sshd.thaw();
    assert!(ssh(&sshd, "true").status.success());
    sshd.kill9();
    assert!(!ssh(&sshd, "true").status.success(), "killed, it refuses");
    sshd.restart();
    assert!(ssh(&sshd, "true").status.success());
    sshd.change_host_key();
    let refused = ssh(&sshd, "true");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Host key verification failed"), "{refused:?}");
}
