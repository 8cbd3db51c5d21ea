use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::node::Node;
use crate::run::{Stage, StageContext, StageOutcome, StageStatus};
use crate::seam::{Executor, LineSink};

/// What a stage of [`MemoryExecutor`] does.
#[derive(Debug, Clone)]
pub struct Script {
    /// Lines that it writes at once.
    pub lines: Vec<String>,
    /// How long it then takes.
    pub takes: Duration,
    /// How it ends, unless its time limit or a cancellation comes first.
    pub outcome: StageOutcome,
}

impl Script {
    /// A stage that ends at once in this way.
    pub fn ends(status: StageStatus) -> Self {
        Self { lines: Vec::new(), takes: Duration::ZERO, outcome: StageOutcome::of(status, Duration::ZERO) }
    }

    /// The same, after this time.
    #[must_use]
    pub fn after(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }
}

type Plan = dyn Fn(&Stage, &StageContext) -> Script + Send + Sync;

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
        Self::new(|_, _| Script::ends(StageStatus::Passed))
    }
}

impl MemoryExecutor {
    /// An executor whose stages do what the function says.
    pub fn new(plan: impl Fn(&Stage, &StageContext) -> Script + Send + Sync + 'static) -> Self {
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
        let script = (self.plan)(stage, context);
        for line in script.lines {
            lines.line(line);
        }
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => StageOutcome::of(StageStatus::Cancelled, Duration::ZERO),
            () = tokio::time::sleep(script.takes.min(stage.timeout)) => {
                if script.takes > stage.timeout { StageOutcome::of(StageStatus::TimedOut, Duration::ZERO) } else { script.outcome }
            }
        };
        Ok(StageOutcome { took: began.elapsed(), ..ended })
    }
}
