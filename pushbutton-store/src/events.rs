use async_trait::async_trait;
use pushbutton_core::event::{EventId, Position};
use pushbutton_core::{EventStore, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::Store;
use crate::column::{Json, Text, now};
use crate::error::StoreError;

/// The seen events and the position of an event source, in the store's file. Events are kept for 30 days.
#[derive(Debug, Clone)]
pub struct StoreEvents(pub(crate) Store);

impl StoreEvents {
    /// The newest recorded events, oldest first, at most `limit`: to move to another event store.
    ///
    /// # Errors
    /// As those of [`EventStore`].
    pub async fn recent(&self, limit: u32) -> Result<Vec<EventId>> {
        let read = move |connection: &mut Connection| {
            let sql =
                "SELECT event FROM (SELECT event, at FROM seen_events ORDER BY at DESC LIMIT ?) ORDER BY at";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![limit], |row| Ok(row.get::<_, Text<_>>(0)?.0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("events::recent", read).await
    }
}

#[async_trait]
impl EventStore for StoreEvents {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        let event = event.clone();
        let read = move |connection: &mut Connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM seen_events WHERE event = ?")?;
            Ok(statement.exists(params![event.as_str()])?)
        };
        self.0.call("events::has_seen", read).await
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        let event = event.clone();
        let write = move |connection: &mut Connection| {
            let sql = "INSERT OR IGNORE INTO seen_events (event, at) VALUES (?, ?)";
            Ok(connection.prepare_cached(sql)?.execute(params![event.as_str(), now()])? == 1)
        };
        self.0.call("events::record", write).await
    }

    async fn position(&self) -> Result<Option<Position>> {
        self.0.call("events::position", |connection| read_position(connection)).await
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let position = position.clone();
        let write = move |connection: &mut Connection| {
            // Compared here and not in SQL, within one transaction: the order of positions is defined by core.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if read_position(&transaction)?.is_none_or(|known| known < position) {
                let sql = "INSERT OR REPLACE INTO position (only, position) VALUES (1, ?)";
                transaction.execute(sql, params![Json(position)])?;
            }
            Ok(transaction.commit()?)
        };
        self.0.call("events::commit", write).await
    }
}

fn read_position(connection: &Connection) -> Result<Option<Position>, StoreError> {
    let sql = "SELECT position FROM position";
    Ok(connection.query_row(sql, [], |row| Ok(row.get::<_, Json<_>>(0)?.0)).optional()?)
}
