//! Moves jobs from the inbox into the log, as they come.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::message::Delivery;
use pushbutton_core::{Job, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::claim::shortened;
use crate::codec;
use crate::commit::commit;
use crate::log::{ImportBatch, Letter, import};
use crate::session::{INBOX_PREFETCH, Session};
use crate::supervise::Shared;

/// No further jobs are imported with an entry that has so many bytes: whether there is room is asked between entries.
const BATCH_BYTES: usize = 256 << 10;

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
                first = next_while_room(shared, &mut changes, inbox.next()) => first.transpose()?,
                () = session.closed() => return Ok(()),
            };
            let Some(first) = first else { break };
            let mut batch = vec![first];
            while batch.len() < usize::from(INBOX_PREFETCH)
                && batch.iter().map(|delivery| delivery.data.len()).sum::<usize>() < BATCH_BYTES
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
        session.end(inbox).await?;
    }
}

/// Waits for a message of the inbox; gives up when the log is full.
///
/// Of the participants only one is served at a time. Each that waited on would get the first messages once that one has
/// left, and return them; the broker counts that for `delivery-limit`.
async fn next_while_room<T>(
    shared: &Shared,
    changes: &mut watch::Receiver<u64>,
    next: impl Future<Output = T>,
) -> Option<T> {
    let mut next = std::pin::pin!(next);
    loop {
        changes.mark_unchanged();
        if !has_room(shared) {
            return None;
        }
        tokio::select! {
            // Another participant may have filled the log meanwhile.
            next = &mut next => return has_room(shared).then_some(next),
            changed = changes.changed() => if changed.is_err() { return None },
        }
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use pushbutton_core::samples::job_on;

    use super::*;
    use crate::config::AmqpConfig;
    use crate::log::{Arrival, Entry, Op};

    /// Else each participant in turn would get the first jobs of the inbox and return them.
    #[tokio::test]
    async fn a_participant_that_waits_for_the_inbox_leaves_it_when_another_one_has_filled_the_log() {
        let shared = Shared::new(AmqpConfig::new("amqp://guest:guest@127.0.0.1:1"));
        let read = |offset: u64, op: Op| {
            shared.replica().read(offset, Entry::new(op), 100, Arrival::now());
            shared.entries_were_read();
        };
        read(0, Op::Barrier);
        assert!(shared.replica().reached_end(Arrival::now()).is_none());
        let mut changes = shared.changes();
        assert_eq!(next_while_room(&shared, &mut changes, async { 1 }).await, Some(1));

        let mut waiting = std::pin::pin!(next_while_room(&shared, &mut changes, pending::<()>()));
        let jobs = |from: u64| (from..from + 1_000).map(|n| job_on(n, "tempest")).collect();
        for n in 1.. {
            assert!(futures_util::poll!(&mut waiting).is_pending());
            read(n, Op::Import { jobs: jobs(n * 1_000), unreadable: Vec::new() });
            if !has_room(&shared) {
                break;
            }
        }
        assert_eq!(futures_util::poll!(&mut waiting), std::task::Poll::Ready(None));
    }
}
