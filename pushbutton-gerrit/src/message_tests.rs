use std::time::Duration;

use pushbutton_core::samples;
use pushbutton_core::{RunId, StageName, StageOutcome, StageResult, StageStatus};
use regex::Regex;

use super::*;

/// The current result table (zuul-results-summary, `web/plugin.js`): first line and result lines.
const STATUS: &str = r"(?m)^Build (?<status>\w+) \((?<pipeline>[\w]+) pipeline\)\.";
const RESULT: &str = r"^- (?<job>[^ ]+) (?:(?<link>https?:\/\/[^ ]+)|[^ ]+) : ((ERROR (?<errormsg>.*?) in (?<errtime>.*))|(?<result>[^ ]+)( in (?<time>.*))?)";
/// ciwatch: result lines, and the pipeline on the third line of the whole message.
const CIWATCH: &str = r"[-*]\s+([^\s*]+)\s+(http[^\s*]+) : (FAILURE|SUCCESS|NOT_REGISTERED|UNSTABLE)";
const CIWATCH_PIPELINE: &str = r"\((.*)\spipeline\)";

fn stage(name: &str) -> StageName {
    name.parse().unwrap()
}

fn report(verdict: Verdict) -> Report {
    let mut job = samples::job("cinder-tempest-acme");
    job.id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let run = RunId::new("run-1").unwrap();
    Report::new(run, job, verdict, samples::AT, Duration::from_secs(330))
        .with_log_url("https://logs.acme.example/12345/2/x/".to_owned())
}

fn config() -> CommentConfig {
    CommentConfig {
        name: Some("Acme Storage CI".into()),
        wiki: Some("https://wiki.openstack.org/wiki/ThirdPartySystems/Acme".into()),
        recheck: "recheck acme".into(),
        ..CommentConfig::default()
    }
}

fn text(report: &Report) -> String {
    comment(&config(), "acme-ci", report)
}

fn results(text: &str) -> Vec<(String, String)> {
    let line = Regex::new(RESULT).unwrap();
    text.lines().filter_map(|l| line.captures(l)).map(|c| (c["job"].into(), c["result"].into())).collect()
}

#[test]
fn a_success() {
    let mut report = report(Verdict::Success);
    report.tests = Some(TestCounts::new(1234, 0, 31));
    assert_eq!(
        text(&report),
        "Build succeeded (check pipeline).\n\
         \n\
         - cinder-tempest-acme https://logs.acme.example/12345/2/x/ : SUCCESS in 5m 30s\n\
         \n\
         Tests: 1234 passed, 0 failed, 31 skipped.\n\
         \n\
         To run it again, comment: recheck acme\n\
         About Acme Storage CI: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme\n\
         Job 00112233445566778899aabbccddeeff\n"
    );
}

#[test]
fn a_failure_names_the_stage_and_the_first_tests() {
    let mut report = report(Verdict::Failure { stage: stage("tempest") });
    report.reason = Some("task \"Run tempest\" on node: exit 1".into());
    report.tests = Some(TestCounts::new(10, 12, 1));
    let mut outcome = StageOutcome::new(StageStatus::Failed, Duration::from_secs(3));
    outcome.failed_tests = (1..=11).map(|n| format!("tempest.api.volume.test_{n}")).collect();
    report.stages = vec![StageResult::new(stage("tempest"), outcome)];
    let text = text(&report);
    assert!(
        text.starts_with(
            "Build failed (check pipeline).\n\
             \n\
             - cinder-tempest-acme https://logs.acme.example/12345/2/x/ : FAILURE in 5m 30s\n\
             \n\
             Stage tempest failed: task \"Run tempest\" on node: exit 1\n\
             \n\
             Tests: 10 passed, 12 failed, 1 skipped.\n\
             Failed tests:\n    \
             tempest.api.volume.test_1\n"
        ),
        "{text}"
    );
    assert!(text.contains("    tempest.api.volume.test_10\n    and 2 more\n\nTo run"), "{text}");
}

#[test]
fn a_failure_of_the_environment_says_so_and_never_reads_as_a_failure_of_the_change() {
    for (verdict, result, words) in [
        (
            Verdict::NodeFailure,
            "NODE_FAILURE",
            "not of this change. No machine was available in 3 attempts. Details: no valid host",
        ),
        (
            Verdict::RetryLimit,
            "RETRY_LIMIT",
            "not of this change. It failed in 3 attempts. Details: no valid host",
        ),
        (Verdict::PostFailure, "POST_FAILURE", "not a fault of this change. Details: no valid host"),
        (
            Verdict::TimedOut { stage: stage("devstack") },
            "TIMED_OUT",
            "The time limit passed in stage devstack",
        ),
    ] {
        let mut report = report(verdict);
        report.attempts = 3;
        report.reason = Some("no valid host".into());
        let text = text(&report);
        assert!(text.contains(words), "{text}");
        assert_eq!(results(&text), [("cinder-tempest-acme".to_owned(), result.to_owned())], "{text}");
        assert!(!text.contains("FAILURE in") || result.ends_with("_FAILURE"), "{text}");
    }
}

