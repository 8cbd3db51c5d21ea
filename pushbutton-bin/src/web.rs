//! The dashboard, where the configuration asks for one: the store's history, seen by pushbutton-web.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{Error, ErrorKind, Queue, Result, Shutdown};
use pushbutton_store::{RunRecord, StoreHistory};
use pushbutton_web::{RunHistory, RunView, StageView, WebState, router};
use tokio::net::TcpListener;

use crate::config::Config;

struct Runs(StoreHistory);

#[async_trait]
impl RunHistory for Runs {
    async fn recent(&self, limit: usize) -> Result<Vec<RunView>> {
        Ok(self.0.recent(limit).await?.into_iter().map(view).collect())
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        self.0.verdicts().await
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        self.0.last_success().await
    }
}

fn view(record: RunRecord) -> RunView {
    let stages = record.stages.into_iter();
    RunView {
        run: record.run,
        job: record.job,
        attempt: record.attempt,
        state: record.state,
        started: record.started,
        ended: record.ended,
        node: record.node,
        verdict: record.verdict,
        reason: record.reason,
        log_url: record.log_url,
        tests: record.tests,
        stages: stages
            .map(|s| StageView { stage: s.stage, started: s.started, outcome: s.outcome })
            .collect(),
    }
}

/// Serves it in the background until the process ends or somebody wishes to stop.
pub(crate) async fn serve(
    config: &Config,
    queue: Arc<dyn Queue>,
    history: StoreHistory,
    shutdown: &Shutdown,
) -> Result<()> {
    let Some(web) = &config.web else { return Ok(()) };
    let listener = TcpListener::bind(web.listen).await.map_err(|error| {
        let message = format!("cannot listen on {}: {error}; mend `web.listen`", web.listen);
        Error::permanent(ErrorKind::Local, message).during("web::listen")
    })?;
    let state = WebState::new(queue, Arc::new(Runs(history)))
        .with_logs(config.logs.dir.clone())
        .titled(config.owner.as_str());
    tracing::info!("the dashboard is at http://{}/", web.listen);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let end = async move { shutdown.begun().await };
        if let Err(error) = axum::serve(listener, router(state)).with_graceful_shutdown(end).await {
            tracing::error!("the dashboard ended: {error}");
        }
    });
    Ok(())
}
