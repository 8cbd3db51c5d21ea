//! A lease is kept for hours, and a run that cannot keep it is stopped before another may begin.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::{FakeStage, MemoryQueue};
use pushbutton_core::samples;
use pushbutton_core::{StageStatus, UpdateKind, Verdict};
use pushbutton_testkit::faults::{Fault, FaultPlan, Faulty, Method};

use crate::lab::{Deaf, Lab, MINUTE};

const LEASE: Duration = MINUTE;

fn lab(broker: &FaultPlan) -> Lab {
    Lab::new(|stage, context| {
        let first = stage == "tempest" && context.job.failed_attempts == 0;
        FakeStage::ends(StageStatus::Passed).after(if first { 50 * MINUTE } else { Duration::ZERO })
    })
    .with_queue(Arc::new(Faulty::new(Arc::new(MemoryQueue::with_lease(LEASE)), broker)))
}

/// After some minutes, no lease can be renewed for a while.
async fn broker_is_away(broker: &FaultPlan, how_long: Duration) {
    tokio::time::sleep(5 * MINUTE).await;
    broker.always(Method::Renew, Fault::unreachable());
    tokio::time::sleep(how_long).await;
    broker.repair(Method::Renew);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_leases_keeps_its_job() {
    let lab = lab(&FaultPlan::none());
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.cloud.asked.lock().unwrap().len()), (Verdict::Success, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_shorter_than_the_lease_disturbs_no_run() {
    let broker = FaultPlan::none();
    let lab = lab(&broker);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&broker, LEASE / 4));
    assert_eq!((lab.report().verdict, lab.cloud.asked.lock().unwrap().len()), (Verdict::Success, 1));
    assert!(!broker.injected().is_empty(), "a renewal fell into the cut");
}

/// The job came back, and its first run had ended before the second began.
fn assert_fenced(lab: &Lab) {
    let runs = lab.cloud.asked.lock().unwrap().clone();
    assert!(runs.len() > 1, "the job came back");
    let updates = lab.reporter.updates();
    let at = |run, wanted: fn(&UpdateKind) -> bool| {
        updates.iter().position(|update| update.run.as_ref() == Some(run) && wanted(&update.kind)).unwrap()
    };
    let ended = at(&runs[0], |kind| matches!(kind, UpdateKind::HandedBack { .. }));
    let began = at(&runs[1], |kind| matches!(kind, UpdateKind::Started));
    assert!(ended < began, "the first run had ended before the second began");
}

#[tokio::test(start_paused = true)]
async fn a_longer_cut_fences_the_run_before_its_lease_ends_and_it_runs_once_more() {
    let broker = FaultPlan::none();
    let lab = lab(&broker);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&broker, 3 * LEASE));
    assert_fenced(&lab);
    assert_eq!(lab.report().verdict, Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_does_not_end_in_time_is_dropped_before_the_lease_ends() {
    let broker = FaultPlan::none();
    let lab = lab(&broker).with_executor(Arc::new(Deaf));
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&broker, 3 * LEASE));
    assert_fenced(&lab);
}
