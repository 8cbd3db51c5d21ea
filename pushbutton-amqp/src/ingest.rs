//! Moves jobs from the inbox into the log, as they come.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::message::Delivery;
use pushbutton_core::{Job, Result};
use tokio::time::Instant;

use crate::claim::shortened;
use crate::codec;
use crate::commit::commit;
use crate::log::{ImportBatch, Letter, import};
use crate::session::{INBOX_PREFETCH, Session};
use crate::supervise::Shared;

/// Imports jobs until the queue is closed.
///
/// The inbox serves one consumer at a time (single active consumer), so that jobs keep the order of publishing. If this
/// participant ends, the broker serves the next one.
pub(crate) async fn ingest(shared: Arc<Shared>) {
    let importing = async {
        let mut connection = shared.connection();
        loop {
            connection.mark_unchanged();
            let imported = match shared.session(None).await {
                Ok(session) => import_jobs(&shared, &session).await.inspect_err(|error| session.fail(error)),
                Err(error) => Err(error),
            };
            // Refused, or failed: the supervisor connects again.
            if imported.is_err() && connection.changed().await.is_err() {
                return;
            }
        }
    };
    shared.stop.run_until_cancelled(importing).await;
}

/// Imports while this connection lasts.
async fn import_jobs(shared: &Arc<Shared>, session: &Session) -> pushbutton_core::Result<()> {
    let mut changes = shared.changes();
    loop {
        if !has_room(shared) {
            tokio::select! {
                _ = changes.changed() => {}
                () = session.closed() => return Ok(()),
            }
            continue;
        }
        let mut inbox = session.read_inbox().await?;
        while has_room(shared) {
            let first = tokio::select! {
                delivery = inbox.next() => delivery?,
                () = session.closed() => return Ok(()),
            };
            // Another participant may have filled the log while this one waited for its turn.
            if !has_room(shared) {
                break;
            }
            let mut batch = vec![first];
            while batch.len() < usize::from(INBOX_PREFETCH)
                && let Some(delivery) = inbox.next_now()
            {
                batch.push(delivery?);
            }
            let import = read_batch(shared, &batch);
            let read_back = match import.entry() {
                Some(entry) => Some(tokio::select! {
                    // After an error or on another connection there is no acknowledgement, and the broker delivers the
                    // jobs again. No deadline: a broker that takes nothing keeps its connections.
                    committed = commit(shared, entry.clone(), far_future()) => committed?,
                    () = session.closed() => return Ok(()),
                }),
                None => None,
            };
            if let Some(last) = batch.last().filter(|_| import.may_acknowledge(read_back.as_ref())) {
                session.acknowledge(last, true).await?;
            }
        }
        // The log is full. What is on its way goes back to the inbox.
        inbox.close().await?;
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

fn has_room(shared: &Shared) -> bool {
    shared.replica().state().is_some_and(import::has_room)
}

fn read_batch(shared: &Shared, batch: &[Delivery]) -> ImportBatch {
    let replica = shared.replica();
    ImportBatch::new(replica.state(), batch.iter().map(read_message))
}

fn read_message(delivery: &Delivery) -> Result<Job, Box<Letter>> {
    codec::decode::<Job>(delivery).map_err(|why| {
        let why = shortened(&format!("{why}: {}", String::from_utf8_lossy(&delivery.data)));
        tracing::warn!("a message in the inbox is not a job, and becomes a dead letter: {why}");
        Box::new(Letter { job: None, why, at: Timestamp::now() })
    })
}
