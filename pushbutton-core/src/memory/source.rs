use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::event::{Event, Position};
use crate::traits::EventSource;

/// A source that yields what it is sent, and ends when all its senders are gone.
#[derive(Debug)]
pub struct MemorySource {
    events: mpsc::Receiver<Event>,
    committed: Option<Position>,
}

impl MemorySource {
    /// A source, and the end to send to it.
    pub fn channel(capacity: usize) -> (mpsc::Sender<Event>, Self) {
        let (sender, events) = mpsc::channel(capacity);
        (sender, Self { events, committed: None })
    }

    /// A source that yields these events and ends.
    pub fn of(events: Vec<Event>) -> Self {
        let (sender, source) = Self::channel(events.len().max(1));
        for event in events {
            // There is room for all of them.
            let _ = sender.try_send(event);
        }
        source
    }

    /// The last committed position.
    pub fn committed(&self) -> Option<&Position> {
        self.committed.as_ref()
    }
}

#[async_trait]
impl EventSource for MemorySource {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(self.events.recv().await)
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        if self.committed.as_ref().is_none_or(|known| known < position) {
            self.committed = Some(position.clone());
        }
        Ok(())
    }
}
