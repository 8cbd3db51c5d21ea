use std::time::{Duration, Instant};

use crate::lab::Lab;

#[test]
fn an_unreachable_gerrit_is_named_after_the_wait() {
    let lab = Lab::new();
    // A key that can be read, so that the connection is what fails.
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(lab.path("id"))
        .status()
        .unwrap();
    assert!(made.success());
    lab.write("known_hosts", "");
    lab.configure(&lab.config().replace("key: key", "key: id\n  host_key: {known_hosts: known_hosts}"));
    for command in ["run", "handler"] {
        let began = Instant::now();
        let ended = lab.run(&[command, "--wait", "1s"]).with(3);
        assert!(ended.err.contains("cannot reach Gerrit at 127.0.0.1:1"), "{}", ended.err);
        assert!(ended.err.contains("--wait") && ended.err.contains("because:"), "{}", ended.err);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn an_unreachable_broker_is_named_without_its_password() {
    let lab = Lab::new();
    lab.configure(&(lab.config() + "rabbitmq:\n  url: amqp://ci:hush-hush@127.0.0.1:1/%2f\n"));
    let ended = lab.run(&["operator", "--wait", "1s"]).with(3);
    assert!(ended.err.contains("cannot reach RabbitMQ at amqp://127.0.0.1:1/"), "{}", ended.err);
    assert!(!(ended.err + &ended.out).contains("hush-hush"));
}

#[test]
fn check_looks_at_every_part_even_when_some_fail() {
    let lab = Lab::new();
    lab.configure(&lab.config().replace("https://logs.example.org", "http://127.0.0.1:1"));
    let ended = lab.run(&["check"]).with(5);
    for part in [
        "config   ok",
        "state    ok",
        "gerrit   FAIL",
        "queue    ok",
        "nodes    warn",
        "ansible  ",
        "logs     ok",
        "logs     warn",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}
