//! Time limits and cancellation: of a stage, of a run, of stages that always run, and with executors that ignore them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::memory::FakeStage;
use pushbutton_core::samples;
use pushbutton_core::{
    CancellationToken, ControlMessage, Executor, LineSink, Node, OnFailure, Result, RunWhen, Stage,
    StageContext, StageOutcome, StageStatus, Update, UpdateKind, Verdict, serde_json,
};

use crate::lab::{Lab, MINUTE, Unstoppable, stage};

fn named(stage: &str) -> pushbutton_core::StageName {
    stage.parse().unwrap()
}

/// A lab whose stages install, tempest and logs take this many minutes.
fn taking(minutes: [u32; 3]) -> Lab {
    Lab::new(move |stage, _| {
        let at = ["install", "tempest", "logs"].iter().position(|name| *name == stage).unwrap();
        FakeStage::ends(StageStatus::Passed).after(minutes[at] * MINUTE)
    })
}

async fn cancel_after(lab: &Lab, time: Duration) {
    tokio::time::sleep(time).await;
    let job = samples::job("tempest").id;
    lab.queue.broadcast(&ControlMessage::Cancel { job, by: "ops".into(), at: samples::AT }).await.unwrap();
}

/// Fails in the stage tempest, with a megabyte of reasons.
struct Verbose;

#[async_trait]
impl Executor for Verbose {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        let text = "no ".repeat(1 << 19);
        let status = if stage.name.as_str() == "tempest" { StageStatus::Failed } else { StageStatus::Passed };
        let outcome = StageOutcome::new(status, Duration::ZERO).with_detail(Some(text.clone()));
        Ok(outcome.with_failed_tests(vec![text; 3]))
    }
}

/// Issue 10: on every queue, not only on that which has a limit.
#[tokio::test(start_paused = true)]
async fn a_result_of_any_size_reaches_the_queue_with_bounded_texts() {
    let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(Verbose));
    lab.run(&samples::job("tempest")).await;
    let delivery = lab.queue.claim_report().await.unwrap();
    let size = serde_json::to_vec(delivery.report()).unwrap().len();
    assert!(size < 64 << 10, "{size}");
    assert_eq!(delivery.report().results[0].verdict, lab.report().verdict);
}

#[tokio::test(start_paused = true)]
async fn log_collection_has_its_own_time_limit_after_a_success() {
    let lab = taking([1, 30, 99]);
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.report().took), (Verdict::PostFailure, 41 * MINUTE));
}

#[tokio::test(start_paused = true)]
async fn log_collection_has_its_own_time_limit_after_a_timeout() {
    let lab = taking([1, 99, 99]);
    lab.run(&samples::job("tempest")).await;
    let verdict = Verdict::TimedOut { stage: named("tempest") };
    assert_eq!((lab.report().verdict, lab.report().took), (verdict, 71 * MINUTE));
}

