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
use crate::log::{Letter, Op};
use crate::session::{INBOX_PREFETCH, Session};
use crate::supervise::Shared;

/// Above so many bytes of open jobs, further ones stay in the inbox: every participant has the open jobs in memory.
const MAX_OPEN_BYTES: usize = 4 << 20;

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
                Ok(session) => import(&shared, &session).await.inspect_err(|error| session.fail(error)),
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
async fn import(shared: &Arc<Shared>, session: &Session) -> Result<()> {
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
            let mut batch = vec![first];
            while batch.len() < usize::from(INBOX_PREFETCH)
                && let Some(delivery) = inbox.next_now()
            {
                batch.push(delivery?);
            }
            if let Some(entry) = import_entry(shared, &batch) {
                // Only a job that is in the log may leave the inbox: after an error or on another connection there is
                // no acknowledgement, and the broker delivers the jobs again. No deadline: a broker that takes nothing
                // keeps its connections.
                tokio::select! {
                    committed = commit(shared, entry, far_future()) => committed?,
                    () = session.closed() => return Ok(()),
                };
            }
            if let Some(last) = batch.last() {
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
    shared.replica().state().is_some_and(|state| state.jobs.bytes() < MAX_OPEN_BYTES)
}

/// The entry that imports these messages; none if the state knows all of them.
fn import_entry(shared: &Shared, batch: &[Delivery]) -> Option<Op> {
    let (mut jobs, mut unreadable) = (Vec::new(), Vec::new());
    let replica = shared.replica();
    for delivery in batch {
        match codec::decode::<Job>(delivery) {
            // Published twice, or imported before a connection broke.
            Ok(job) if replica.state().is_some_and(|state| state.knows(&job.id)) => {}
            Ok(job) => jobs.push(job),
            Err(why) => {
                let why = shortened(&format!("{why}: {}", String::from_utf8_lossy(&delivery.data)));
                tracing::warn!("a message in the inbox is not a job, and becomes a dead letter: {why}");
                unreadable.push(Letter { job: None, why, at: Timestamp::now() });
            }
        }
    }
    (!jobs.is_empty() || !unreadable.is_empty()).then_some(Op::Import { jobs, unreadable })
}
