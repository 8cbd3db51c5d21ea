//! The tasks behind one queue, and their end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::link::{Shared, supervise};
use crate::publish::{Outgoing, outbox, publisher};
use crate::take::{Taker, Ticket};

/// How long an orderly end may take.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Handles of the tasks. When the last is dropped, they end.
#[derive(Debug)]
pub(crate) struct Tasks {
    shared: Arc<Shared>,
    pub(crate) tickets: mpsc::UnboundedSender<Ticket>,
    pub(crate) outbox: mpsc::Sender<Outgoing>,
    stop: CancellationToken,
    /// Closed when all have ended.
    ended: watch::Receiver<()>,
}

impl Tasks {
    /// Starts them.
    pub(crate) fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let stop = CancellationToken::new();
        let (tickets, ticket_desk) = mpsc::unbounded_channel();
        let (outbox, outgoing) = outbox();
        let (running, ended) = watch::channel(());
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared)));
        let publisher = tokio::spawn(publisher(Arc::clone(&shared), outgoing));
        let taker = Taker::new(Arc::clone(&shared), ticket_desk).run(stop.clone());
        let last = Arc::clone(&shared);
        tokio::spawn(async move {
            // These have last words for which they need the connection; then the rest ends.
            taker.await;
            last.candidates_leave().await;
            last.stop.cancel();
            for task in [publisher, supervisor] {
                if let Err(error) = task.await {
                    tracing::error!("a task of the queue ended badly: {error}");
                }
            }
            drop(running);
        });
        Self { shared, tickets, outbox, stop, ended }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Cancelled when they are to end.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Ends them in order.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        let all = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("the connection to RabbitMQ did not end in time");
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
