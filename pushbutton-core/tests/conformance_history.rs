//! The in-memory history keeps its contract, and so does the default of `RunHistory::failure_counts`.

use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{Reporter, Result, RunHistory, RunRecord, Update, async_trait};
use pushbutton_testkit::conformance::history::{self, RecordingHistory};

#[tokio::test]
async fn the_history_keeps_its_contract() {
    history::all(async |_| Arc::new(MemoryHistory::default()) as Arc<dyn RecordingHistory>).await;
}

/// A history of somebody else's, which answers only what it must.
#[derive(Default)]
struct Plain(MemoryHistory);

#[async_trait]
impl RunHistory for Plain {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.0.recent(limit).await
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        self.0.verdicts().await
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        self.0.last_success().await
    }
}

#[async_trait]
impl Reporter for Plain {
    async fn report(&self, update: &Update) -> Result<()> {
        self.0.report(update).await
    }

    fn name(&self) -> &str {
        "plain"
    }
}

#[tokio::test]
async fn the_default_of_failure_counts_keeps_the_contract() {
    history::all(async |_| Arc::new(Plain::default()) as Arc<dyn RecordingHistory>).await;
}

#[tokio::test]
async fn only_the_last_runs_are_kept() {
    let history = MemoryHistory::default().with_limit(2);
    for n in 0..5 {
        let job = pushbutton_core::samples::job_on(n, "tempest");
        let update = Update::new(job, pushbutton_core::UpdateKind::Started, pushbutton_core::samples::AT)
            .with_run(pushbutton_core::RunId::generate());
        history.report(&update).await.unwrap();
    }
    let kept: Vec<_> = history.recent(10).await.unwrap().iter().map(|run| run.job.change.number.0).collect();
    assert_eq!(kept, [4, 3]);
}
