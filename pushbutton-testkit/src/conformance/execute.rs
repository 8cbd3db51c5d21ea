//! The contract of [`Executor`], as checks.
//!
//! Each executor has a language of its own for what a stage does, so the suite asks a [`ExecutorHarness`] for stages that behave in the ways of
//! [`StageBehavior`]. Where the implementation waits on tokio's clock, a paused clock works.

use std::time::Duration;

use pushbutton_core::LineSink;
use pushbutton_core::samples;
use pushbutton_core::{Executor, Node, Result, RunId, Stage, StageContext, StageOutcome, StageStatus};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How a stage of the suite behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageBehavior {
    /// Prints nothing of interest and passes.
    Passes,
    /// Fails by itself.
    Fails,
    /// Prints so many lines, each holding `printed N.` with N from 1, and passes.
    Prints(u32),
    /// Prints a line that holds `lasting`, and then lasts for ten minutes; where it has processes, one of them leaves its process group.
    Lasts,
    /// Needs a node that nothing answers for.
    MeetsNobody,
    /// Cannot be run at all, as a playbook that does not exist.
    CannotRun,
}

/// What an executor under test is surrounded by.
pub trait ExecutorHarness {
    /// The executor.
    fn executor(&self) -> &dyn Executor;

    /// A stage that behaves so, and nodes to run it on; none where the executor knows no such case. The suite sets the time limit.
    fn stage(&self, behavior: StageBehavior) -> Option<(Stage, Vec<Node>)>;

    /// A context whose log folder exists and was not used before.
    fn context(&self) -> StageContext;

    /// What the console log in that folder holds; none where the executor writes none.
    fn console(&self, context: &StageContext) -> Option<String>;

    /// Processes of stages that are alive now, for the message; always none where stages have no processes.
    fn processes(&self) -> Vec<String>;
}

/// A context for the sample job, with these logs. For harnesses.
pub fn context_at(log_dir: impl Into<std::path::PathBuf>) -> StageContext {
    StageContext::new(RunId::generate(), samples::job("conformance"), log_dir)
}

/// Long enough for a slow machine to do a small thing.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// A time limit that a stage which lasts runs into, after it began to last.
const SHORT: Duration = Duration::from_secs(8);

/// Runs every check, one after the other.
pub async fn all(harness: &(dyn ExecutorHarness + Sync)) {
    output_comes_in_order_and_to_the_console_log(harness).await;
    a_reader_that_is_slow_or_gone_blocks_nothing(harness).await;
    a_failure_is_an_outcome_that_says_what_failed(harness).await;
    an_unreachable_node_is_not_a_failure(harness).await;
    what_cannot_be_run_is_an_error(harness).await;
    a_stage_ends_at_its_time_limit_with_all_its_processes(harness).await;
    a_cancelled_stage_ends_with_all_its_processes(harness).await;
    a_stage_that_is_cancelled_already_does_not_last(harness).await;
    a_dropped_call_leaves_no_process(harness).await;
}

struct Begun<'a> {
    harness: &'a (dyn ExecutorHarness + Sync),
    stage: Stage,
    nodes: Vec<Node>,
    context: StageContext,
    cancel: CancellationToken,
}

