//! Operators stop and start under load: every job is done once, and nothing is left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use pushbutton_core::memory::FakeStage;
use pushbutton_core::samples;
use pushbutton_core::{ChangeNumber, QueueDepth, Shutdown, StageStatus, UpdateKind, Verdict};

use crate::lab::{Lab, MINUTE};

const JOBS: u64 = 40;

/// A lab with forty jobs of 4 to 13 minutes.
async fn lab_under_load() -> Lab {
    let lab = Lab::new(|stage, context| {
        let minutes = 4 + u32::try_from(context.job.change.number.0 % 10).unwrap();
        FakeStage::ends(StageStatus::Passed).after(if stage == "tempest" {
            minutes * MINUTE
        } else {
            Duration::ZERO
        })
    });
    for change in 0..JOBS {
        lab.queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
    }
    lab
}

/// Runs an operator with three slots until this shutdown.
async fn operate(lab: &Lab, deadline: Duration, shutdown: &Shutdown) {
    let operator = lab.operator().with_slots(3).with_shutdown_deadline(deadline);
    operator.run(shutdown).await.unwrap();
}

/// Checks what must hold however the operators were stopped.
async fn assert_each_once(lab: &Lab) {
    lab.assert_clean().await;
    assert_eq!(
        lab.queue.depth().await.unwrap(),
        QueueDepth::default().with_reports(JOBS),
        "one report for each job"
    );
    let mut reported: BTreeMap<ChangeNumber, u32> = BTreeMap::new();
    for report in lab.reporter.results() {
        assert_eq!(
            (report.verdict, report.attempts),
            (Verdict::Success, 1),
            "no restart counts as a failure"
        );
        *reported.entry(report.job.change.number).or_default() += 1;
    }
    let expected = (0..JOBS).map(|change| (ChangeNumber(change), 1)).collect();
    assert_eq!(reported, expected);
    // No two runs of a job at the same time: one ended, or was handed back, before the next began.
    let mut running: BTreeMap<ChangeNumber, bool> = BTreeMap::new();
    for update in lab.reporter.updates() {
        let running = running.entry(update.job.change.number).or_default();
        match update.kind {
            UpdateKind::Started => assert!(!std::mem::replace(running, true), "{update:?}"),
            UpdateKind::HandedBack { .. } | UpdateKind::Finished { .. } => *running = false,
            _ => {}
        }
    }
}

/// Restarts two operators in turn, each stopped in this way, until all jobs are done.
async fn rolling_restart(lab: &Lab, deadline: Duration, end: impl AsyncFn(&Shutdown)) {
    let done = Shutdown::new();
    let restarts = async |first: Duration| {
        let mut up_for = first;
        while !done.has_begun() {
            let shutdown = Shutdown::new();
            let until = async {
                tokio::select! { () = tokio::time::sleep(up_for) => {}, () = done.begun() => {} }
                end(&shutdown).await;
            };
            tokio::join!(operate(lab, deadline, &shutdown), until);
            up_for = 14 * MINUTE;
        }
    };
    let idle = async {
        lab.wait_until_idle().await;
        done.begin();
    };
    tokio::join!(restarts(14 * MINUTE), restarts(7 * MINUTE), idle);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_with_a_long_deadline_lets_every_run_finish() {
    let lab = lab_under_load().await;
    rolling_restart(&lab, 30 * MINUTE, async |shutdown| shutdown.begin()).await;
    assert_each_once(&lab).await;
    assert_eq!(lab.cloud.request_count(), usize::try_from(JOBS).unwrap(), "no run was started twice");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_with_a_short_deadline_hands_back_what_still_runs() {
    let lab = lab_under_load().await;
    rolling_restart(&lab, MINUTE, async |shutdown| shutdown.begin()).await;
    assert_each_once(&lab).await;
    assert!(lab.cloud.request_count() > usize::try_from(JOBS).unwrap(), "some runs were started twice");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_with_forced_shutdowns_hands_back_at_once() {
    let lab = lab_under_load().await;
    rolling_restart(&lab, 30 * MINUTE, async |shutdown| {
        shutdown.begin();
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.force();
    })
    .await;
    assert_each_once(&lab).await;
}

#[tokio::test(start_paused = true)]
async fn a_crashed_operator_loses_only_its_runs() {
    let lab = lab_under_load().await;
    let never = Shutdown::new();
    // It crashes while jobs run: nodes are not released, nothing is reported, and the leases expire.
    let crash = tokio::time::timeout(10 * MINUTE, operate(&lab, MINUTE, &never)).await;
    assert!(crash.is_err());
    assert_eq!(lab.queue.depth().await.unwrap().leased, 3);
    let left_behind = lab.queue.leased_runs().await.unwrap();
    let (shutdown, end) = (Shutdown::new(), async { lab.wait_until_idle().await });
    tokio::join!(operate(&lab, MINUTE, &shutdown), async {
        end.await;
        shutdown.begin();
    });
    assert_eq!(lab.reporter.results().len(), usize::try_from(JOBS).unwrap());
    let mut left: Vec<_> = {
        use pushbutton_core::Provisioner as _;
        lab.cloud.list_owned().await.unwrap().into_iter().filter_map(|owned| owned.run).collect()
    };
    let mut expected = left_behind;
    left.sort();
    expected.sort();
    assert_eq!(left, expected, "the nodes of the crashed runs are left for the sweep");
}
