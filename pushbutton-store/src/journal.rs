use async_trait::async_trait;
use pushbutton_core::traits::JournalEntry;
use pushbutton_core::{Error, ErrorKind, Journal, ResourceKind, Result, RunId};
use rusqlite::{Connection, Row, params};

use crate::Store;
use crate::error::Fault;
use crate::store::{now, time};

/// The journal of cloud resources, in the store's file. What is gone is forgotten; numbers are not used again.
#[derive(Debug, Clone)]
pub struct StoreJournal(pub(crate) Store);

#[async_trait]
impl Journal for StoreJournal {
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64> {
        let (run, kind, name) = (run.to_string(), kind_text(kind)?, name.to_owned());
        let write = move |connection: &mut Connection| {
            connection.execute(
                "INSERT INTO resources (run, kind, name, at) VALUES (?, ?, ?, ?)",
                params![run, kind, name, now()],
            )?;
            Ok(connection.last_insert_rowid().cast_unsigned())
        };
        self.0.call("journal::intend", write).await
    }

    async fn made(&self, entry: u64, id: &str) -> Result<()> {
        let id = id.to_owned();
        let write = move |connection: &mut Connection| match connection
            .execute("UPDATE resources SET id = ? WHERE entry = ?", params![id, entry.cast_signed()])?
        {
            0 => Err(Error::permanent(ErrorKind::NotFound, "no such entry").with("entry", entry).into()),
            _ => Ok(()),
        };
        self.0.call("journal::made", write).await
    }

    async fn gone(&self, entry: u64) -> Result<()> {
        let write = move |connection: &mut Connection| {
            connection.execute("DELETE FROM resources WHERE entry = ?", params![entry.cast_signed()])?;
            Ok(())
        };
        self.0.call("journal::gone", write).await
    }

    async fn open(&self) -> Result<Vec<JournalEntry>> {
        let ask = move |connection: &mut Connection| {
            let mut ask =
                connection.prepare("SELECT entry, run, kind, name, id, at FROM resources ORDER BY entry")?;
            let rows = ask.query_and_then([], entry)?;
            rows.collect()
        };
        self.0.call("journal::open", ask).await
    }
}

fn entry(row: &Row<'_>) -> Result<JournalEntry, Fault> {
    Ok(JournalEntry {
        entry: row.get::<_, i64>(0)?.cast_unsigned(),
        run: RunId::new(row.get::<_, String>(1)?)?,
        kind: serde_json::from_value(row.get::<_, String>(2)?.into())?,
        name: row.get(3)?,
        id: row.get(4)?,
        at: time(row.get(5)?)?,
    })
}

/// The kind as its serialised word, so that what is written here is what [`entry`] reads.
fn kind_text(kind: ResourceKind) -> Result<String> {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(Error::permanent(ErrorKind::Unexpected, "a resource kind without a word")),
    }
}
