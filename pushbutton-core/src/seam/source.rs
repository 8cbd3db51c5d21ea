use async_trait::async_trait;

use crate::error::Result;
use crate::event::{Event, Position};

/// Yields what happens upstream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventSource: Send {
    /// Waits for the next event.
    ///
    /// # Contract
    /// - `None` means that a finite source has ended; a live one waits, for ever if need be.
    /// - At least once: an event may come again, with the same [`EventId`](crate::EventId).
    /// - Reconnects by itself, and never ends on an error that may pass; after any gap it fetches what it missed.
    /// - Nothing older than the committed position comes, nor, on a first start, anything older than the start.
    /// - A line that cannot be understood is logged and passed by; it never ends the source.
    /// - Cancel-safe: a dropped call loses no event.
    ///
    /// # Errors
    /// Permanent ones only, such as a refused login: somebody must act.
    async fn next(&mut self) -> Result<Option<Event>>;

    /// Says that everything up to this position is durable.
    ///
    /// # Contract
    /// - After a restart the source goes on from the last committed position.
    /// - A position older than the committed one changes nothing.
    async fn commit(&mut self, position: &Position) -> Result<()>;
}