#[tokio::test(start_paused = true)]
async fn log_collection_has_its_own_time_limit_after_a_cancellation() {
    let lab = taking([1, 50, 99]);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), cancel_after(&lab, 5 * MINUTE));
    assert_eq!((lab.report().verdict, lab.report().took), (Verdict::Cancelled, 15 * MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_stage_is_not_started_when_the_run_has_no_time_left() {
    let lab = taking([30, 5, 1]).with_spec(|spec| spec.timeout = 30 * MINUTE);
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!(report.verdict, Verdict::TimedOut { stage: named("tempest") });
    assert_eq!(report.reason.as_deref(), Some("the job's time limit had passed before it began"));
    assert_eq!(lab.stages(), ["install", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn an_install_timeout_is_retried_and_every_attempt_collects_its_logs() {
    let lab = taking([99, 1, 1]);
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::RetryLimit, 3));
    assert_eq!(lab.stages(), ["install", "logs", "install", "logs", "install", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn every_stage_with_run_always_runs() {
    let lab = Lab::new(|stage, _| {
        let status = if stage == "install" { StageStatus::Passed } else { StageStatus::Failed };
        FakeStage::ends(status).after(20 * MINUTE)
    })
    .with_spec(|spec| {
        spec.stages.push(stage("publish").with_run(RunWhen::Always).with_timeout(5 * MINUTE));
    });
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!(report.verdict, Verdict::Failure { stage: named("tempest") });
    assert_eq!(report.took, (20 + 20 + 10 + 5) * MINUTE);
    assert_eq!(lab.stages(), ["install", "tempest", "logs", "publish"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_while_its_node_boots_leaves_no_node() {
    let lab = taking([1, 1, 1]);
    lab.cloud.boot_for(4 * MINUTE);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), cancel_after(&lab, MINUTE));
    assert_eq!((lab.report().verdict, lab.report().took), (Verdict::Cancelled, MINUTE));
    assert!(lab.stages().is_empty(), "no stage ran without a node");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_boots_is_released() {
    let lab = taking([1, 1, 1]);
    lab.cloud.boot_for(10_000 * MINUTE);
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.cloud.request_count()), (Verdict::NodeFailure, 3));
}

/// A reporter that takes 25 seconds for the last step.
struct Slow(Arc<pushbutton_core::memory::MemoryReporter>);

#[async_trait]
impl pushbutton_core::Reporter for Slow {
    async fn report(&self, update: &Update) -> Result<()> {
        if matches!(update.kind, UpdateKind::Finished { .. }) {
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        self.0.report(update).await
    }

    fn name(&self) -> &str {
        "slow"
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_while_the_verdict_is_reported_changes_nothing() {
    let lab = taking([1, 30, 1]);
    let slow = Arc::new(Slow(lab.reporter.clone()));
    let operator = lab.operator_without_reporter().with_reporter(slow);
    let jobs = vec![samples::job("tempest")];
    tokio::join!(lab.run_on(operator, jobs), cancel_after(&lab, 32 * MINUTE + Duration::from_secs(10)));
    assert_eq!(lab.report().verdict, Verdict::Success);
    let final_report = |update: &Update| matches!(update.kind, UpdateKind::Finished { .. });
    assert_eq!(lab.reporter.updates().iter().filter(|update| final_report(update)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_cancellation_changes_nothing() {
    let lab = taking([1, 30, 1]);
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), async {
        cancel_after(&lab, 5 * MINUTE).await;
        cancel_after(&lab, Duration::ZERO).await;
    });
    cancel_after(&lab, Duration::ZERO).await;
    // A cancelled job has ended: published again, it does not run.
    lab.queue.publish(&job).await.unwrap();
    assert_eq!(lab.queue.depth().await.unwrap().waiting, 0);
    assert_eq!(lab.report().verdict, Verdict::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_ignores_its_time_limit_is_dropped() {
    let lab = taking([0, 0, 0]).with_executor(Arc::new(Unstoppable));
    lab.run(&samples::job("tempest")).await;
    assert_eq!(lab.report().verdict, Verdict::TimedOut { stage: named("tempest") });
    assert_eq!(lab.report().took, 61 * MINUTE, "the time limit, and a minute to end its processes");
    assert_eq!(lab.stages(), ["install", "tempest", "logs"]);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_ignores_cancellation_is_dropped() {
    let lab = taking([0, 0, 0]).with_executor(Arc::new(Unstoppable));
    let job = samples::job("tempest");
    tokio::join!(lab.run(&job), cancel_after(&lab, 5 * MINUTE));
    assert_eq!((lab.report().verdict, lab.report().took), (Verdict::Cancelled, 6 * MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_stage_with_on_failure_retry_is_retried_when_the_run_had_no_time_left_for_it() {
    let lab = taking([30, 5, 1]).with_spec(|spec| {
        spec.timeout = 30 * MINUTE;
        spec.stages[1].on_failure = OnFailure::Retry;
    });
    lab.run(&samples::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::RetryLimit, 3));
}
