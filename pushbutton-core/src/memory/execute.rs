use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::line_sink::LineSink;
use crate::node::Node;
use crate::retry_when::RetryPatterns;
use crate::run::{Stage, StageContext, StageOutcome, StageStatus};
use crate::setters::setters;
use crate::traits::Executor;

/// What a stage of [`MemoryExecutor`] does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FakeStage {
    /// Lines that it writes at once.
    pub lines: Vec<String>,
    /// How long it then takes.
    pub takes: Duration,
    /// How it ends, unless its time limit or a cancellation comes first.
    pub outcome: StageOutcome,
}

impl FakeStage {
    /// A stage that ends at once in this way.
    pub fn ends(status: StageStatus) -> Self {
        Self { lines: Vec::new(), takes: Duration::ZERO, outcome: StageOutcome::new(status, Duration::ZERO) }
    }

    /// The same, after this time.
    #[must_use]
    pub fn after(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }
}

setters!(FakeStage { lines / with_lines: Vec<String>, outcome / with_outcome: StageOutcome });

type Plan = dyn Fn(&Stage, &StageContext) -> FakeStage + Send + Sync;

/// An executor that runs no process: a function says what each stage does.
pub struct MemoryExecutor {
    plan: Box<Plan>,
}

impl std::fmt::Debug for MemoryExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryExecutor").finish_non_exhaustive()
    }
}

impl Default for MemoryExecutor {
    fn default() -> Self {
        Self::new(|_, _| FakeStage::ends(StageStatus::Passed))
    }
}

impl MemoryExecutor {
    /// An executor whose stages do what the function says.
    pub fn new(plan: impl Fn(&Stage, &StageContext) -> FakeStage + Send + Sync + 'static) -> Self {
        Self { plan: Box::new(plan) }
    }
}

#[async_trait]
impl Executor for MemoryExecutor {
    async fn execute(
        &self,
        stage: &Stage,
        _nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        let began = Instant::now();
        let fake = (self.plan)(stage, context);
        let mut fake_outcome = fake.outcome;
        if fake_outcome.status == StageStatus::Failed && fake_outcome.lab_fault.is_none() {
            let patterns = RetryPatterns::compile(&stage.retry_when, fake_outcome.tests)?;
            fake_outcome.lab_fault = patterns.recognise(fake.lines.iter().map(String::as_str));
        }
        for line in fake.lines {
            lines.line(line);
        }
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => StageOutcome::new(StageStatus::Cancelled, Duration::ZERO),
            () = tokio::time::sleep(fake.takes.min(stage.timeout)) => {
                if fake.takes > stage.timeout { StageOutcome::new(StageStatus::TimedOut, Duration::ZERO) } else { fake_outcome }
            }
        };
        Ok(ended.with_took(began.elapsed()))
    }
}
