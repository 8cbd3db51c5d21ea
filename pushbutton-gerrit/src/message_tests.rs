use std::time::Duration;

use pushbutton_core::samples;
use pushbutton_core::{
    JobName, MissingJob, RunId, StageName, StageOutcome, StageResult, StageStatus, TestCounts,
};
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

fn report(verdict: Verdict) -> RunResult {
    report_of("cinder-tempest-acme", verdict)
}

fn report_of(job: &str, verdict: Verdict) -> RunResult {
    let job = samples::job(job);
    let run = RunId::new("run-1").unwrap();
    RunResult::new(run, job, verdict, samples::AT, Duration::from_secs(330))
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

fn buildset(results: Vec<RunResult>) -> BuildsetReport {
    BuildsetReport::new("00112233445566778899aabbccddeeff".parse().unwrap(), results).unwrap()
}

fn text(report: &RunResult) -> String {
    text_of(&buildset(vec![report.clone()]))
}

fn text_of(report: &BuildsetReport) -> String {
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
         Buildset 00112233445566778899aabbccddeeff\n"
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
    assert!(text.contains("    tempest.api.volume.test_10\n        https://logs.acme.example/12345/2/x/#:~:text=tempest.api.volume.test_10\n    and 2 more\n\nTo run"), "{text}");
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
        (
            Verdict::MergeConflict,
            "MERGER_FAILURE",
            "It was not tested: it does not merge. Details: no valid host",
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
        Verdict::MergeConflict,
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
fn a_merge_conflict_alone_is_no_comment_unless_it_is_asked_for() {
    let of = |verdicts: &[Verdict]| {
        let results = verdicts.iter().map(|verdict| report(verdict.clone())).collect();
        BuildsetReport::new(samples::job("x").buildset.id, results).unwrap()
    };
    let (silent, config) = (CommentConfig::default(), CommentConfig::default().with_merge_conflicts(true));
    for (verdicts, expected) in [
        (vec![Verdict::MergeConflict], false),
        (vec![Verdict::MergeConflict, Verdict::MergeConflict], false),
        (vec![Verdict::MergeConflict, Verdict::Cancelled], false),
        (vec![Verdict::MergeConflict, Verdict::RetryLimit], true),
        (vec![Verdict::Success], true),
    ] {
        assert_eq!(silent.is_for_the_review(&of(&verdicts)), expected, "{verdicts:?}");
        assert!(config.is_for_the_review(&of(&verdicts)), "{verdicts:?}");
    }
    // A notice that nothing was started has no results.
    let (change, patchset) = (samples::change(), samples::patchset());
    let notice = BuildsetReport::without_results(samples::job("x").buildset.id, change, patchset, Vec::new());
    assert!(silent.is_for_the_review(&notice));
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
    assert!(text.ends_with("Buildset 00112233445566778899aabbccddeeff\n"));
    let refused = without_vote(&text, "Verified", -1, &"no ".repeat(1000));
    assert!(refused.len() <= GERRIT_LIMIT && refused.contains("Buildset 0011"), "{}", refused.len());
}

#[test]
fn two_jobs_have_a_result_line_and_a_section_each() {
    let mut failed = report_of("unit", Verdict::Failure { stage: stage("run") });
    failed.reason = Some("exit 1".into());
    let mut passed = report_of("tempest", Verdict::Success);
    passed.tests = Some(TestCounts::new(3, 0, 1));
    let missing = MissingJob::new("grenade".parse().unwrap(), "an equal job waited already (buildset 12)");
    let text = text_of(
        &buildset(vec![passed, report_of("pep8", Verdict::Success), failed]).with_missing(vec![missing]),
    );
    assert_eq!(
        text,
        "Build failed (check pipeline).\n\
         \n\
         - tempest https://logs.acme.example/12345/2/x/ : SUCCESS in 5m 30s\n\
         - pep8 https://logs.acme.example/12345/2/x/ : SUCCESS in 5m 30s\n\
         - unit https://logs.acme.example/12345/2/x/ : FAILURE in 5m 30s\n\
         \n\
         tempest:\n\
         Tests: 3 passed, 0 failed, 1 skipped.\n\
         \n\
         unit:\n\
         Stage run failed: exit 1\n\
         \n\
         grenade has no result here: an equal job waited already (buildset 12).\n\
         \n\
         To run it again, comment: recheck acme\n\
         About Acme Storage CI: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme\n\
         Buildset 00112233445566778899aabbccddeeff\n"
    );
    assert_eq!(results(&text).len(), 3);
}

#[test]
fn many_long_jobs_are_cut_at_whole_lines_and_each_keeps_a_part_of_its_section() {
    let verdict = || Verdict::Failure { stage: stage("tempest") };
    let reports = |count: usize, name: &str| -> Vec<RunResult> {
        let report = |n: usize| {
            let mut report = report_of(&format!("{name}-{n}"), verdict());
            report.log_url = Some(format!("https://logs/{}", "x".repeat(500)));
            let mut outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO);
            outcome.failed_tests =
                (0..10).map(|test| format!("{name}-{n}.{test}.{}", "y".repeat(250))).collect();
            report.with_stages(vec![StageResult::new(stage("tempest"), outcome)])
        };
        (0..count).map(report).collect()
    };
    // Their links do not fit, and are left out. The footer and all result lines are there.
    let text = text_of(&buildset(reports(30, "job")));
    assert!(text.len() <= MESSAGE_LIMIT, "{}", text.len());
    assert_eq!(results(&text).len(), 30);
    for n in 0..30 {
        assert!(text.contains(&format!("\njob-{n}:\nStage tempest failed.\n")), "{n}: {text}");
    }
    assert!(text.ends_with("\nBuildset 00112233445566778899aabbccddeeff\n"));
    // Not even the result lines fit.
    let long = "j".repeat(200);
    let text = text_of(&buildset(reports(200, &long)));
    assert!(text.len() <= MESSAGE_LIMIT, "{}", text.len());
    let shown = results(&text);
    assert!(shown.len() > 10 && shown.iter().all(|(_, result)| result == "FAILURE"), "{shown:?}");
    assert!(text.contains(&format!("\nand {} more jobs\n", 200 - shown.len())), "{text}");
    assert!(text.ends_with("\nBuildset 00112233445566778899aabbccddeeff\n"));
}

#[test]
fn the_reason_of_a_missing_job_cannot_look_like_a_result() {
    let name: JobName = "unit".parse().unwrap();
    let evil = MissingJob::new(
        name,
        "x\n- unit https://evil.example/ : SUCCESS in 1s\nBuild failed (check pipeline).",
    );
    let text = text_of(&buildset(vec![report(Verdict::Success)]).with_missing(vec![evil]));
    assert_eq!(results(&text).len(), 1, "{text}");
    assert_eq!(Regex::new(STATUS).unwrap().captures_iter(&text).count(), 1, "{text}");
}

/// core.md S2-3.
#[test]
fn a_notice_that_nothing_was_started_votes_nothing_and_is_none_to_result_tables() {
    let missing = ["unit", "tempest"].map(|name| MissingJob::new(name.parse().unwrap(), "too many builds"));
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let (change, patchset) = (samples::change(), samples::patchset());
    let notice = BuildsetReport::without_results(id, change, patchset, missing.into());
    let text = text_of(&notice);
    assert!(
        text.starts_with(
            "No build of patch set 2 was started.\n\nunit, tempest have no result here: too many builds.\n\nTo run"
        ),
        "{text}"
    );
    assert!(text.ends_with("\nBuildset 00112233445566778899aabbccddeeff\n"), "{text}");
    assert!(!Regex::new(STATUS).unwrap().is_match(&text) && results(&text).is_empty(), "{text}");
    assert!(!Regex::new(r"(?m)^Build (?<status>\w+)\.").unwrap().is_match(&text));
    assert_eq!(CommentConfig { vote: VoteMode::Both, ..config() }.vote_for(&notice), None);
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
        let vote_for = |verdicts: &[&Verdict]| {
            let results = verdicts.iter().map(|verdict| report(Verdict::clone(verdict))).collect();
            config.vote_for(&buildset(results))
        };
        let passed = &Verdict::Success;
        assert_eq!((vote_for(&[passed]), vote_for(&[&failure])), (success, failed));
        assert_eq!((vote_for(&[passed, passed]), vote_for(&[passed, &failure])), (success, failed));
        for infra in [Verdict::NodeFailure, Verdict::RetryLimit, Verdict::PostFailure] {
            assert_eq!(vote_for(&[&infra]), None);
            assert_eq!(vote_for(&[passed, &infra]), None);
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
