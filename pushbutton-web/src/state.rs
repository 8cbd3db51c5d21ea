use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::pipeline::Muted;
use pushbutton_core::{
    ConfigHealth, DeadLetter, DeadLetters, Health, HistoryLog, Queue, QueueAges, QueueDepth, Result,
    RunHistory, StreamHealth,
};
use tokio::sync::watch;

use crate::disks::{DiskReading, Disks};
use crate::file_calls::FileCalls;
use crate::large_answers::LargeAnswers;
use crate::recorded_metrics::Metrics;

/// How long to wait for a part: long enough for a busy disk, short enough for a person who waits for the page.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the router shows. Clones share it.
#[derive(Clone)]
pub struct WebState(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    queue: Arc<dyn Queue>,
    history: Arc<dyn RunHistory>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    muted: Option<watch::Receiver<Option<Muted>>>,
    broker: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    stream: Option<watch::Receiver<StreamHealth>>,
    operator: Option<watch::Receiver<Health>>,
    config: Option<watch::Receiver<ConfigHealth>>,
    log: Option<Arc<dyn HistoryLog>>,
    metrics: Option<Metrics>,
    disks: Disks,
    logs: Option<PathBuf>,
    log_calls: FileCalls,
    lists: Arc<LargeAnswers>,
    base_path: String,
    title: String,
}

impl WebState {
    /// Shows this queue and these runs, at the server's root, without dead letters and logs.
    pub fn new(queue: impl Queue + 'static, history: impl RunHistory + 'static) -> Self {
        Self(Arc::new(Inner {
            queue: Arc::new(queue),
            history: Arc::new(history),
            dead_letters: None,
            muted: None,
            broker: None,
            stream: None,
            operator: None,
            config: None,
            log: None,
            metrics: None,
            disks: Disks::default(),
            logs: None,
            log_calls: FileCalls::default(),
            lists: Arc::new(LargeAnswers::new(4, 64)),
            base_path: String::new(),
            title: "pushbutton".into(),
        }))
    }

    /// Lists these dead letters in `/api/queue`.
    #[must_use]
    pub fn with_dead_letters(mut self, dead_letters: impl DeadLetters + 'static) -> Self {
        Arc::make_mut(&mut self.0).dead_letters = Some(Arc::new(dead_letters));
        self
    }

    /// Shows whether comments on reviews are muted
    /// ([`ReportGuard::watch`](pushbutton_core::ReportGuard::watch)). Default: it is not known.
    #[must_use]
    pub fn with_muted(mut self, muted: watch::Receiver<Option<Muted>>) -> Self {
        Arc::make_mut(&mut self.0).muted = Some(muted);
        self
    }

