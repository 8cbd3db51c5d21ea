//! What all commands that keep running share: signals, the store, the queue, Gerrit, and how they begin and end.

use std::sync::Arc;

use pushbutton_core::pipeline::{GuardedReporter, ReportGuard};
use pushbutton_core::{EventStore, Queue, Reporter, Shutdown, Triggers};
use pushbutton_gerrit::{DryRunReporter, Gerrit, GerritReporter};
use pushbutton_store::Store;

use crate::assemble::{Carrier, Source};
use crate::cli::{Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::{assemble, signals, web};

/// The file in the state folder that takes the comments of `--dry-run`.
const COMMENTS_FILE: &str = "comments.txt";

/// A command that keeps running.
pub(crate) struct Session<'c> {
    config: &'c Config,
    pub(crate) shutdown: Shutdown,
    pub(crate) store: Store,
    carrier: Carrier,
    pub(crate) gerrit: Arc<Gerrit>,
}

impl<'c> Session<'c> {
    /// Listens to signals, opens the store and waits for the servers; none when a signal came first.
    pub(crate) async fn open(config: &'c Config, start: Start) -> anyhow::Result<Option<Self>> {
        let shutdown = Shutdown::new();
        signals::listen(shutdown.clone())?;
        let store = assemble::store(config).await?;
        let carrier = assemble::queue(config, &store).await?;
        let session = Self { config, shutdown, store, carrier, gerrit: assemble::gerrit(config)? };
        let wait = start.wait.into();
        let reached = async {
            assemble::reach_queue(config, session.queue().as_ref(), wait).await?;
            assemble::reach_gerrit(&session.gerrit, wait).await
        };
        let begun = session.shutdown.clone();
        tokio::select! {
            reached = reached => reached?,
            () = begun.begun() => return Ok(None),
        }
        web::serve(config, session.queue(), session.store.history(), &session.shutdown).await?;
        Ok(Some(session))
    }

    /// What carries the jobs.
    pub(crate) fn queue(&self) -> Arc<dyn Queue> {
        self.carrier.shared()
    }

    /// Where events come from, and what remembers them.
    pub(crate) fn intake(&self, triggers: &Triggers) -> (Source, Arc<dyn EventStore>) {
        assemble::intake(&self.carrier, &self.store, &self.gerrit, triggers)
    }

    /// Who is told how runs go: the people at the terminal, the history, and the review.
    pub(crate) fn reporters(
        &self,
        global: &Global,
        work: Work,
        mute: &Arc<ReportGuard>,
    ) -> Vec<Arc<dyn Reporter>> {
        let review: Arc<dyn Reporter> = if work.dry_run {
            let file = self.config.state.join(COMMENTS_FILE);
            tracing::info!("dry run: comments go to {}", file.display());
            Arc::new(DryRunReporter::new(self.config.gerrit.clone(), file))
        } else {
            Arc::new(GerritReporter::new(Arc::clone(&self.gerrit)))
        };
        let review = Arc::new(GuardedReporter::new(review, Arc::clone(mute)));
        vec![Arc::new(Progress::new(global)), Arc::new(self.store.history()), review]
    }

    /// A half that runs alone without a broker has its other half on this very host.
    pub(crate) fn say_where_jobs_wait(&self) {
        if self.config.rabbitmq.is_none() {
            let folder = self.config.state.display();
            tracing::info!("no RabbitMQ is named: handler and operators must share {folder}, on this host");
        }
    }

    /// How it ended: as asked, or by force.
    pub(crate) async fn end(self) -> Exit {
        self.carrier.close().await;
        if was_forced(&self.shutdown).await { Exit::Interrupted } else { Exit::Ok }
    }
}

/// Whether a second signal came.
pub(crate) async fn was_forced(shutdown: &Shutdown) -> bool {
    tokio::select! {
        biased;
        () = shutdown.forced() => true,
        () = std::future::ready(()) => false,
    }
}
