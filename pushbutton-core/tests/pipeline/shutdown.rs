//! A graceful end finishes or hands back; a forced one hands back at once; neither reports anything false.

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

/// Starts the operator on one job and, when that has run for a minute, does this.
async fn after_a_minute(lab: &Lab, deadline: Duration, then: impl AsyncFnOnce()) {
    lab.queue.publish(&samples::job("tempest")).await.unwrap();
    let operator = lab.operator().with_shutdown_deadline(deadline);
    let script = async {
        tokio::time::sleep(MINUTE).await;
        then().await;
    };
    tokio::join!(operator.run(&lab.shutdown), script).0.unwrap();
    lab.assert_clean().await;
}

fn handed_back() -> QueueDepth {
    QueueDepth::new(1, 0, 0)
}

#[tokio::test(start_paused = true)]
async fn what_ends_within_the_deadline_is_finished() {
    let lab = lab_whose_tests_take(5 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || lab.shutdown.begin()).await;
    assert_eq!(lab.report().verdict, Verdict::Success);
    assert_eq!(lab.queue.depth().await.unwrap(), QueueDepth::default());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_is_handed_back_without_report_and_without_counting() {
    let lab = lab_whose_tests_take(50 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || lab.shutdown.begin()).await;
    assert!(lab.reporter.reports().is_empty());
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back());
    assert_eq!(lab.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap().job().failed_attempts, 0);
    assert_eq!(
        lab.stages(),
        ["install", "tempest"],
        "logs of a run that another will repeat are not gathered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_waits_for_nothing() {
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
async fn nothing_new_is_claimed_once_the_end_has_begun() {
    let lab = lab_whose_tests_take(5 * MINUTE);
    after_a_minute(&lab, 10 * MINUTE, async || {
        lab.shutdown.begin();
        lab.queue.publish(&samples::job_on(7, "tempest")).await.unwrap();
    })
    .await;
    assert_eq!(lab.queue.depth().await.unwrap(), handed_back());
}
