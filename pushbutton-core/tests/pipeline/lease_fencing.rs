//! A run renews its lease for hours. A run that cannot renew it is stopped before the lease ends and the job runs
//! elsewhere (fencing).

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::{FakeStage, MemoryQueue};
use pushbutton_core::samples;
use pushbutton_core::{StageStatus, UpdateKind, Verdict};
use pushbutton_testkit::faults::{Fault, FaultPlan, Faulty, Method};

use crate::lab::{Lab, MINUTE, Unstoppable};

const LEASE: Duration = MINUTE;

fn lab(broker: &FaultPlan) -> Lab {
    Lab::new(|stage, context| {
        let first = stage == "tempest" && context.job.failed_attempts == 0;
        FakeStage::ends(StageStatus::Passed).after(if first { 50 * MINUTE } else { Duration::ZERO })
    })
    .with_queue(Arc::new(Faulty::new(Arc::new(MemoryQueue::with_lease(LEASE)), broker)))
}

/// Prevents the renewal of leases for this time, after five minutes.
async fn broker_outage(broker: &FaultPlan, length: Duration) {
    tokio::time::sleep(5 * MINUTE).await;
    broker.always(Method::Renew, Fault::unreachable());
    tokio::time::sleep(length).await;
    broker.repair(Method::Renew);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_leases_keeps_its_job() {
    let lab = lab(&FaultPlan::none());
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.cloud.request_count()), (Verdict::Success, 1));
}

/// Whenever it begins between two renewals.
#[tokio::test(start_paused = true)]
async fn an_outage_of_four_fifths_of_the_lease_disturbs_no_run() {
    for phase in 0..30 {
        let broker = FaultPlan::none();
        let lab = lab(&broker);
        let job = samples::job("tempest");
        let outage = async {
            tokio::time::sleep(Duration::from_millis(100) * phase).await;
            broker_outage(&broker, LEASE * 4 / 5).await;
        };
        tokio::join!(lab.run(&job), outage);
        assert_eq!((lab.report().verdict, lab.cloud.request_count()), (Verdict::Success, 1), "{phase}");
        assert!(!broker.injected().is_empty(), "a renewal failed during the outage");
    }
}

/// A broker that hangs, and answers nothing at all.
#[tokio::test(start_paused = true)]
async fn a_silence_of_four_fifths_of_the_lease_disturbs_no_run() {
    let broker = FaultPlan::none();
    let lab = lab(&broker);
    let job = samples::job("tempest");
    let silence = async {
        tokio::time::sleep(5 * MINUTE).await;
        broker.always(Method::Renew, Fault::Hang);
        tokio::time::sleep(LEASE * 4 / 5).await;
        broker.repair(Method::Renew);
    };
    tokio::join!(lab.run(&job), silence);
    assert_eq!((lab.report().verdict, lab.cloud.request_count()), (Verdict::Success, 1));
    assert!(!broker.injected().is_empty(), "a renewal was not answered");
}

/// Checks that the job ran again, and that its first run had ended before the second began.
fn assert_fenced(lab: &Lab) {
    let runs = lab.cloud.requests.lock().unwrap().clone();
    assert!(runs.len() > 1, "the job ran again");
    let updates = lab.reporter.updates();
    let at = |run, wanted: fn(&UpdateKind) -> bool| {
        updates.iter().position(|update| update.run.as_ref() == Some(run) && wanted(&update.kind)).unwrap()
    };
    let ended = at(&runs[0], |kind| matches!(kind, UpdateKind::HandedBack { .. }));
    let began = at(&runs[1], |kind| matches!(kind, UpdateKind::Started));
    assert!(ended < began, "the first run had ended before the second began");
}

#[tokio::test(start_paused = true)]
async fn a_longer_outage_stops_the_run_before_its_lease_ends_and_the_job_runs_again() {
    let broker = FaultPlan::none();
    let lab = lab(&broker);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), broker_outage(&broker, 3 * LEASE));
    assert_fenced(&lab);
    assert_eq!(lab.report().verdict, Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_does_not_end_in_time_is_dropped_before_the_lease_ends() {
    let broker = FaultPlan::none();
    let lab = lab(&broker).with_executor(Arc::new(Unstoppable));
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), broker_outage(&broker, 3 * LEASE));
    assert_fenced(&lab);
}
