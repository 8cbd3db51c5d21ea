//! ControlMessages, as numbered rows that are kept for a day.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{ControlMessage, ControlMessages, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::error::Fault;
use crate::store::now;
use crate::upkeep::millis;

/// How far back a new listener begins.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// How many notices are read at once.
const BATCH: i64 = 64;

pub(crate) fn add(connection: &Connection, notice: &ControlMessage) -> Result<(), Fault> {
    let text = serde_json::to_string(notice)?;
    connection.execute("INSERT INTO notices (notice, at) VALUES (?, ?)", params![text, now()])?;
    Ok(())
}

/// A listener: it remembers how far it has read.
pub(crate) struct StoreNotices {
    store: Store,
    last: i64,
    read: VecDeque<ControlMessage>,
}

impl StoreNotices {
    pub(crate) async fn new(store: Store) -> Result<Self> {
        let since = now().saturating_sub(millis(LOOK_BACK));
        let ask = move |connection: &mut Connection| {
            let before: Option<i64> = connection
                .query_row("SELECT max(number) FROM notices WHERE at < ?", params![since], |row| row.get(0))
                .optional()?
                .flatten();
            Ok(before.unwrap_or(0))
        };
        let last = store.call("queue::control_messages", ask).await?;
        Ok(Self { store, last, read: VecDeque::new() })
    }

    /// Reads on from where it stands.
    async fn read_on(&mut self) -> Result<()> {
        let last = self.last;
        let ask = move |connection: &mut Connection| {
            let mut ask = connection.prepare_cached(
                "SELECT number, notice FROM notices WHERE number > ? ORDER BY number LIMIT ?",
            )?;
            let rows =
                ask.query_map(params![last, BATCH], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?)
        };
        for (number, text) in self.store.call("notices::next", ask).await? {
            self.last = number;
            match serde_json::from_str(&text) {
                Ok(notice) => self.read.push_back(notice),
                // A newer version may know more kinds of notices; the others must still be heard.
                Err(error) => tracing::warn!(number, "a notice cannot be read: {error}"),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ControlMessages for StoreNotices {
    async fn next(&mut self) -> Result<ControlMessage> {
        let news = self.store.news();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            if let Some(notice) = self.read.pop_front() {
                return Ok(notice);
            }
            let _waiting = news.wait();
            let changed = news.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let before = self.last;
            match self.read_on().await {
                Ok(()) if self.last == before => changed.await,
                Ok(()) => {}
                Err(error) if error.is_temporary() => {
                    let delay = backoff.next_delay();
                    tracing::warn!(?delay, "will try again: {error}");
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
