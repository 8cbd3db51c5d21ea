//! Control messages: numbered rows that are kept for a day.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::try_unfold;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{ControlMessage, ControlMessages, Result};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::Store;
use crate::column::{Json, millis, now};
use crate::history::take_over_control;

/// How far back a new reader begins.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// How many messages are read at once.
const BATCH: i64 = 64;

pub(crate) async fn add(store: &Store, message: ControlMessage) -> Result<()> {
    let write = move |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "INSERT INTO control_messages (message, at) VALUES (?, ?)";
        transaction.execute(sql, params![Json(&message), now()])?;
        take_over_control(&transaction, &message)?;
        Ok(transaction.commit()?)
    };
    store.call("queue::broadcast", write).await?;
    store.notify_changed();
    Ok(())
}

/// Reads from a day ago, and then waits for what is added.
pub(crate) async fn read(store: Store) -> Result<ControlMessages> {
    let since = now().saturating_sub(millis(LOOK_BACK));
    let last_before = move |connection: &mut Connection| {
        let sql = "SELECT coalesce(max(number), 0) FROM control_messages WHERE at < ?";
        Ok(connection.query_row(sql, params![since], |row| row.get(0))?)
    };
    let last = store.call("queue::control_messages", last_before).await?;
    let reader = Reader { store, last, buffered: VecDeque::new() };
    Ok(Box::pin(try_unfold(reader, async |mut reader| Ok(Some((reader.next().await?, reader))))))
}

struct Reader {
    store: Store,
    /// The number of the last row that was read.
    last: i64,
    buffered: VecDeque<ControlMessage>,
}

impl Reader {
    async fn next(&mut self) -> Result<ControlMessage> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            if let Some(message) = self.buffered.pop_front() {
                return Ok(message);
            }
            let store = self.store.clone();
            let changed = store.changed();
            match self.fill().await {
                Ok(0) => changed.await,
                Ok(_) => {}
                Err(error) if error.is_temporary() => {
                    let delay = backoff.next_delay();
                    tracing::warn!(?delay, "will retry: {error}");
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the next rows into the buffer; returns how many.
    async fn fill(&mut self) -> Result<usize> {
        let last = self.last;
        let read = move |connection: &mut Connection| {
            let sql = "SELECT number, message FROM control_messages WHERE number > ? ORDER BY number LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement
                .query_map(params![last, BATCH], |row| Ok((row.get(0)?, row.get::<_, Json<_>>(1))))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        };
        let rows = self.store.call("control_messages::next", read).await?;
        let count = rows.len();
        for (number, message) in rows {
            self.last = number;
            match message {
                Ok(Json(message)) => self.buffered.push_back(message),
                // A newer version may know more kinds of messages; the others must still be delivered.
                Err(error) => {
                    tracing::warn!(number, "skipping a control message that cannot be read: {error}")
                }
            }
        }
        Ok(count)
    }
}
