//! A stale job is stopped, cleaned up, and not reported.

use std::time::Duration;

use pushbutton_core::memory::FakeStage;
use pushbutton_core::samples;
use pushbutton_core::{ControlMessage, PatchsetNumber, StageStatus, Verdict};

use crate::lab::{Lab, MINUTE};

fn long_lab() -> Lab {
    Lab::new(|stage, _| {
        FakeStage::ends(StageStatus::Passed).after(if stage == "tempest" {
            50 * MINUTE
        } else {
            Duration::ZERO
        })
    })
}

fn newer() -> ControlMessage {
    ControlMessage::Superseded { change: samples::change().number, by: PatchsetNumber(3), at: samples::AT }
}

#[tokio::test(start_paused = true)]
async fn a_queued_job_of_an_older_patch_set_boots_no_node() {
    let lab = long_lab();
    lab.queue.broadcast(&newer()).await.unwrap();
    let operator = lab.operator();
    // The operator has got the message before the job comes.
    let script = async {
        tokio::time::sleep(MINUTE).await;
        lab.queue.publish(&samples::job("tempest")).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        lab.shutdown.begin();
    };
    tokio::join!(operator.run(&lab.shutdown), script).0.unwrap();
    assert_eq!(lab.report().verdict, Verdict::Superseded);
    assert!(lab.cloud.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_running_job_is_stopped_its_logs_gathered_and_its_node_released() {
    let lab = long_lab();
    let job = samples::job("tempest");
    let broadcast = async {
        tokio::time::sleep(MINUTE).await;
        lab.queue.broadcast(&newer()).await.unwrap();
    };
    tokio::join!(lab.run(&job), broadcast);
    let report = lab.report();
    assert_eq!((report.verdict.is_reported(), report.verdict), (false, Verdict::Superseded));
    assert!(report.took < 2 * MINUTE, "it did not run on: {:?}", report.took);
    assert_eq!(lab.stages(), ["install", "tempest", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_can_cancel_one_job() {
    let lab = long_lab();
    let job = samples::job("tempest");
    let cancel = async {
        tokio::time::sleep(MINUTE).await;
        for _ in 0..2 {
            let message = ControlMessage::Cancel { job: job.id.clone(), by: "ops".into(), at: samples::AT };
            lab.queue.broadcast(&message).await.unwrap();
        }
    };
    tokio::join!(lab.run(&job), cancel);
    assert_eq!(lab.report().verdict, Verdict::Cancelled);
}
