use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::names::RunId;
use crate::node::ResourceKind;
use crate::traits::{Journal, JournalEntry};

/// A journal in memory.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    open: Vec<JournalEntry>,
}

impl MemoryJournal {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64> {
        let mut entries = self.entries();
        entries.last += 1;
        let entry = entries.last;
        entries.open.push(JournalEntry::new(entry, run.clone(), kind, name, Timestamp::now()));
        Ok(entry)
    }

    async fn made(&self, entry: u64, id: &str) -> Result<()> {
        match self.entries().open.iter_mut().find(|open| open.entry == entry) {
            Some(open) => {
                open.id = Some(id.to_owned());
                Ok(())
            }
            None => Err(Error::permanent(ErrorKind::NotFound, "no such entry")
                .during("journal::made")
                .with("entry", entry)),
        }
    }

    async fn gone(&self, entry: u64) -> Result<()> {
        self.entries().open.retain(|open| open.entry != entry);
        Ok(())
    }

    async fn open(&self) -> Result<Vec<JournalEntry>> {
        Ok(self.entries().open.clone())
    }
}
