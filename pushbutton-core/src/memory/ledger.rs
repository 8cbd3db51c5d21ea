use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::event::{EventId, Position};
use crate::seam::Ledger;

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    seen: HashSet<EventId>,
    position: Option<Position>,
}

impl MemoryLedger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        Ok(self.pages().seen.contains(event))
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        Ok(self.pages().seen.insert(event.clone()))
    }

    async fn position(&self) -> Result<Option<Position>> {
        Ok(self.pages().position.clone())
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let mut pages = self.pages();
        if pages.position.as_ref().is_none_or(|known| known < position) {
            pages.position = Some(position.clone());
        }
        Ok(())
    }
}
