//! What the commands that keep running share: signals, the store, the queue, Gerrit, and how they start and end.

use std::sync::Arc;

use pushbutton_core::{
    GuardedReporter, Handler, HandlerStats, Operator, OperatorStats, ReportGuard, Result, Shutdown,
};
use pushbutton_gerrit::Gerrit;
use pushbutton_results::{Retention, RunPages};
use pushbutton_store::Store;

use crate::assemble::QueueBackend;
use crate::cli::{Comments, Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::mail::MailAlerter;
use crate::progress::Progress;
use crate::{assemble, connect, signals, web};

/// A command that keeps running.
pub(crate) struct Runtime<'c> {
    config: &'c Config,
    global: &'c Global,
    pub(crate) shutdown: Shutdown,
    store: Store,
    backend: QueueBackend,
}

/// What only a process with a handler has: the account on Gerrit, and the guard of its reports.
pub(crate) struct Upstream {
    gerrit: Arc<Gerrit>,
    report_guard: Arc<ReportGuard>,
}

impl Upstream {
    /// Connects nowhere.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Ok(Self { gerrit: assemble::gerrit(config)?, report_guard: assemble::report_guard(config)? })
    }

    /// The client.
    pub(crate) fn gerrit(&self) -> Arc<Gerrit> {
        Arc::clone(&self.gerrit)
    }
}

impl<'c> Runtime<'c> {
    /// Listens to signals, opens the store and waits for the servers; none when a signal came first.
    pub(crate) async fn start(
        config: &'c Config,
        global: &'c Global,
        upstream: Option<&Upstream>,
        start: Start,
    ) -> anyhow::Result<Option<Self>> {
        let shutdown = signals::shutdown()?;
        let store = assemble::store(config).await?;
        let backend = QueueBackend::new(config, &store).await?;
        let wait = start.wait.into();
        let connected = async {
            connect::wait_for_queue(config, &backend.queue, wait).await?;
            match upstream {
                Some(upstream) => connect::wait_for_gerrit(&upstream.gerrit, wait).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            connected = connected => connected?,
            () = shutdown.begun() => return Ok(None),
        }
        let runtime = Self { config, global, shutdown, store, backend };
        let muted = upstream.map(|upstream| upstream.report_guard.watch());
        web::serve(config, &runtime.backend, runtime.store.history(), muted, &runtime.shutdown).await?;
        Ok(Some(runtime))
    }

    /// The ingest half. It reports to the terminal and the review.
    pub(crate) fn handler(&self, upstream: &Upstream, comments: Comments) -> Result<Handler> {
        let config = self.config;
        let triggers = assemble::triggers(config)?;
        let (source, event_store) = assemble::source(&self.backend, &self.store, &upstream.gerrit, &triggers);
        let review = assemble::review(config, comments, &upstream.gerrit, self.store.history())?;
        let handler = Handler::new(source, triggers, Arc::clone(&self.backend.queue))
            .with_event_store(event_store)
            .with_labels(config.jobs.iter().map(|(name, job)| (name.clone(), job.node.clone())))
            .with_supersede(config.supersede)
            .with_dependencies(Arc::clone(&upstream.gerrit))
            .with_lookup(upstream.gerrit())
            .with_reporter(Progress::new(self.global))
            .with_reporter(GuardedReporter::new(review, Arc::clone(&upstream.report_guard)))
            .with_report_guard(Arc::clone(&upstream.report_guard));
        let handler = match config.handler.max_builds_per_change_per_day {
            Some(limit) => handler.with_build_limit(limit),
            None => handler,
        };
        Ok(match &config.alarm {
            Some(alarm) => handler.with_alerter(MailAlerter::new(&alarm.mail)?),
            None => handler,
        })
    }

    /// The work half. It reports to the terminal, the history and the pages of runs, and deletes old results.
    pub(crate) async fn operator(&self, work: Work) -> Result<Operator> {
        let (config, queue) = (self.config, &self.backend.queue);
        let provisioner = assemble::provisioner(config, queue).await?;
        let sweeper = assemble::sweeper(config, Arc::clone(&provisioner), Arc::clone(queue), &self.store);
        let operator = assemble::operator(config, work, Arc::clone(queue), provisioner, &self.store)?;
        let logs = config.logs()?;
        let pages = RunPages::new(logs.clone());
        if !logs.keep.is_zero() {
            // It ends with the process: a folder that is half deleted has a hidden name, and goes next time.
            tokio::spawn(Retention::new(&logs.dir, logs.keep, pages.clone()).run());
        }
        Ok(operator
            .with_reporter(pages)
            .with_sweeper(sweeper)
            .with_supersede(config.supersede)
            .with_reporter(Progress::new(self.global))
            .with_reporter(self.store.history()))
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
