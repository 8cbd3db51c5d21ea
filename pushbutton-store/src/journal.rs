use async_trait::async_trait;
use pushbutton_core::{Error, ErrorKind, Journal, JournalEntry, ResourceKind, Result, RunId};
use rusqlite::{Connection, Row, params};

use crate::Store;
use crate::column::{Millis, Text, now};

/// The journal of cloud resources, in the store's file. Entries of released resources are deleted; their numbers are
/// not used again.
#[derive(Debug, Clone)]
pub struct StoreJournal(pub(crate) Store);

#[async_trait]
impl Journal for StoreJournal {
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64> {
        let (run, name) = (run.clone(), name.to_owned());
        let write = move |connection: &mut Connection| {
            let sql = "INSERT INTO resources (run, kind, name, at) VALUES (?, ?, ?, ?)";
            connection.execute(sql, params![run.as_str(), Text(kind), name, now()])?;
            Ok(connection.last_insert_rowid().cast_unsigned())
        };
        self.0.call("journal::intend", write).await
    }

    async fn made(&self, entry: u64, id: &str) -> Result<()> {
        let id = id.to_owned();
        let write = move |connection: &mut Connection| {
            let sql = "UPDATE resources SET id = ? WHERE entry = ?";
            match connection.execute(sql, params![id, entry.cast_signed()])? {
                0 => Err(Error::permanent(ErrorKind::NotFound, "no such entry").with("entry", entry).into()),
                _ => Ok(()),
            }
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
        let read = |connection: &mut Connection| {
            let sql = "SELECT entry, run, kind, name, id, at FROM resources ORDER BY entry";
            let mut statement = connection.prepare(sql)?;
            Ok(statement.query_map([], entry)?.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("journal::open", read).await
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let (entry, run, kind): (i64, Text<_>, Text<_>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (name, id, at): (String, Option<String>, Millis) = (row.get(3)?, row.get(4)?, row.get(5)?);
    Ok(JournalEntry::new(entry.cast_unsigned(), run.0, kind.0, name, at.0).with_id(id))
}