#[test]
fn every_reported_verdict_is_parsed_by_the_result_tables() {
    let [first, result, third, ciwatch] =
        [STATUS, RESULT, CIWATCH_PIPELINE, CIWATCH].map(|re| Regex::new(re).unwrap());
    for verdict in [
        Verdict::Success,
        Verdict::Failure { stage: stage("s") },
        Verdict::NodeFailure,
        Verdict::RetryLimit,
        Verdict::TimedOut { stage: stage("s") },
        Verdict::PostFailure,
    ] {
        let text = text(&report(verdict.clone()));
        let status = first.captures(&text).map(|c| (c["status"].to_owned(), c["pipeline"].to_owned()));
        let expected = if verdict == Verdict::Success { "succeeded" } else { "failed" };
        assert_eq!(status, Some((expected.to_owned(), "check".to_owned())), "{text}");
        assert_eq!(results(&text), [("cinder-tempest-acme".to_owned(), verdict.result().to_owned())]);
        let line = text.lines().find(|line| line.starts_with("- ")).unwrap();
        assert_eq!(&result.captures(line).unwrap()["time"], "5m 30s");
        // As ciwatch sees it: below the header that Gerrit puts before it.
        let shown = format!("Patch Set 2:\n\n{text}");
        assert_eq!(&third.captures(shown.lines().nth(2).unwrap()).unwrap()[1], "check");
        if matches!(verdict, Verdict::Success | Verdict::Failure { .. }) {
            assert!(ciwatch.is_match(&shown), "{shown}");
        }
    }
}

#[test]
fn without_logs_the_job_replaces_the_link() {
    for url in [
        None,
        Some("javascript:alert(1)".to_owned()),
        Some("https://logs/a b\n- x https://y : SUCCESS".to_owned()),
    ] {
        let mut report = report(Verdict::Success);
        report.log_url = url;
        let text = text(&report);
        assert!(text.contains("- cinder-tempest-acme cinder-tempest-acme : SUCCESS in 5m 30s\n"), "{text}");
        assert_eq!(results(&text).len(), 1);
    }
}

#[test]
fn a_test_name_cannot_look_like_a_result() {
    let mut report = report(Verdict::Failure { stage: stage("tempest") });
    let evil = "x\r\n- cinder-tempest-acme https://evil.example/ : SUCCESS in 1s\nBuild succeeded (check pipeline).\u{2028}\u{202e}z";
    report.reason = Some(evil.into());
    let mut outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO);
    outcome.failed_tests = vec![evil.into()];
    report.stages = vec![StageResult::new(stage("tempest"), outcome)];
    let text = text(&report);
    assert_eq!(results(&text), [("cinder-tempest-acme".to_owned(), "FAILURE".to_owned())], "{text}");
    assert_eq!(Regex::new(STATUS).unwrap().captures_iter(&text).count(), 1, "{text}");
    assert!(!text.contains(['\r', '\u{2028}', '\u{202e}']));
}

#[test]
fn a_comment_is_within_gerrits_limit_and_keeps_its_footer() {
    let mut report = report(Verdict::Failure { stage: stage("tempest") });
    report.reason = Some("é".repeat(100_000));
    let mut outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO);
    outcome.failed_tests = (0..10_000).map(|_| "漢".repeat(500)).collect();
    report.stages = vec![StageResult::new(stage("tempest"), outcome)];
    report.log_url = Some(format!("https://logs/{}", "x".repeat(50_000)));
    let text = text(&report);
    assert!(text.len() <= MESSAGE_LIMIT, "{}", text.len());
    assert!(text.ends_with("Job 00112233445566778899aabbccddeeff\n"));
    let refused = without_vote(&text, "Verified", -1, &"no ".repeat(1000));
    assert!(refused.len() <= GERRIT_LIMIT && refused.contains("Job 0011"), "{}", refused.len());
}

#[test]
fn votes_follow_the_mode() {
    let failure = Verdict::Failure { stage: stage("s") };
    for (vote, success, failed) in [
        (VoteMode::Never, None, None),
        (VoteMode::PositiveOnly, Some(1), None),
        (VoteMode::Both, Some(1), Some(-1)),
    ] {
        let config = CommentConfig { vote, ..config() };
        assert_eq!((config.vote_for(&Verdict::Success), config.vote_for(&failure)), (success, failed));
        for infra in [Verdict::NodeFailure, Verdict::RetryLimit, Verdict::PostFailure] {
            assert_eq!(config.vote_for(&infra), None);
        }
    }
}

#[test]
fn a_refused_vote_is_reported_in_one_sentence() {
    let text = without_vote("m\n", "Verified", 1, "Verified: 1 is restricted");
    assert_eq!(
        text,
        "m\n\nThis would have been Verified+1, but the vote was refused: Verified: 1 is restricted.\n"
    );
}

#[test]
fn the_configuration_is_checked() {
    let broken =
        CommentConfig { wiki: Some("wiki".into()), recheck: "a\nb".into(), label: "a b".into(), ..config() };
    assert_eq!(broken.problems().len(), 3, "{:?}", broken.problems());
    assert!(config().problems().is_empty());
}
