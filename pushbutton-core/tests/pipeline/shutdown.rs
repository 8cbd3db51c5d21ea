//! A graceful shutdown finishes runs or hands them back, a forced one hands them back at once, and neither reports a
//! false verdict.

use std::time::Duration;

use pushbutton_core::memory::FakeStage;
use pushbutton_core::samples;
use pushbutton_core::{QueueDepth, StageStatus, Verdict};

use crate::lab::{Lab, MINUTE};

fn lab_whose_tests_take(takes: Duration) -> Lab {
    Lab::new(move |stage, _| {
        FakeStage::ends(StageStatus::Passed).after(if stage == "tempest" { takes } else { Duration::ZERO })
    })
}

/// Runs an operator with one job, and does this after the job has run for a minute.
async fn after_a_minute(lab: &Lab, deadline: Duration, then: impl AsyncFnOnce()) {
    lab.queue.publish(&samples::job("tempest")).await.unwrap();
    let operator = lab.operator().with_shutdown_deadline(deadline);
    let steps = async {
        tokio::time::sleep(MINUTE).await;
        then().await;
    };
    tokio::join!(operator.run(&lab.shutdown), steps).0.unwrap();
    lab.assert_clean().await;
}

fn handed_back() -> QueueDepth {
    QueueDepth::new(1, 0, 0)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_before_the_deadline_is_finished() {
    let lab = lab_whose_tests_take(5 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || lab.shutdown.begin()).await;
    assert_eq!(lab.report().verdict, Verdict::Success);
    assert_eq!(lab.queue.depth().await.unwrap(), QueueDepth::default().with_reports(1u64));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_in_time_is_handed_back_unreported_and_uncounted() {
    let lab = lab_whose_tests_take(50 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || lab.shutdown.begin()).await;
    assert!(lab.reporter.results().is_empty());
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back());
    assert_eq!(lab.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap().job().failed_attempts, 0);
    assert_eq!(lab.stages(), ["install", "tempest"], "no logs are collected for a run that will be repeated");
}

#[tokio::test(start_paused = true)]
async fn a_forced_shutdown_waits_for_no_run() {
    let lab = lab_whose_tests_take(50 * MINUTE);
    let began = tokio::time::Instant::now();
    after_a_minute(&lab, 30 * MINUTE, async || {
        lab.shutdown.begin();
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.shutdown.force();
    })
    .await;
    assert!(began.elapsed() < 2 * MINUTE);
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back());
}

#[tokio::test(start_paused = true)]
async fn no_job_is_claimed_after_the_shutdown_has_begun() {
    let lab = lab_whose_tests_take(5 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || {
        lab.shutdown.begin();
        lab.queue.publish(&samples::job_on(7, "tempest")).await.unwrap();
    })
    .await;
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back().with_reports(1u64));
}

// core.md S2-7: systemd's default sends TERM to ansible-playbook together with the operator.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_processes_end_with_the_operator_is_handed_back_uncounted() {
    let lab = Lab::new(|stage, _| match stage {
        "tempest" => FakeStage::ends(StageStatus::Unreachable).after(2 * MINUTE),
        _ => FakeStage::ends(StageStatus::Passed),
    });
    after_a_minute(&lab, 10 * MINUTE, async || lab.shutdown.begin()).await;
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back());
    let again = lab.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
    assert_eq!(again.job().failed_attempts, 0, "the shutdown is no failure of the infrastructure");
}
