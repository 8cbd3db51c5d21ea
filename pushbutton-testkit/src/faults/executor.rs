use async_trait::async_trait;
use pushbutton_core::LineSink;
use pushbutton_core::{Executor, Node, Result, Stage, StageContext, StageOutcome};
use tokio_util::sync::CancellationToken;

use super::{Faulty, Method};

#[async_trait]
impl<T: Executor + ?Sized> Executor for Faulty<T> {
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        let call = self.inner.execute(stage, nodes, context, lines, cancel);
        self.schedule.call(Method::Execute, call).await
    }
}
