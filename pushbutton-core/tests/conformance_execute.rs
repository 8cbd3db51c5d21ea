//! `MemoryExecutor` keeps the contract of `Executor`, on a paused clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics when it cannot work")]

use std::time::Duration;

use pushbutton_core::memory::{FakeStage, MemoryExecutor};
use pushbutton_core::{Executor, Node, Stage, StageContext, StageOutcome, StageStatus};
use pushbutton_testkit::conformance::execute::{self, ExecutorHarness, StageBehavior, context_at};

struct Memory(MemoryExecutor);

impl ExecutorHarness for Memory {
    fn executor(&self) -> &dyn Executor {
        &self.0
    }

    fn stage(&self, behavior: StageBehavior) -> Option<(Stage, Vec<Node>)> {
        // A fake stage can always be run.
        if behavior == StageBehavior::CannotRun {
            return None;
        }
        let stage = Stage::new("conformance".parse().unwrap(), format!("{behavior:?}"));
        Some((stage, Vec::new()))
    }

    fn context(&self) -> StageContext {
        context_at("no/logs")
    }

    fn console(&self, _: &StageContext) -> Option<String> {
        None
    }

    fn processes(&self) -> Vec<String> {
        Vec::new()
    }
}

fn fake(stage: &Stage) -> FakeStage {
    let passes = FakeStage::ends(StageStatus::Passed);
    match stage.playbook.as_str() {
        "Fails" => {
            let detail = Some("task \"Test\": exit 1".to_owned());
            let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO).with_detail(detail);
            passes.with_outcome(outcome)
        }
        "FailsWithoutNameService" => {
            FakeStage::ends(StageStatus::Failed).with_lines(["Could not resolve host: opendev.org".into()])
        }
        "DoesNotMerge" => {
            let conflict = Some("conflict in a.py".to_owned());
            passes.with_outcome(
                StageOutcome::new(StageStatus::Failed, Duration::ZERO).with_merge_conflict(conflict),
            )
        }
        "NodeUnreachable" => FakeStage::ends(StageStatus::Unreachable),
        "RunsForMinutes" => passes.after(Duration::from_secs(600)).with_lines(["lasting".into()]),
        printing => {
            let count = printing.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
            passes.with_lines((1..=count).map(|n: u32| format!("printed {n}.")).collect::<Vec<_>>())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_executor_keeps_the_contract() {
    execute::all(&Memory(MemoryExecutor::new(|stage, _| fake(stage)))).await;
}
