//! The ledger and the journal: what must outlive a process.

use async_trait::async_trait;
use pushbutton_core::{EventId, EventStore, Journal, JournalEntry, Position, ResourceKind, Result, RunId};

use super::{Faulty, Method};

#[async_trait]
impl<T: EventStore + ?Sized> EventStore for Faulty<T> {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        self.schedule.call(Method::HasSeen, self.inner.has_seen(event)).await
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        self.schedule.call(Method::Record, self.inner.record(event)).await
    }

    async fn position(&self) -> Result<Option<Position>> {
        self.schedule.call(Method::Position, self.inner.position()).await
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        self.schedule.call(Method::CommitEventStore, self.inner.commit(position)).await
    }
}

#[async_trait]
impl<T: Journal + ?Sized> Journal for Faulty<T> {
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64> {
        self.schedule.call(Method::Intend, self.inner.intend(run, kind, name)).await
    }

    async fn made(&self, entry: u64, id: &str) -> Result<()> {
        self.schedule.call(Method::Made, self.inner.made(entry, id)).await
    }

    async fn gone(&self, entry: u64) -> Result<()> {
        self.schedule.call(Method::Gone, self.inner.gone(entry)).await
    }

    async fn open(&self) -> Result<Vec<JournalEntry>> {
        self.schedule.call(Method::OpenEntries, self.inner.open()).await
    }
}
