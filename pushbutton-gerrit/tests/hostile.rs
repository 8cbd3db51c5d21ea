//! What a broken or hostile server may send: an OpenSSH server in place of a Gerrit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod common;

use std::time::Duration;

use pushbutton_core::check::Check;
use pushbutton_core::{ErrorKind, EventSource};
use pushbutton_gerrit::Gerrit;
use pushbutton_testbed::{Sshd, SshdOptions};

use common::{all_within, comment, gerrit_like, next_where, source_on as source, sshd_config, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_lines_are_skipped_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream");
    let good = comment("recheck 1");
    let lines = [
        good[..300].to_owned(),
        r#"{"type":"a-new-event","change":{"project":5}}"#.into(),
        comment("recheck 2").replace("refs/changes/01/1/1", "refs/changes/01/1/1; rm -rf /"),
        comment("recheck 3").replace("\"number\":1,", "\"number\":{},"),
        "\u{0}\u{1b}[2J".into(),
        comment(r#"recheck $(id) `x` \"q\" 's'; rm -rf / | & > \n é"#),
        comment("recheck 4").replace("\"type\":\"comment-added\"", "\"type\":[\"comment-added\"]"),
        "[".repeat(100_000),
        good.clone(),
    ];
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let server = gerrit_like(&format!("cat {}; sleep 60", file.display()));
    let mut source = source(&server);
    let first = next_where(&mut source, |_| true).await;
    assert!(text(&first).starts_with("recheck $(id) `x`"), "{first:?}");
    let last = next_where(&mut source, |_| true).await;
    assert_eq!(text(&last), "recheck 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_the_server_ends_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream");
    std::fs::write(&file, comment("recheck") + "\n").unwrap();
    let server = gerrit_like(&format!("cat {}", file.display()));
    let mut source = source(&server);
    for _ in 0..3 {
        next_where(&mut source, |e| text(e) == "recheck").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_or_frozen_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream");
    std::fs::write(&file, comment("recheck") + "\n").unwrap();
    let server = gerrit_like(&format!("cat {}; sleep 600", file.display()));
    let mut source = source(&server);
    next_where(&mut source, |e| text(e) == "recheck").await;
    server.cut();
    next_where(&mut source, |e| text(e) == "recheck").await;
    server.freeze();
    assert!(all_within(&mut source, Duration::from_secs(4)).await.is_empty());
    server.thaw();
    next_where(&mut source, |e| text(e) == "recheck").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_is_reported_at_once() {
    let server = gerrit_like("echo 'fatal: Stream Events not permitted' >&2; exit 1");
    let mut source = source(&server);
    let error = tokio::time::timeout(Duration::from_secs(20), source.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let findings = Gerrit::new(sshd_config(&server)).unwrap().check().await;
    assert!(findings[0].what.contains("not here"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_host_key_is_refused_with_the_line_to_look_at() {
    let mut server = gerrit_like("sleep 60");
    let config = sshd_config(&server);
    server.change_host_key();
    let error = Gerrit::new(config).unwrap().version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let place = format!("{}:1", server.known_hosts.display());
    assert!(error.to_string().contains("has changed") && error.to_string().contains(&place), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_host_keys_of_all_types_log_in() {
    for (client_key, host_key) in [("ed25519", "rsa"), ("ecdsa", "ed25519"), ("rsa", "ecdsa")] {
        let stats = "echo 'gerrit version 2.15'";
        let server = Sshd::start(&SshdOptions {
            forced_command: Some(stats.into()),
            client_key: client_key.into(),
            host_keys: vec![host_key.into()],
            ..SshdOptions::default()
        });
        let version = Gerrit::new(sshd_config(&server)).unwrap().version().await;
        assert_eq!(version.unwrap_or_else(|error| panic!("{client_key}, {host_key}: {error:?}")), "2.15");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_host_keys_the_known_one_is_asked_for() {
    let stats = "echo 'gerrit version 2.15'";
    let server = Sshd::start(&SshdOptions {
        forced_command: Some(stats.into()),
        host_keys: vec!["ed25519".into(), "rsa".into()],
        ..SshdOptions::default()
    });
    let known = std::fs::read_to_string(&server.known_hosts).unwrap();
    let rsa: String = known.lines().filter(|line| line.contains("ssh-rsa")).collect();
    std::fs::write(&server.known_hosts, rsa + "\n").unwrap();
    assert_eq!(Gerrit::new(sshd_config(&server)).unwrap().version().await.unwrap(), "2.15");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_accepts_and_sends_nothing_costs_one_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = gerrit_like("sleep 60");
    let mut config = sshd_config(&server);
    config.port = silent.local_addr().unwrap().port();
    config.host_key.known_hosts = None;
    config.host_key.fingerprints = vec!["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()];
    config.deadlines.connect = pushbutton_core::HumanDuration(Duration::from_millis(500));
    let error = tokio::time::timeout(Duration::from_secs(5), Gerrit::new(config).unwrap().version())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.is_temporary() && error.to_string().contains("handshake"), "{error}");
}
