use async_trait::async_trait;
use pushbutton_core::event::{EventId, Position};
use pushbutton_core::{EventStore, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::Store;
use crate::error::Fault;
use crate::store::now;

/// What a handler has seen, in the store's file. Events are remembered for 30 days, the position for ever.
#[derive(Debug, Clone)]
pub struct StoreLedger(pub(crate) Store);

impl StoreLedger {
    /// The newest events that were recorded, oldest first, at most so many: for a ledger that takes this one's place.
    ///
    /// # Errors
    /// As those of [`EventStore`].
    pub async fn recent(&self, limit: u32) -> Result<Vec<EventId>> {
        let read = move |connection: &mut Connection| {
            let mut newest = connection.prepare("SELECT event FROM seen ORDER BY at DESC LIMIT ?")?;
            let rows = newest.query_map(params![limit], |row| row.get::<_, String>(0))?;
            let mut events = Vec::new();
            for event in rows {
                events.push(serde_json::from_value(event?.into())?);
            }
            events.reverse();
            Ok(events)
        };
        self.0.call("ledger::recent", read).await
    }
}

#[async_trait]
impl EventStore for StoreLedger {
    async fn has_seen(&self, event: &EventId) -> Result<bool> {
        let event = event.as_str().to_owned();
        let ask = move |connection: &mut Connection| {
            let mut ask = connection.prepare_cached("SELECT 1 FROM seen WHERE event = ?")?;
            Ok(ask.exists(params![event])?)
        };
        self.0.call("ledger::has_seen", ask).await
    }

    async fn record(&self, event: &EventId) -> Result<bool> {
        let event = event.as_str().to_owned();
        let write = move |connection: &mut Connection| {
            let mut write =
                connection.prepare_cached("INSERT OR IGNORE INTO seen (event, at) VALUES (?, ?)")?;
            Ok(write.execute(params![event, now()])? == 1)
        };
        self.0.call("ledger::record", write).await
    }

    async fn position(&self) -> Result<Option<Position>> {
        self.0.call("ledger::position", |connection| read(connection)).await
    }

    async fn commit(&self, position: &Position) -> Result<()> {
        let position = position.clone();
        let write = move |connection: &mut Connection| {
            // Compared here and not in SQL, within one transaction, so that core alone says which position is older.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if read(&transaction)?.is_none_or(|known| known < position) {
                let text = serde_json::to_string(&position)?;
                transaction.execute(
                    "INSERT OR REPLACE INTO position (only, position) VALUES (1, ?)",
                    params![text],
                )?;
            }
            Ok(transaction.commit()?)
        };
        self.0.call("ledger::commit", write).await
    }
}

fn read(connection: &Connection) -> Result<Option<Position>, Fault> {
    let text: Option<String> =
        connection.query_row("SELECT position FROM position", [], |row| row.get(0)).optional()?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}
