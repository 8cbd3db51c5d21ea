//! A review that is posted although its answer is lost. An OpenSSH server with a small model of a Gerrit is used,
//! since a real one cannot be made to close the connection at that moment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use pushbutton_core::samples;
use pushbutton_core::{Reporter, RunId, Verdict};
use pushbutton_gerrit::{Gerrit, GerritReporter};
use pushbutton_testbed::{Sshd, SshdOptions};
use pushbutton_testkit::conformance::report::report;

use common::sshd_config;

/// Keeps the messages of reviews in a folder, one file each, and shows them to queries. `$1` is what happens after
/// the first was kept.
const SERVER: &str = r#"
case "$SSH_ORIGINAL_COMMAND" in
*query*)
  python3 -c '
import json, os, sys, time
folder, user = sys.argv[1:]
messages = [json.load(open(f"{folder}/{name}"))["message"] for name in sorted(os.listdir(folder))]
comments = [{"timestamp": int(time.time()), "reviewer": {"username": user}, "message": "Patch Set 1:\n\n" + text} for text in messages]
print(json.dumps({"project": "p", "branch": "master", "number": 1, "status": "NEW", "comments": comments}))
print(json.dumps({"type": "stats", "rowCount": 1, "moreChanges": False}))' FOLDER "$USER" ;;
*review*)
  name=FOLDER/$(ls FOLDER | wc -l)
  cat >"$name.part" && mv "$name.part" "$name"
  [ "$(ls FOLDER | wc -l)" != 1 ] || { AFTER_THE_FIRST; } ;;
*version*) echo 'gerrit version 3.10.2' ;;
esac
"#;

async fn a_first_post_after_which(happens: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script =
        SERVER.replace("FOLDER", folder.path().to_str().unwrap()).replace("AFTER_THE_FIRST", happens);
    let server = Sshd::start(&SshdOptions { forced_command: Some(script), ..SshdOptions::default() });
    let mut config = sshd_config(&server);
    config.deadlines.command = pushbutton_core::HumanDuration::secs(5);
    let reporter = GerritReporter::new(Gerrit::new(config).unwrap());
    let mut job = samples::job("tempest");
    job.created = jiff::Timestamp::now();
    let report = report(&job, &RunId::generate(), Verdict::Success);

    let error = reporter.deliver(&report).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    reporter.deliver(&report).await.unwrap();
    reporter.deliver(&report).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "after: {happens}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_after_a_post_makes_no_second_one() {
    a_first_post_after_which("kill -9 $PPID").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_in_time_makes_no_second_post() {
    a_first_post_after_which("sleep 600").await;
}
