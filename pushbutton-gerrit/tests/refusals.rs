//! Refusals of Gerrit whose texts are unknown (core.md S1-3). An OpenSSH server stands in for a Gerrit, since a real one
//! gives only known ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::samples;
use pushbutton_core::{BuildsetReport, Reporter, RetryClass, RunId, Verdict};
use pushbutton_gerrit::{Gerrit, GerritReporter, VoteMode};
use pushbutton_testbed::{Sshd, SshdOptions};
use pushbutton_testkit::conformance::report;

use common::sshd_config;

/// Has one change without messages, and refuses reviews; FILE gets a line for each. `$refuses` is a pattern of what it
/// refuses.
const SERVER: &str = r#"
case "$SSH_ORIGINAL_COMMAND" in
*query*)
  echo '{"project":"p","branch":"master","number":1,"status":"NEW"}'
  echo '{"type":"stats","rowCount":1,"moreChanges":false}' ;;
*review*)
  review=$(cat); printf '%s\n' "$review" >>FILE
  case "$review" in
  REFUSED) printf 'error: words that nobody knows\n\nfatal: one or more reviews failed; review output above\n' >&2; exit 1 ;;
  esac ;;
*version*) echo 'gerrit version 3.10.2' ;;
esac
"#;

fn report() -> BuildsetReport {
    let mut job = samples::job("tempest");
    job.created = Timestamp::now();
    report::report(&job, &RunId::generate(), Verdict::Success)
}

fn server(refused: &str, folder: &tempfile::TempDir) -> (Sshd, GerritReporter) {
    let file = folder.path().join("reviews");
    let script = SERVER.replace("FILE", file.to_str().unwrap()).replace("REFUSED", refused);
    let server = Sshd::start(&SshdOptions { forced_command: Some(script), ..SshdOptions::default() });
    let mut config = sshd_config(&server);
    config.comment.vote = VoteMode::Both;
    let reporter = GerritReporter::new(Gerrit::new(config).unwrap());
    (server, reporter)
}

fn reviews(folder: &tempfile::TempDir) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join("reviews")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_refusal_is_retried_for_a_while_and_then_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, reporter) = server("*", &folder);
    let report = report();
    let error = reporter.deliver(&report).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let reporter = reporter.with_refusal_limit(Duration::ZERO);
    let error = reporter.deliver(&report).await.unwrap_err();
    assert_eq!(error.retry_class(), RetryClass::RetriedOut, "{error}");
    assert!(error.to_string().contains("words that nobody knows"), "{error}");
    let votes: Vec<bool> = reviews(&folder).iter().map(|review| review.contains("labels")).collect();
    assert_eq!(votes, [true, true, false], "the last try has no vote");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_refusal_of_a_vote_costs_the_vote_and_not_the_comment() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, reporter) = server("*labels*", &folder);
    let reporter = reporter.with_refusal_limit(Duration::ZERO);
    reporter.deliver(&report()).await.unwrap();
    let last = reviews(&folder).pop().unwrap();
    assert!(
        last.contains("would have been Verified+1") && last.contains("words that nobody knows"),
        "{last}"
    );
}
