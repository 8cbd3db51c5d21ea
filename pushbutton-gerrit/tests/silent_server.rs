//! What the crate does with a Gerrit that accepts connections and never answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

use std::io::Write as _;

use pushbutton_core::HumanDuration;
use pushbutton_gerrit::{Gerrit, GerritConfig, GerritReporter};
use pushbutton_testkit::conformance::time_bounded::{self, SilentServer};

/// Not a key of anything: the connection never gets as far as a login.
fn key(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let file = folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(made.success());
    let mut known_hosts = std::fs::File::create(folder.path().join("known_hosts")).unwrap();
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    writeln!(known_hosts, "* {public}").unwrap();
    file
}

#[tokio::test]
async fn a_report_and_a_look_up_end_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = SilentServer::start().await.unwrap();
    let mut config = GerritConfig::new("127.0.0.1", "acme-ci", key(&folder));
    config.port = server.address().port();
    config.host_key.known_hosts = Some(folder.path().join("known_hosts"));
    config.deadlines.connect = HumanDuration::secs(2);
    let gerrit = Gerrit::new(config).unwrap();
    time_bounded::change_status(&*gerrit).await;
    time_bounded::dependencies(&*gerrit).await;
    time_bounded::trigger_lookup(&*gerrit).await;
    time_bounded::reporter(&GerritReporter::new(gerrit)).await;
}
