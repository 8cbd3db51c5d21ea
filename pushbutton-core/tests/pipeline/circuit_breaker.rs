//! While no node boots, an operator claims only one job at intervals, to probe the cloud.

use std::time::Duration;

use pushbutton_core::memory::FakeStage;
use pushbutton_core::pipeline::BreakerState;
use pushbutton_core::samples;
use pushbutton_core::{BreakerPolicy, Error, ErrorKind, Job, StageStatus, UpdateKind, Verdict};

use crate::lab::{Lab, MINUTE, broken};

fn jobs(changes: std::ops::Range<u64>) -> Vec<Job> {
    changes.map(|change| samples::job_on(change, "tempest")).collect()
}

async fn until(health: &mut tokio::sync::watch::Receiver<pushbutton_core::pipeline::Health>, wanted: &str) {
    let is_wanted = |state: &BreakerState| match state {
        BreakerState::Closed => wanted == "closed",
        BreakerState::Open { .. } => wanted == "open",
        BreakerState::HalfOpen { .. } => wanted == "half-open",
        _ => false,
    };
    health.wait_for(|health| is_wanted(&health.breaker)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_cloud_is_tried_at_intervals_and_no_job_is_lost() {
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(broken);
    // Slow enough that a watcher of the health sees every transition.
    lab.cloud.boot_for(Duration::from_secs(1));
    let operator = lab.operator().with_breaker(BreakerPolicy::default().with_failures(5u32));
    let mut health = operator.health();
    let steps = async {
        until(&mut health, "open").await;
        let state = health.borrow().breaker.clone();
        let BreakerState::Open { failures: 5, last, .. } = state else { panic!("{state:?}") };
        assert!(last.contains("the server went into ERROR"), "{last}");
        assert_eq!(lab.cloud.request_count(), 5);
        // No node is requested during the pause, and one after it.
        tokio::time::sleep(MINUTE / 2 - Duration::from_secs(1)).await;
        assert_eq!(lab.cloud.request_count(), 5);
        until(&mut health, "half-open").await;
        until(&mut health, "open").await;
        assert_eq!(lab.cloud.request_count(), 6);
        lab.cloud.refuse(None);
        until(&mut health, "closed").await;
        assert_eq!(lab.cloud.request_count(), 7);
    };
    tokio::join!(lab.run_on(operator, jobs(0..20)), steps);
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 20);
    assert!(reports.iter().all(|report| report.verdict == Verdict::Success));
}

#[tokio::test(start_paused = true)]
async fn runs_that_have_nodes_continue() {
    let lab = Lab::new(|stage, context| {
        let long = stage == "tempest" && context.job.change.number.0 == 0;
        FakeStage::ends(StageStatus::Passed).after(if long { 50 * MINUTE } else { Duration::ZERO })
    });
    let operator = lab.operator().with_slots(4);
    let mut health = operator.health();
    let steps = async {
        tokio::time::sleep(MINUTE).await;
        lab.cloud.refuse(Some(broken));
        for job in jobs(1..11) {
            lab.queue.publish(&job).await.unwrap();
        }
        until(&mut health, "open").await;
        health.wait_for(|health| health.running == 1).await.unwrap();
        // The long run ends while the breaker is open or half-open; only then does the cloud recover.
        tokio::time::sleep(60 * MINUTE).await;
        assert!(lab.reporter.results().iter().any(|report| report.job.change.number.0 == 0));
        lab.cloud.refuse(None);
    };
    tokio::join!(lab.run_on(operator, jobs(0..1)), steps);
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 11);
    let long = reports.iter().find(|report| report.job.change.number.0 == 0).unwrap();
    assert_eq!((&long.verdict, long.took), (&Verdict::Success, 50 * MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_misconfigured_job_does_not_stop_other_jobs() {
    let no_flavor = || Error::permanent(ErrorKind::Config, "no flavor named m1.huge");
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(no_flavor);
    let operator = lab.operator();
    let health = operator.health();
    lab.run_on(operator, jobs(0..20)).await;
    assert_eq!(lab.queue.depth().await.unwrap().dead, 20);
    assert_eq!(health.borrow().breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_refuses_the_login_does_not_drain_the_queue() {
    let expired = || Error::permanent(ErrorKind::Denied, "the password has expired").affecting_all_jobs();
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(expired);
    // Slow enough that a watcher of the health sees every transition.
    lab.cloud.boot_for(Duration::from_secs(1));
    let operator = lab.operator();
    let mut health = operator.health();
    let steps = async {
        // The first run shows it, and so does each probe.
        for requests in 1..4 {
            until(&mut health, "open").await;
            let depth = lab.queue.depth().await.unwrap();
            assert_eq!((lab.cloud.request_count(), depth.dead, depth.waiting), (requests, 0, 20));
            let state = health.borrow().breaker.clone();
            let BreakerState::Open { last, .. } = state else { panic!("{state:?}") };
            assert!(last.contains("the password has expired"), "{last}");
            until(&mut health, "half-open").await;
        }
        lab.cloud.refuse(None);
    };
    tokio::join!(lab.run_on(operator, jobs(0..20)), steps);
    let reports = lab.reporter.results();
    assert_eq!((lab.queue.depth().await.unwrap().dead, reports.len()), (0, 20));
    assert!(reports.iter().all(|report| report.attempts == 1), "no attempt is counted");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_the_operator_stops_it_and_counts_no_attempt() {
    let full =
        || Error::temporary(ErrorKind::Local, "the journal cannot be written: no space left on device");
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(full);
    let operator = lab.operator();
    let mut health = operator.health();
    let steps = async {
        until(&mut health, "open").await;
        assert_eq!((lab.cloud.request_count(), lab.queue.depth().await.unwrap().waiting), (1, 3));
        lab.cloud.refuse(None);
    };
    tokio::join!(lab.run_on(operator, jobs(0..3)), steps);
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.attempts == 1 && report.verdict == Verdict::Success));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_cloud_forbids_is_a_dead_letter_and_several_in_a_row_stop_the_operator() {
    let forbidden = || Error::permanent(ErrorKind::Denied, "Policy doesn't allow servers:create");
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(forbidden);
    let operator = lab.operator();
    let mut health = operator.health();
    let steps = async {
        until(&mut health, "open").await;
        let depth = lab.queue.depth().await.unwrap();
        assert_eq!((depth.dead, depth.waiting), (5, 15));
        lab.cloud.refuse(None);
    };
    tokio::join!(lab.run_on(operator, jobs(0..20)), steps);
    assert_eq!((lab.queue.depth().await.unwrap().dead, lab.reporter.results().len()), (5, 15));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_requests_no_node_lets_the_next_job_probe() {
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(broken);
    // Failed jobs are retried only after the end of this test.
    let operator = lab.operator().with_retry_delays(60 * MINUTE, 60 * MINUTE);
    let mut health = operator.health();
    let steps = async {
        until(&mut health, "open").await;
        lab.cloud.refuse(None);
        for name in ["unknown", "tempest"] {
            lab.queue.publish(&samples::job_on(100, name)).await.unwrap();
        }
        until(&mut health, "closed").await;
    };
    tokio::join!(lab.run_on(operator, jobs(0..5)), steps);
    assert_eq!(lab.queue.depth().await.unwrap().dead, 1);
    let updates = lab.reporter.updates();
    let ready = updates.iter().find(|update| matches!(update.kind, UpdateKind::NodeReady { .. })).unwrap();
    assert_eq!(ready.job.change.number.0, 100, "the probe after the unknown job");
}
