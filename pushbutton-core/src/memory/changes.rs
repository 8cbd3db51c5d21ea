use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::names::ChangeNumber;
use crate::traits::{ChangeSelector, DependencyLookup, LinkedChange};

/// Changes that are looked up in memory.
#[derive(Debug, Default)]
pub struct MemoryChanges {
    changes: Mutex<BTreeMap<ChangeNumber, LinkedChange>>,
}

impl MemoryChanges {
    /// These changes.
    pub fn of(changes: impl IntoIterator<Item = LinkedChange>) -> Self {
        let by_number = changes.into_iter().map(|change| (change.change.number, change)).collect();
        Self { changes: Mutex::new(by_number) }
    }

    /// Adds a change, or replaces the one with its number.
    pub fn put(&self, change: LinkedChange) {
        self.lock().insert(change.change.number, change);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ChangeNumber, LinkedChange>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DependencyLookup for MemoryChanges {
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>> {
        let matches = |change: &&LinkedChange| match which {
            ChangeSelector::Number(number) => change.change.number == *number,
            ChangeSelector::Id(id) => change.id.as_ref() == Some(id),
            ChangeSelector::Commit(revision) => {
                change.commits.iter().any(|commit| commit.patchset.revision == *revision)
            }
        };
        Ok(self.lock().values().filter(matches).cloned().collect())
    }
}
