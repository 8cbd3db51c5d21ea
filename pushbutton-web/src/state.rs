use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::traits::DeadLetter;
use pushbutton_core::{Queue, QueueDepth, Result};

use crate::RunHistory;

/// How long an answer waits for a part: long enough for a busy disk, short enough for whoever waits for the page.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the router shows. Clones share it.
#[derive(Clone)]
pub struct WebState(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    queue: Arc<dyn Queue>,
    history: Arc<dyn RunHistory>,
    logs: Option<PathBuf>,
    base: String,
    title: String,
}

impl WebState {
    /// Shows this queue and these runs, at the server's root, without logs.
    pub fn new(queue: Arc<dyn Queue>, history: Arc<dyn RunHistory>) -> Self {
        Self(Arc::new(Inner { queue, history, logs: None, base: String::new(), title: "pushbutton".into() }))
    }

    /// Serves the log folder below `/logs/`.
    #[must_use]
    pub fn with_logs(mut self, folder: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.0).logs = Some(folder.into());
        self
    }

    /// The path that the router is nested at, as `/ci`: links begin with it.
    #[must_use]
    pub fn mounted_at(mut self, base: &str) -> Self {
        Arc::make_mut(&mut self.0).base = base.trim_end_matches('/').to_owned();
        self
    }

    /// The page's title, as the name of the CI.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).title = title.into();
        self
    }

    pub(crate) fn logs(&self) -> Option<PathBuf> {
        self.0.logs.clone()
    }

    pub(crate) fn base(&self) -> &str {
        &self.0.base
    }

    /// Where the status page is. Nested at `/ci`, axum knows it as that, and not as `/ci/`.
    pub(crate) fn home(&self) -> &str {
        if self.0.base.is_empty() { "/" } else { &self.0.base }
    }

    pub(crate) fn title(&self) -> &str {
        &self.0.title
    }

    /// The runs.
    pub(crate) fn history(&self) -> &dyn RunHistory {
        &*self.0.history
    }

    pub(crate) async fn depth(&self) -> Option<QueueDepth> {
        answer("queue", self.0.queue.depth()).await
    }

    pub(crate) async fn dead_letters(&self, limit: usize) -> Option<Vec<DeadLetter>> {
        answer("queue", self.0.queue.dead_letters(limit)).await
    }
}

/// Waits for a part's answer, not for ever. What went wrong goes to the log: pages are public, and errors name hosts and paths.
pub(crate) async fn answer<T>(part: &'static str, asked: impl Future<Output = Result<T>>) -> Option<T> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(part, "cannot be shown: {error}");
            None
        }
        Err(_) => {
            tracing::warn!(part, "no answer within {PATIENCE:?}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_is_not_waited_for() {
        assert_eq!(answer("queue", std::future::pending::<Result<()>>()).await, None);
        assert_eq!(answer("queue", async { Ok(7) }).await, Some(7));
    }
}
