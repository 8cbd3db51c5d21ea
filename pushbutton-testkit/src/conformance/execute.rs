//! Checks of the contract of [`Executor`].
//!
//! Each executor describes stages in its own way (playbooks, scripts), so the suite gets stages that behave as a
//! [`StageBehavior`] says from an [`ExecutorHarness`]. An executor that waits only on tokio's clock can run with a
//! paused clock.

use std::time::Duration;

use pushbutton_core::LineSink;
use pushbutton_core::samples;
use pushbutton_core::{Executor, Node, Result, RunId, Stage, StageContext, StageOutcome, StageStatus};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How a stage of the suite behaves. Exhaustive on purpose: a harness must not skip a new behavior without noticing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageBehavior {
    /// Passes.
    Passes,
    /// Fails.
    Fails,
    /// Prints a line that contains `Could not resolve host: opendev.org`, and then fails, both in one task.
    FailsWithoutNameService,
    /// Fails because the change does not merge, with a text that contains `conflict in a.py`.
    DoesNotMerge,
    /// Prints this many lines, each of which contains `printed N.` with N from 1, and passes.
    Prints(u32),
    /// Prints a line that contains `lasting`, then runs for ten minutes. If it has processes, one of them leaves the
    /// process group.
    RunsForMinutes,
    /// Runs on a node that cannot be reached.
    NodeUnreachable,
    /// Cannot be run at all: a playbook that does not exist.
    CannotRun,
}

/// The executor under test, and what the suite needs to test it.
pub trait ExecutorHarness {
    /// The executor.
    fn executor(&self) -> &dyn Executor;

    /// A stage with this behavior, and nodes to run it on; none when the executor has no such case. The suite sets the
    /// time limit.
    fn stage(&self, behavior: StageBehavior) -> Option<(Stage, Vec<Node>)>;

    /// A context whose log folder exists and is empty.
    fn context(&self) -> StageContext;

    /// The console log in that folder; none when the executor writes none.
    fn console(&self, context: &StageContext) -> Option<String>;

    /// The processes of stages that run now, as text for an error message; empty when stages have no processes.
    fn processes(&self) -> Vec<String>;
}

/// A context for the sample job with this log folder. For harnesses.
pub fn context_at(log_dir: impl Into<std::path::PathBuf>) -> StageContext {
    StageContext::new(RunId::generate(), samples::job("conformance"), log_dir)
}

/// How long a short step may take on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A time limit that a long stage exceeds, and long enough for the stage to start.
const SHORT_LIMIT: Duration = Duration::from_secs(8);

/// Runs all checks, one after the other.
pub async fn all(harness: &(dyn ExecutorHarness + Sync)) {
    output_arrives_in_order_and_in_the_console_log(harness).await;
    a_slow_or_closed_reader_does_not_block_the_stage(harness).await;
    a_failure_is_an_outcome_with_a_detail(harness).await;
    a_failure_with_output_of_a_broken_infrastructure_is_recognised(harness).await;
    a_change_that_does_not_merge_is_said(harness).await;
    an_unreachable_node_is_not_a_failure(harness).await;
    a_stage_that_cannot_run_is_an_error(harness).await;
    a_stage_ends_at_its_time_limit_with_all_its_processes(harness).await;
    a_cancelled_stage_ends_with_all_its_processes(harness).await;
    a_stage_that_is_cancelled_before_it_starts_ends_soon(harness).await;
    a_dropped_call_leaves_no_process(harness).await;
}

/// A stage with its context, ready to be executed.
struct Prepared<'a> {
    harness: &'a (dyn ExecutorHarness + Sync),
    stage: Stage,
    nodes: Vec<Node>,
    context: StageContext,
    cancel: CancellationToken,
}

impl<'a> Prepared<'a> {
    fn new(
        harness: &'a (dyn ExecutorHarness + Sync),
        behavior: StageBehavior,
        limit: Duration,
    ) -> Option<Self> {
        let (stage, nodes) = harness.stage(behavior)?;
        let stage = stage.with_timeout(limit);
        Some(Self { harness, stage, nodes, context: harness.context(), cancel: CancellationToken::new() })
    }

    async fn execute(&self, sink: &LineSink) -> Result<StageOutcome> {
        self.harness.executor().execute(&self.stage, &self.nodes, &self.context, sink, &self.cancel).await
    }

