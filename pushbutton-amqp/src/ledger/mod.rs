//! What handlers have seen, shared by all on one broker: a stream that each of them reads as a whole, and keeps in memory.
//!
//! Unlike the [record](crate::record), its entries need no judge. Seen is seen, and of positions the newest counts, so that
//! pages may come in any order and more than once. What is confirmed stands in the stream *and was read back from there*; that is
//! also how a writer learns whether an event was new, for of two who record it at once, one page comes first.

mod book;
mod keeper;
mod page;

use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::{Error, ErrorKind, EventId, EventStore, Position, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use self::book::SEEN;
use self::keeper::{Keeper, REQUESTS, Request, Shelf, Stand};
use self::page::Key;
use crate::link::closed;
use crate::queue::AmqpQueue;
use crate::tasks::Tasks;

/// What handlers have seen, on RabbitMQ: the last 50,000 events and the position, the same for all handlers of one prefix.
///
/// - [`has_seen`](EventStore::has_seen) answers from memory.
/// - [`position`](EventStore::position) first reads all that was confirmed before the call, by whomever. A handler whose
///   [turn](crate::AmqpTurn) it is asks for it, and knows from then on what its predecessor has recorded.
/// - [`record`](EventStore::record) and [`commit`](EventStore::commit) are `Ok` when the broker has confirmed it and it was read back. Calls under
///   way at once share a message.
///
/// Any number of handlers may write at the same time: nothing is lost by that, and the position never goes back.
///
/// # Errors
/// Temporary ones while the broker is away for longer than the configured `timeout`; whether it was written is open then.
/// Permanent ones when the broker refuses us, or when a newer version of this crate wrote what this one cannot read.
#[derive(Debug, Clone)]
pub struct AmqpLedger {
    tasks: Arc<Tasks>,
    shelf: Arc<Shelf>,
    requests: mpsc::Sender<Request>,
}

impl AmqpQueue {
    /// The ledger beside this queue, on the same connection. Each one made has a memory of its own.
    pub fn ledger(&self) -> AmqpLedger {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let shelf = Arc::new(Shelf::new());
        tokio::spawn(Keeper::new(Arc::clone(self.tasks.shared()), Arc::clone(&shelf), asked).run());
        AmqpLedger { tasks: Arc::clone(&self.tasks), shelf, requests }
    }
}

impl AmqpLedger {
    /// Takes over what another ledger remembers, all at once: seen events, oldest first (the newest 50,000 of them), and the position.
    ///
    /// # Errors
    /// As those of [`EventStore`].
    pub async fn take_over(&self, seen: &[EventId], position: Option<Position>) -> Result<()> {
        let taking = async {
            let newest = &seen[seen.len().saturating_sub(SEEN)..];
            let keys = newest.iter().map(Key::of).collect::<Result<_>>()?;
            self.write(keys, position).await
        };
        taking.await.map(drop).map_err(|error: Error| error.during("ledger::take_over"))
    }

    /// Waits until the ledger was read to its end once.
    async fn opened(&self, until: Instant) -> Result<()> {
        let mut stand = self.shelf.stand.subscribe();
        loop {
            match &*stand.borrow_and_update() {
                Stand::Open => return Ok(()),
                Stand::Refused(why) => return Err(Error::permanent(ErrorKind::Protocol, why.clone())),
                Stand::Reading => {}
            }
            tokio::select! {
                changed = timeout_at(until, stand.changed()) => match changed {
                    Ok(changed) => changed.map_err(|_| closed())?,
                    Err(_) => return Err(late()),
                },
                refused = self.refused(until) => return Err(refused),
            }
        }
    }

    /// What the connection says when there is none.
    async fn refused(&self, until: Instant) -> Error {
        match self.tasks.shared().session(Some(until)).await {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    }

    /// Writes, and waits until it is read back; whether the event is new.
    async fn write(&self, seen: Vec<Key>, position: Option<Position>) -> Result<bool> {
        let until = self.tasks.shared().soon();
        self.opened(until).await?;
        self.tasks.shared().session(Some(until)).await?;
        let (reply, confirmed) = oneshot::channel();
        let asking = async {
            self.requests.send(Request { seen, position, reply }).await.map_err(|_| closed())?;
            confirmed.await.map_err(|_| closed())
        };
        timeout_at(until, asking).await.map_err(|_| late())?
    }
}

fn late() -> Error {
    Error::temporary(ErrorKind::TimedOut, "the broker did not confirm in time")
}

#[async_trait]
impl EventStore for AmqpLedger {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        let asking = async {
            let key = Key::of(event)?;
            self.opened(self.tasks.shared().soon()).await?;
            Ok(self.shelf.book().has_seen(key))
        };
        asking.await.map_err(|error: Error| error.during("ledger::has_seen"))
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        let recording = async {
            let key = Key::of(event)?;
            self.opened(self.tasks.shared().soon()).await?;
            // What is known here was confirmed.
            if self.shelf.book().has_seen(key) {
                return Ok(false);
            }
            self.write(vec![key], None).await
        };
        recording.await.map_err(|error: Error| error.during("ledger::record").with("event", event))
    }

    async fn position(&self) -> Result<Option<Position>> {
        self.write(Vec::new(), None).await.map_err(|error| error.during("ledger::position"))?;
        Ok(self.shelf.book().position().cloned())
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let committing = async {
            self.opened(self.tasks.shared().soon()).await?;
            let forward = self.shelf.book().is_behind(position);
            if forward {
                self.write(Vec::new(), Some(position.clone())).await?;
            }
            Ok(())
        };
        committing.await.map_err(|error: Error| error.during("ledger::commit"))
    }
}
