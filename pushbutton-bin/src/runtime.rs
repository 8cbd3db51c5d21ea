//! What the commands that keep running share: signals, the store, the queue, Gerrit, and how they start and end.

use std::sync::Arc;

use pushbutton_core::{GuardedReporter, Handler, HandlerStats, Operator, OperatorStats, Result, Shutdown};
use pushbutton_gerrit::Gerrit;
use pushbutton_store::Store;

use crate::assemble::QueueBackend;
use crate::cli::{Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::{assemble, connect, signals, web};

/// A command that keeps running.
pub(crate) struct Runtime<'c> {
    config: &'c Config,
    global: &'c Global,
    pub(crate) shutdown: Shutdown,
    store: Store,
    backend: QueueBackend,
    gerrit: Arc<Gerrit>,
}

impl<'c> Runtime<'c> {
    /// Listens to signals, opens the store and waits for the servers; none when a signal came first.
    pub(crate) async fn start(
        config: &'c Config,
        global: &'c Global,
        start: Start,
    ) -> anyhow::Result<Option<Self>> {
        let shutdown = signals::shutdown()?;
        let store = assemble::store(config).await?;
        let backend = QueueBackend::new(config, &store).await?;
        let gerrit = assemble::gerrit(config)?;
        let wait = start.wait.into();
        let connected = async {
            connect::wait_for_queue(config, &backend.queue, wait).await?;
            connect::wait_for_gerrit(&gerrit, wait).await
        };
        tokio::select! {
            connected = connected => connected?,
            () = shutdown.begun() => return Ok(None),
        }
        let runtime = Self { config, global, shutdown, store, backend, gerrit };
        web::serve(config, &runtime.backend, runtime.store.history(), &runtime.shutdown).await?;
        Ok(Some(runtime))
    }

    /// The ingest half.
    pub(crate) fn handler(&self) -> Result<Handler> {
        let triggers = assemble::triggers(self.config)?;
        let (source, event_store) = assemble::source(&self.backend, &self.store, &self.gerrit, &triggers);
        Ok(Handler::new(source, triggers, Arc::clone(&self.backend.queue))
            .with_event_store(event_store)
            .with_supersede(self.config.supersede)
            .with_reporter(Progress::new(self.global)))
    }

    /// The work half. It reports to the terminal, the history and the review.
    pub(crate) async fn operator(&self, work: Work) -> Result<Operator> {
        let (config, queue) = (self.config, &self.backend.queue);
        let provisioner = assemble::provisioner(config, queue).await?;
        let sweeper = assemble::sweeper(config, Arc::clone(&provisioner), Arc::clone(queue), &self.store);
        let guard = assemble::report_guard(config)?;
        let review = assemble::review(config, work, &self.gerrit);
        let operator = assemble::operator(config, work, Arc::clone(queue), provisioner, &self.store)?;
        Ok(operator
            .with_sweeper(sweeper)
            .with_supersede(config.supersede)
            .with_change_status(Arc::clone(&self.gerrit))
            .with_reporter(Progress::new(self.global))
            .with_reporter(self.store.history())
            .with_reporter(GuardedReporter::new(review, Arc::clone(&guard)))
            .with_report_guard(guard))
    }

    /// Without RabbitMQ the two halves can only be processes on the same host.
    pub(crate) fn log_where_jobs_wait(&self) {
        if self.config.rabbitmq.is_none() {
            let folder = self.config.state.display();
            tracing::info!(
                "no RabbitMQ is configured: handler and operators must share {folder}, on this host"
            );
        }
    }

    /// Ends with the code for how the shutdown went.
    pub(crate) async fn end(self) -> Exit {
        self.backend.close().await;
        if self.shutdown.is_forced() { Exit::Interrupted } else { Exit::Ok }
    }
}

pub(crate) fn log_handler(stats: HandlerStats) {
    tracing::info!(events = stats.events, jobs = stats.jobs, "the handler has ended");
}

pub(crate) fn log_operator(stats: OperatorStats) {
    tracing::info!(finished = stats.finished, unfinished = stats.unfinished, "the operator has ended");
}