    async fn outcome(&self, sink: &LineSink) -> StageOutcome {
        let ended = timeout(self.stage.timeout + TIME_LIMIT, self.execute(sink)).await;
        ended
            .expect("a stage ends within its time limit")
            .expect("the result of a stage is an outcome, not an error")
    }
}

async fn wait_for_line(lines: &mut Receiver<String>, text: &str) {
    let found = async {
        while let Some(line) = lines.recv().await {
            if line.contains(text) {
                return;
            }
        }
        panic!("output goes to the lines, but no line contained {text:?}");
    };
    timeout(TIME_LIMIT, found).await.expect("output goes to the lines while it is written, not at the end");
}

async fn assert_no_process_left(harness: &dyn ExecutorHarness) {
    // The kernel needs a moment to end killed processes.
    let end = Instant::now() + Duration::from_secs(5);
    while !harness.processes().is_empty() {
        let left = harness.processes();
        assert!(Instant::now() < end, "processes of a stage are left after the call: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Output goes to the lines in order, and to the console log.
pub async fn output_arrives_in_order_and_in_the_console_log(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::Prints(50), TIME_LIMIT) else { return };
    let (sink, mut lines) = LineSink::bounded(10_000);
    assert_eq!(prepared.outcome(&sink).await.status, StageStatus::Passed, "a stage that succeeds has passed");
    drop(sink);
    let mut printed = Vec::new();
    while let Some(line) = lines.recv().await {
        printed.extend((1..=50).filter(|n| line.contains(&format!("printed {n}."))));
    }
    printed.dedup();
    assert_eq!(printed, (1..=50).collect::<Vec<u32>>(), "output goes to the lines in order");
    if let Some(console) = harness.console(&prepared.context) {
        let all = (1..=50).all(|n| console.contains(&format!("printed {n}.")));
        assert!(all, "output goes to the console log in the log folder, which is:\n{console}");
    }
}

/// A slow or closed reader does not block the stage, and the console log is complete in both cases.
pub async fn a_slow_or_closed_reader_does_not_block_the_stage(harness: &(dyn ExecutorHarness + Sync)) {
    for closed in [false, true] {
        let Some(prepared) = Prepared::new(harness, StageBehavior::Prints(300), TIME_LIMIT) else { return };
        let (sink, lines) = LineSink::bounded(2);
        let lines = (!closed).then_some(lines);
        let status = prepared.outcome(&sink).await.status;
        assert_eq!(status, StageStatus::Passed, "a slow or closed reader never blocks the stage");
        if let Some(console) = harness.console(&prepared.context) {
            assert!(console.contains("printed 300."), "the console log contains what a slow reader misses");
        }
        drop(lines);
    }
}

/// A failure of the stage is an outcome, with a detail in one line.
pub async fn a_failure_is_an_outcome_with_a_detail(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::Fails, TIME_LIMIT) else { return };
    let outcome = prepared.outcome(&LineSink::bounded(2).0).await;
    assert_eq!(outcome.status, StageStatus::Failed, "a failure of the stage is `Failed`");
    assert!(
        outcome.detail.is_some_and(|detail| !detail.contains('\n')),
        "the detail says in one line what failed"
    );
}

/// A failed stage whose output matches a pattern of `retry_when` has a `lab_fault`, and no other stage has one.
pub async fn a_failure_with_output_of_a_broken_infrastructure_is_recognised(
    harness: &(dyn ExecutorHarness + Sync),
) {
    let cases: [(StageBehavior, &[&str], Option<&str>); 4] = [
        (StageBehavior::FailsWithoutNameService, &["defaults"], Some("Could not resolve host: opendev.org")),
        (StageBehavior::FailsWithoutNameService, &["host: .*org"], Some("host: opendev.org")),
        (StageBehavior::FailsWithoutNameService, &[], None),
        (StageBehavior::Fails, &["defaults"], None),
    ];
    for (behavior, patterns, expected) in cases {
        let Some(mut prepared) = Prepared::new(harness, behavior, TIME_LIMIT) else { return };
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        prepared.stage.retry_when.clone_from(&patterns);
        let outcome = prepared.outcome(&LineSink::bounded(2).0).await;
        assert_eq!(outcome.status, StageStatus::Failed, "a recognised failure is still `Failed`");
        let fault = outcome.lab_fault.as_deref();
        assert_eq!(fault.is_some(), expected.is_some(), "{behavior:?} with {patterns:?}: {fault:?}");
        let told = expected.is_none_or(|text| fault.is_some_and(|fault| fault.contains(text)));
        assert!(told, "the fault quotes what was recognised: {fault:?}");
    }
}

/// A stage that failed because the change does not merge has a `merge_conflict`, and no other stage has one.
pub async fn a_change_that_does_not_merge_is_said(harness: &(dyn ExecutorHarness + Sync)) {
    for (behavior, expected) in [
        (StageBehavior::DoesNotMerge, true),
        (StageBehavior::Fails, false),
        (StageBehavior::FailsWithoutNameService, false),
    ] {
        let Some(prepared) = Prepared::new(harness, behavior, TIME_LIMIT) else { continue };
        let outcome = prepared.outcome(&LineSink::bounded(2).0).await;
        assert_eq!(outcome.status, StageStatus::Failed, "{behavior:?}");
        let told = outcome.merge_conflict.as_deref();
        assert_eq!(told.is_some(), expected, "{behavior:?}: {told:?}");
        assert!(
            told.is_none_or(|told| told.contains("conflict in a.py")),
            "it says what does not merge: {told:?}"
        );
    }
}

/// An unreachable node is not a failure of the stage.
pub async fn an_unreachable_node_is_not_a_failure(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::NodeUnreachable, TIME_LIMIT) else { return };
    let outcome = prepared.outcome(&LineSink::bounded(2).0).await;
    assert_eq!(outcome.status, StageStatus::Unreachable, "an unreachable node is `Unreachable`: {outcome:?}");
}