impl<'a> Begun<'a> {
    fn with(
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

    async fn ends(&self, sink: &LineSink) -> StageOutcome {
        let ended = timeout(self.stage.timeout + TIME_LIMIT, self.execute(sink)).await;
        ended
            .expect("broken: a stage ends within its time limit")
            .expect("broken: what a stage does is an outcome")
    }
}

async fn hear(lines: &mut Receiver<String>, word: &str) {
    let heard = async {
        while let Some(line) = lines.recv().await {
            if line.contains(word) {
                return;
            }
        }
        panic!("broken: output goes to the lines: {word:?} never came");
    };
    timeout(TIME_LIMIT, heard).await.expect("broken: output goes to the lines as it comes, not at the end");
}

async fn assert_none_left(harness: &dyn ExecutorHarness) {
    // The kernel takes a moment to end what was killed.
    let end = Instant::now() + Duration::from_secs(5);
    while !harness.processes().is_empty() {
        let left = harness.processes();
        assert!(Instant::now() < end, "broken: no process of a stage outlives the call: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Output goes to the lines in order, and to the console log.
pub async fn output_comes_in_order_and_to_the_console_log(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Prints(50), TIME_LIMIT) else { return };
    let (sink, mut lines) = LineSink::bounded(10_000);
    assert_eq!(
        begun.ends(&sink).await.status,
        StageStatus::Passed,
        "broken: a stage that goes well has passed"
    );
    drop(sink);
    let mut printed = Vec::new();
    while let Some(line) = lines.recv().await {
        printed.extend((1..=50).filter(|n| line.contains(&format!("printed {n}."))));
    }
    printed.dedup();
    assert_eq!(printed, (1..=50).collect::<Vec<u32>>(), "broken: output goes to the lines in order");
    if let Some(console) = harness.console(&begun.context) {
        let all = (1..=50).all(|n| console.contains(&format!("printed {n}.")));
        assert!(all, "broken: output goes to the console log in the log folder:\n{console}");
    }
}

/// A reader that does not read, and one that is gone, hold no stage up, and the console log is whole all the same.
pub async fn a_reader_that_is_slow_or_gone_blocks_nothing(harness: &(dyn ExecutorHarness + Sync)) {
    for gone in [false, true] {
        let Some(begun) = Begun::with(harness, StageBehavior::Prints(300), TIME_LIMIT) else { return };
        let (sink, lines) = LineSink::bounded(2);
        let lines = (!gone).then_some(lines);
        let status = begun.ends(&sink).await.status;
        assert_eq!(status, StageStatus::Passed, "broken: a slow or closed reader never blocks the stage");
        if let Some(console) = harness.console(&begun.context) {
            assert!(
                console.contains("printed 300."),
                "broken: the console log gets what a slow reader misses"
            );
        }
        drop(lines);
    }
}

/// What the stage does wrong is an outcome, with a word on what it was.
pub async fn a_failure_is_an_outcome_that_says_what_failed(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Fails, TIME_LIMIT) else { return };
    let outcome = begun.ends(&LineSink::bounded(2).0).await;
    assert_eq!(outcome.status, StageStatus::Failed, "broken: what the stage does wrong is `Failed`");
    assert!(
        outcome.detail.is_some_and(|detail| !detail.contains('\n')),
        "broken: the detail says in a line what failed"
    );
}

/// An unreachable node is told from a failure.
pub async fn an_unreachable_node_is_not_a_failure(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::MeetsNobody, TIME_LIMIT) else { return };
    let outcome = begun.ends(&LineSink::bounded(2).0).await;
    assert_eq!(
        outcome.status,
        StageStatus::Unreachable,
        "broken: an unreachable node is `Unreachable`: {outcome:?}"
    );
}

/// What cannot be run at all is an error, never a verdict on the patch.
pub async fn what_cannot_be_run_is_an_error(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::CannotRun, TIME_LIMIT) else { return };
    let result = timeout(TIME_LIMIT, begun.execute(&LineSink::bounded(2).0)).await.expect("broken: it ends");
    assert!(result.is_err(), "broken: an error means that the stage could not be run at all: {result:?}");
}

/// The time limit ends a stage and everything that it started.
pub async fn a_stage_ends_at_its_time_limit_with_all_its_processes(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Lasts, SHORT) else { return };
    let (began, (sink, _lines)) = (Instant::now(), LineSink::bounded(100));
    let outcome = begun.ends(&sink).await;
    assert_eq!(outcome.status, StageStatus::TimedOut, "broken: a stage ends at its time limit: {outcome:?}");
    assert!(began.elapsed() >= SHORT, "broken: a stage has all the time that it is given");
    assert_none_left(harness).await;
}

/// A cancellation ends a stage and everything that it started.
pub async fn a_cancelled_stage_ends_with_all_its_processes(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Lasts, TIME_LIMIT * 10) else { return };
    let (sink, mut lines) = LineSink::bounded(1000);
    let cancelling = async {
        hear(&mut lines, "lasting").await;
        begun.cancel.cancel();
        Instant::now()
    };
    let (outcome, cancelled) = tokio::join!(begun.ends(&sink), cancelling);
    assert_eq!(
        outcome.status,
        StageStatus::Cancelled,
        "broken: a cancelled stage is `Cancelled`: {outcome:?}"
    );
    assert!(cancelled.elapsed() < TIME_LIMIT, "broken: a stage ends soon after its cancellation");
    assert_none_left(harness).await;
}

/// A cancellation that came first is heeded too.
pub async fn a_stage_that_is_cancelled_already_does_not_last(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Lasts, TIME_LIMIT * 10) else { return };
    begun.cancel.cancel();
    let began = Instant::now();
    assert_eq!(
        begun.ends(&LineSink::bounded(2).0).await.status,
        StageStatus::Cancelled,
        "broken: it is `Cancelled`"
    );
    assert!(began.elapsed() < TIME_LIMIT, "broken: a stage ends soon after its cancellation");
}

/// Who drops the call drops its processes.
pub async fn a_dropped_call_leaves_no_process(harness: &(dyn ExecutorHarness + Sync)) {
    let Some(begun) = Begun::with(harness, StageBehavior::Lasts, TIME_LIMIT * 10) else { return };
    let (sink, mut lines) = LineSink::bounded(1000);
    tokio::select! {
        outcome = begun.execute(&sink) => panic!("broken: the stage should have lasted: {outcome:?}"),
        () = hear(&mut lines, "lasting") => {}
    }
    assert_none_left(harness).await;
}
