use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::event::{EventId, Position};
use crate::traits::EventStore;

/// Events that are remembered.
const REMEMBERED: usize = 100_000;

/// Remembers events in memory: the last 100,000, which is far more than come again after a gap.
#[derive(Debug, Default)]
pub struct MemoryEventStore(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    seen: HashSet<EventId>,
    order: VecDeque<EventId>,
    position: Option<Position>,
}

impl MemoryEventStore {
    fn state(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        Ok(self.state().seen.contains(event))
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        let mut state = self.state();
        let new = state.seen.insert(event.clone());
        if new {
            state.order.push_back(event.clone());
            if state.order.len() > REMEMBERED {
                if let Some(oldest) = state.order.pop_front() {
                    state.seen.remove(&oldest);
                }
            }
        }
        Ok(new)
    }

    async fn position(&self) -> Result<Option<Position>> {
        Ok(self.state().position.clone())
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let mut state = self.state();
        if state.position.as_ref().is_none_or(|known| known < position) {
            state.position = Some(position.clone());
        }
        Ok(())
    }
}
