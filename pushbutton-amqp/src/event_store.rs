//! Seen events and the position, shared by all handlers of one installation.

use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::{Error, EventId, EventStore, Position, Result};
use tokio::sync::{mpsc, oneshot};

use crate::commit::{catch_up, commit};
use crate::log::{EventKey, Op, Outcome};
use crate::queue::{AmqpQueue, Tasks};
use crate::supervise::{Shared, closed, not_ready};

/// How many events share one entry.
const BATCH: usize = 256;

/// Seen events on RabbitMQ: the last 50,000 and the position, the same for all handlers of one prefix.
///
/// - [`has_seen`](EventStore::has_seen) answers from memory.
/// - [`position`](EventStore::position) first reads everything that was confirmed before the call, to any handler. A
///   new
///   leader asks for it, and knows from then on what the leader before it has recorded.
/// - [`record`](EventStore::record) and [`commit`](EventStore::commit) are `Ok` when the entry was read back from the
///   broker.
///   Events that are recorded at the same time share an entry.
///
/// Any number of handlers may write at the same time. The position never goes back.
///
/// # Errors
/// Temporary ones while the broker is away for longer than the configured `timeout`; the entry may have been written.
/// Permanent ones when the broker refuses us, or when a newer version wrote what this one cannot read.
#[derive(Debug, Clone)]
pub struct AmqpEventStore {
    tasks: Arc<Tasks>,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    key: EventKey,
    /// Whether the event is new.
    reply: oneshot::Sender<Result<bool>>,
}

impl AmqpQueue {
    /// The event store in the log of this queue, on the same connection.
    pub fn event_store(&self) -> AmqpEventStore {
        let (requests, receiver) = mpsc::channel(BATCH);
        tokio::spawn(record_batches(Arc::clone(self.tasks.shared()), receiver));
        AmqpEventStore { tasks: Arc::clone(&self.tasks), requests }
    }
}

/// The writer task: one entry at a time, with all events that came while the last one was written.
async fn record_batches(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        batch.retain(|request| !request.reply.is_closed());
        let op = Op::Seen { events: batch.iter().map(|request| request.key).collect(), position: None };
        match commit(&shared, op, shared.deadline()).await {
            Ok(Outcome::Recorded(new)) => {
                for (request, new) in batch.drain(..).zip(new) {
                    let _ = request.reply.send(Ok(new));
                }
            }
            Ok(_) => batch.clear(),
            Err(error) => {
                for request in batch.drain(..) {
                    let copy = match error.is_temporary() {
                        true => Error::temporary(error.kind(), error.message().to_owned()),
                        false => Error::permanent(error.kind(), error.message().to_owned()),
                    };
                    let _ = request.reply.send(Err(copy));
                }
            }
        }
    }
}

impl AmqpEventStore {
    /// Imports what another store remembers: seen events, oldest first (the newest 50,000 are kept), and the position.
    ///
    /// # Errors
    /// As those of [`EventStore`].
    pub async fn import(&self, seen: &[EventId], position: Option<Position>) -> Result<()> {
        let events = seen.iter().map(EventKey::of).collect::<Result<_>>()?;
        self.write(events, position).await.map_err(|error| error.during("event_store::import"))
    }

    async fn write(&self, events: Vec<EventKey>, position: Option<Position>) -> Result<()> {
        let shared = self.tasks.shared();
        commit(shared, Op::Seen { events, position }, shared.deadline()).await.map(drop)
    }

    async fn is_known(&self, key: EventKey) -> Result<bool> {
        let shared = self.tasks.shared();
        shared.wait_for_state(shared.deadline()).await?;
        let replica = shared.replica();
        Ok(replica.state().ok_or_else(not_ready)?.events.has_seen(key))
    }
}

#[async_trait]
impl EventStore for AmqpEventStore {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        let asking = async { self.is_known(EventKey::of(event)?).await };
        asking.await.map_err(|error: Error| error.during("event_store::has_seen"))
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        let recording = async {
            let key = EventKey::of(event)?;
            // An event that is known here was confirmed.
            if self.is_known(key).await? {
                return Ok(false);
            }
            let (reply, recorded) = oneshot::channel();
            self.requests.send(Request { key, reply }).await.map_err(|_| closed())?;
            recorded.await.map_err(|_| closed())?
        };
        recording.await.map_err(|error: Error| error.during("event_store::record").with("event", event))
    }

    async fn position(&self) -> Result<Option<Position>> {
        let asking = async {
            let shared = self.tasks.shared();
            catch_up(shared, shared.deadline()).await?;
            let replica = shared.replica();
            Ok(replica.state().ok_or_else(not_ready)?.events.position().cloned())
        };
        asking.await.map_err(|error: Error| error.during("event_store::position"))
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let committing = async {
            let shared = self.tasks.shared();
            shared.wait_for_state(shared.deadline()).await?;
            let forward = shared.replica().state().is_none_or(|state| state.events.is_behind(position));
            if forward { self.write(Vec::new(), Some(position.clone())).await } else { Ok(()) }
        };
        committing.await.map_err(|error: Error| error.during("event_store::commit"))
    }
}
