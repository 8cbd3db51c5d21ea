//! The results of the stages decide the verdict, and the node is always released.

use std::time::Duration;

use pushbutton_core::memory::FakeStage;
use pushbutton_core::samples;
use pushbutton_core::{Error, ErrorKind, StageStatus, TestCounts, Verdict};

use crate::lab::{Lab, MINUTE};

fn named(stage: &str) -> pushbutton_core::StageName {
    stage.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn all_stages_pass_and_one_report_says_so() {
    let lab = Lab::new(|stage, _| match stage {
        "tempest" => {
            let mut fake = FakeStage::ends(StageStatus::Passed).after(90 * MINUTE / 2);
            fake.lines = vec!["ran 3 tests".into()];
            fake.outcome.tests = Some(TestCounts::new(2, 0, 1));
            fake
        }
        _ => FakeStage::ends(StageStatus::Passed),
    });
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!((report.verdict, report.attempts), (Verdict::Success, 1));
    assert_eq!(report.tests, Some(TestCounts::new(2, 0, 1)));
    assert_eq!(report.took.as_secs(), 45 * 60);
    let url = format!("https://logs.example.org/45/12345/2/tempest/{}/", report.run);
    assert_eq!(report.log_url, Some(url));
    assert_eq!(lab.stages(), ["install", "tempest", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn failing_tests_are_a_failure_and_the_logs_are_still_collected() {
    let lab = Lab::where_stage("tempest", StageStatus::Failed);
    lab.run(&samples::job("tempest")).await;
    assert_eq!(lab.report().verdict, Verdict::Failure { stage: named("tempest") });
    assert_eq!(lab.stages(), ["install", "tempest", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn tests_never_run_after_a_failed_install_and_the_job_is_retried() {
    let lab = Lab::where_stage("install", StageStatus::Failed);
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!((report.verdict, report.attempts), (Verdict::RetryLimit, 3));
    assert_eq!(lab.stages(), ["install", "logs", "install", "logs", "install", "logs"]);
}

/// Issue 11, point 5.
#[tokio::test(start_paused = true)]
async fn a_failure_that_the_output_explains_by_the_infrastructure_is_retried_and_never_votes() {
    let lab = Lab::new(|stage, context| match (stage, context.attempt) {
        ("tempest", 1) => {
            FakeStage::ends(StageStatus::Failed).with_lines(["E: Failed to fetch http://x/y".into()])
        }
        _ => FakeStage::ends(StageStatus::Passed),
    });
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::Success, 2));
    assert_eq!(lab.cloud.request_count(), 2, "each attempt has a node of its own");
}

/// Issue 11, point 5.
#[tokio::test(start_paused = true)]
async fn a_patch_that_prints_what_infrastructure_prints_gets_no_more_than_the_attempts() {
    for attempts in [1, 2, 3] {
        let lab = Lab::new(|stage, _| match stage {
            "tempest" => FakeStage::ends(StageStatus::Failed).with_lines(["fatal: early EOF".into()]),
            _ => FakeStage::ends(StageStatus::Passed),
        })
        .with_spec(|spec| spec.attempts = attempts);
        lab.run(&samples::job("tempest")).await;
        let report = lab.report();
        assert_eq!((&report.verdict, report.attempts), (&Verdict::RetryLimit, attempts));
        assert_eq!((report.verdict.vote(), lab.cloud.request_count()), (None, attempts as usize));
        let reason = report.reason.unwrap();
        assert!(
            reason.contains(r#"recognised as infrastructure (git server: "fatal: early EOF")"#),
            "{reason}"
        );
    }
}

/// Issue 11, point 5.
#[tokio::test(start_paused = true)]
async fn a_failure_without_such_words_or_without_patterns_is_the_patches() {
    for (line, patterns) in
        [("fatal: early EOF", vec![]), ("AssertionError: 1 != 2", vec!["defaults".to_owned()])]
    {
        let lab = Lab::new(move |stage, _| match stage {
            "tempest" => FakeStage::ends(StageStatus::Failed).with_lines([line.into()]),
            _ => FakeStage::ends(StageStatus::Passed),
        })
        .with_spec(|spec| spec.stages[1].retry_when = patterns);
        lab.run(&samples::job("tempest")).await;
        let report = lab.report();
        assert_eq!((report.verdict, report.attempts), (Verdict::Failure { stage: named("tempest") }, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_retried_and_a_later_success_counts() {
    let lab = Lab::new(|stage, context| {
        let lost = stage == "tempest" && context.attempt < 3;
        FakeStage::ends(if lost { StageStatus::Unreachable } else { StageStatus::Passed })
    });
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!((report.verdict, report.attempts), (Verdict::Success, 3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_boots_is_a_node_failure_after_all_attempts() {
    let broken = || Error::temporary(ErrorKind::Remote, "the server went into ERROR");
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(broken);
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!((&report.verdict, report.attempts, report.verdict.vote()), (&Verdict::NodeFailure, 3, None));
    assert_eq!(report.log_url, None, "nothing ran, so there are no logs");
    assert!(report.reason.unwrap().contains("the server went into ERROR"));
    assert_eq!(lab.cloud.request_count(), 3);
    assert!(lab.stages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_misconfigured_lab_reports_nothing_upstream() {
    let no_flavor = || Error::permanent(ErrorKind::Config, "no flavor named m1.huge");
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(no_flavor);
    lab.run(&samples::job("tempest")).await;
    assert!(lab.reporter.results().is_empty());
    let dead = lab.queue.list(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].why.contains("no flavor named m1.huge"), "{}", dead[0].why);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_exceeds_its_time_limit_is_timed_out_and_the_logs_are_collected() {
    let lab = Lab::new(|stage, _| {
        let takes = if stage == "tempest" { 61 * MINUTE } else { Duration::ZERO };
        FakeStage::ends(StageStatus::Passed).after(takes)
    });
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!(report.verdict, Verdict::TimedOut { stage: named("tempest") });
    assert_eq!(report.took, 60 * MINUTE);
    assert_eq!(lab.stages(), ["install", "tempest", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_of_a_run_applies_to_its_stages_but_not_to_log_collection() {
    let lab = Lab::new(|stage, _| {
        let takes = if stage == "logs" { 9 * MINUTE } else { 50 * MINUTE };
        FakeStage::ends(StageStatus::Passed).after(takes)
    })
    .with_spec(|spec| spec.timeout = 90 * MINUTE);
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!(report.verdict, Verdict::TimedOut { stage: named("tempest") });
    assert_eq!(report.took, 99 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_failed_log_collection_changes_a_success_but_not_a_failure() {
    let lab = Lab::where_stage("logs", StageStatus::Failed);
    lab.run(&samples::job("tempest")).await;
    assert_eq!(lab.report().verdict, Verdict::PostFailure);

    let both = Lab::new(|stage, _| {
        FakeStage::ends(if stage == "install" { StageStatus::Passed } else { StageStatus::Failed })
    });
    both.run(&samples::job("tempest")).await;
    assert_eq!(both.report().verdict, Verdict::Failure { stage: named("tempest") });
}

#[tokio::test(start_paused = true)]
async fn an_undefined_job_becomes_a_dead_letter() {
    let lab = Lab::where_stage("-", StageStatus::Passed);
    lab.run(&samples::job("unknown")).await;
    let dead = lab.queue.list(10).await.unwrap();
    assert_eq!(dead[0].why, "this operator does not define a job named unknown");
    assert!(lab.reporter.updates().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lines_reach_the_reporters_in_order() {
    let lab = Lab::new(|_, _| {
        let lines: Vec<_> = (0..50).map(|n| format!("line {n}")).collect();
        FakeStage::ends(StageStatus::Passed).with_lines(lines)
    })
    .with_spec(|spec| spec.stages.truncate(1));
    lab.run(&samples::job("tempest")).await;
    let lines: Vec<_> = lab
        .reporter
        .updates()
        .into_iter()
        .filter_map(|update| match update.kind {
            pushbutton_core::UpdateKind::Line { line, .. } => Some(line),
            _ => None,
        })
        .collect();
    assert_eq!(lines, (0..50).map(|n| format!("line {n}")).collect::<Vec<_>>());
}