/// A stage that cannot be run at all is an error, not an outcome: it says nothing about the patch.
pub async fn a_stage_that_cannot_run_is_an_error(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::CannotRun, TIME_LIMIT) else { return };
    let result = timeout(TIME_LIMIT, prepared.execute(&LineSink::bounded(2).0)).await.expect("the call ends");
    assert!(result.is_err(), "a stage that cannot be run is an error: {result:?}");
}

/// At the time limit the stage ends, with all processes that it started.
pub async fn a_stage_ends_at_its_time_limit_with_all_its_processes(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::RunsForMinutes, SHORT_LIMIT) else { return };
    let (began, (sink, _lines)) = (Instant::now(), LineSink::bounded(100));
    let outcome = prepared.outcome(&sink).await;
    assert_eq!(outcome.status, StageStatus::TimedOut, "a stage ends at its time limit: {outcome:?}");
    assert!(began.elapsed() >= SHORT_LIMIT, "a stage does not end before its time limit");
    assert_no_process_left(harness).await;
}

/// After a cancellation the stage ends, with all processes that it started.
pub async fn a_cancelled_stage_ends_with_all_its_processes(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::RunsForMinutes, TIME_LIMIT * 10) else {
        return;
    };
    let (sink, mut lines) = LineSink::bounded(1000);
    let cancelling = async {
        wait_for_line(&mut lines, "lasting").await;
        prepared.cancel.cancel();
        Instant::now()
    };
    let (outcome, cancelled) = tokio::join!(prepared.outcome(&sink), cancelling);
    assert_eq!(outcome.status, StageStatus::Cancelled, "a cancelled stage is `Cancelled`: {outcome:?}");
    assert!(cancelled.elapsed() < TIME_LIMIT, "a stage ends soon after its cancellation");
    assert_no_process_left(harness).await;
}

/// A cancellation before the call also ends the stage.
pub async fn a_stage_that_is_cancelled_before_it_starts_ends_soon(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::RunsForMinutes, TIME_LIMIT * 10) else {
        return;
    };
    prepared.cancel.cancel();
    let began = Instant::now();
    assert_eq!(
        prepared.outcome(&LineSink::bounded(2).0).await.status,
        StageStatus::Cancelled,
        "a cancelled stage is `Cancelled`"
    );
    assert!(began.elapsed() < TIME_LIMIT, "a stage ends soon after its cancellation");
}

/// Dropping the call ends all processes of the stage.
pub async fn a_dropped_call_leaves_no_process(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(prepared) = Prepared::new(harness, StageBehavior::RunsForMinutes, TIME_LIMIT * 10) else {
        return;
    };
    let (sink, mut lines) = LineSink::bounded(1000);
    tokio::select! {
        outcome = prepared.execute(&sink) => panic!("the stage runs for minutes, but ended: {outcome:?}"),
        () = wait_for_line(&mut lines, "lasting") => {}
    }
    assert_no_process_left(harness).await;
}
