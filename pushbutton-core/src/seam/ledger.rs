use async_trait::async_trait;

use crate::error::Result;
use crate::event::{EventId, Position};

/// Remembers what a handler has seen, across restarts.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Whether this event was recorded.
    async fn has_seen(&self, event: &EventId) -> Result<bool>;

    /// Records an event as handled: all that it called for is durable.
    ///
    /// # Contract
    /// - `Ok(true)` when it is new, `Ok(false)` when it was recorded before.
    /// - `Ok` means durable.
    async fn record(&self, event: &EventId) -> Result<bool>;

    /// The committed position; none before the first commit.
    async fn position(&self) -> Result<Option<Position>>;

    /// Commits a position.
    ///
    /// # Contract
    /// - Never goes back: an older position than the committed one changes nothing.
    async fn commit(&self, position: &Position) -> Result<()>;
}