    /// Asks here whether the broker is connected. Default: there is none.
    #[must_use]
    pub fn with_broker(mut self, is_connected: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).broker = Some(Arc::new(is_connected));
        self
    }

    /// Shows how the event stream of this process is ([`StreamMonitor::watch`](pushbutton_core::StreamMonitor::watch)).
    /// Default: it has none.
    #[must_use]
    pub fn with_stream(mut self, stream: watch::Receiver<StreamHealth>) -> Self {
        Arc::make_mut(&mut self.0).stream = Some(stream);
        self
    }

    /// Shows how the operator of this process is ([`Operator::health`](pushbutton_core::Operator::health)). Default:
    /// there is none.
    #[must_use]
    pub fn with_operator(mut self, operator: watch::Receiver<Health>) -> Self {
        Arc::make_mut(&mut self.0).operator = Some(operator);
        self
    }

    /// Shows whether this process runs with what its configuration says now. Default: it is not known.
    #[must_use]
    pub fn with_config(mut self, config: watch::Receiver<ConfigHealth>) -> Self {
        Arc::make_mut(&mut self.0).config = Some(config);
        self
    }

    /// Shows how many entries this history could not take. Default: it is not known.
    #[must_use]
    pub fn with_history_log(mut self, log: impl HistoryLog + 'static) -> Self {
        Arc::make_mut(&mut self.0).log = Some(Arc::new(log));
        self
    }

    /// Shows what this process has counted. Default: nothing.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        Arc::make_mut(&mut self.0).metrics = Some(metrics);
        self
    }

    /// Shows how many bytes are free on these disks. Default: of none.
    #[must_use]
    pub fn with_disks(mut self, disks: Disks) -> Self {
        Arc::make_mut(&mut self.0).disks = disks;
        self
    }

    /// Serves the log folder below `/logs/`.
    #[must_use]
    pub fn with_logs(mut self, folder: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.0).logs = Some(folder.into());
        self
    }

    /// Sets the path at which the router is nested, such as `/ci`: links begin with it.
    #[must_use]
    pub fn with_base_path(mut self, path: &str) -> Self {
        Arc::make_mut(&mut self.0).base_path = path.trim_end_matches('/').to_owned();
        self
    }

    /// Sets the title of the pages, such as the name of the CI.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).title = title.into();
        self
    }

    pub(crate) fn logs(&self) -> Option<PathBuf> {
        self.0.logs.clone()
    }

    pub(crate) fn base_path(&self) -> &str {
        &self.0.base_path
    }

    /// The path of the status page. Nested at `/ci`, axum serves it as that, and not as `/ci/`.
    pub(crate) fn home(&self) -> &str {
        if self.0.base_path.is_empty() { "/" } else { &self.0.base_path }
    }

    pub(crate) fn title(&self) -> &str {
        &self.0.title
    }

    pub(crate) fn history(&self) -> &dyn RunHistory {
        &*self.0.history
    }

    /// Whether comments on reviews are muted, where it is known.
    pub(crate) fn is_muted(&self) -> Option<bool> {
        self.0.muted.as_ref().map(|muted| muted.borrow().is_some())
    }

    pub(crate) fn is_broker_connected(&self) -> Option<bool> {
        self.0.broker.as_ref().map(|is_connected| is_connected())
    }

    pub(crate) fn stream(&self) -> Option<StreamHealth> {
        self.0.stream.as_ref().map(|stream| stream.borrow().clone())
    }

    pub(crate) fn operator(&self) -> Option<Health> {
        self.0.operator.as_ref().map(|operator| operator.borrow().clone())
    }

    pub(crate) fn config(&self) -> Option<ConfigHealth> {
        self.0.config.as_ref().map(|config| config.borrow().clone())
    }

    pub(crate) fn history_dropped(&self) -> Option<u64> {
        self.0.log.as_ref().map(HistoryLog::dropped)
    }

    pub(crate) fn metrics(&self) -> Option<Metrics> {
        self.0.metrics.clone()
    }

    pub(crate) async fn disks(&self) -> Vec<DiskReading> {
        self.0.disks.readings().await
    }

    #[cfg(test)]
    pub(crate) fn with_log_calls(mut self, calls: FileCalls) -> Self {
        Arc::make_mut(&mut self.0).log_calls = calls;
        self
    }

    /// Calls of the log folder's file system.
    pub(crate) fn log_calls(&self) -> &FileCalls {
        &self.0.log_calls
    }

    /// The bound of answers that list many things.
    pub(crate) fn lists(&self) -> &Arc<LargeAnswers> {
        &self.0.lists
    }

    pub(crate) async fn ages(&self) -> Option<QueueAges> {
        answer("queue", self.0.queue.ages()).await
    }

    pub(crate) async fn depth(&self) -> Option<QueueDepth> {
        answer("queue", self.0.queue.depth()).await
    }

    pub(crate) async fn dead_letters(&self, limit: usize) -> Option<Vec<DeadLetter>> {
        match &self.0.dead_letters {
            Some(dead_letters) => answer("dead letters", dead_letters.list(limit)).await,
            None => Some(Vec::new()),
        }
    }
}

impl fmt::Debug for WebState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { logs, base_path, title, .. } = &*self.0;
        f.debug_struct("WebState")
            .field("logs", logs)
            .field("base_path", base_path)
            .field("title", title)
            .finish_non_exhaustive()
    }
}

/// Awaits the answer of a part, with a timeout. Errors go to the log only: pages are public, and errors name hosts
/// and paths.
pub(crate) async fn answer<T>(part: &'static str, question: impl Future<Output = Result<T>>) -> Option<T> {
    match tokio::time::timeout(TIMEOUT, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(part, "cannot be shown: {error}");
            None
        }
        Err(_) => {
            tracing::warn!(part, "no answer within {TIMEOUT:?}");
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
