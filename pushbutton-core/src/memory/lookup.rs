use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Account;
use crate::names::{ChangeNumber, PatchsetNumber};
use crate::traits::{PatchsetDetails, TriggerLookup};

/// Looks up what it was given. Counts the look-ups.
#[derive(Debug, Default)]
pub struct MemoryLookup(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    patchsets: HashMap<(ChangeNumber, PatchsetNumber), PatchsetDetails>,
    groups: HashMap<String, Vec<Account>>,
    failures: VecDeque<Error>,
    patchset_lookups: usize,
    group_lookups: usize,
}

impl MemoryLookup {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a patch set, or replaces what is known about it. Names of files beyond the limit are left out.
    pub fn add_patchset(&self, change: ChangeNumber, patchset: PatchsetNumber, mut details: PatchsetDetails) {
        details.more_files |= details.files.len() > PatchsetDetails::MAX_FILES;
        details.files.truncate(PatchsetDetails::MAX_FILES);
        self.known().patchsets.insert((change, patchset), details);
    }

    /// Adds a group, or replaces its members.
    pub fn add_group(&self, name: impl Into<String>, members: impl IntoIterator<Item = Account>) {
        self.known().groups.insert(name.into(), members.into_iter().collect());
    }

    /// The next look-up of any kind fails with this error. Several errors wait for their turn.
    pub fn fail_next(&self, error: Error) {
        self.known().failures.push_back(error);
    }

    /// How many times patch sets were asked for.
    pub fn patchset_lookups(&self) -> usize {
        self.known().patchset_lookups
    }

    /// How many times groups were asked for.
    pub fn group_lookups(&self) -> usize {
        self.known().group_lookups
    }
}

#[async_trait]
impl TriggerLookup for MemoryLookup {
    async fn patchset(&self, change: ChangeNumber, patchset: PatchsetNumber) -> Result<PatchsetDetails> {
        let mut known = self.known();
        known.patchset_lookups += 1;
        if let Some(error) = known.failures.pop_front() {
            return Err(error);
        }
        known.patchsets.get(&(change, patchset)).cloned().ok_or_else(|| {
            Error::permanent(ErrorKind::NotFound, format!("there is no patch set {change},{patchset}"))
        })
    }

    async fn group_members(&self, group: &str) -> Result<Vec<Account>> {
        let mut known = self.known();
        known.group_lookups += 1;
        if let Some(error) = known.failures.pop_front() {
            return Err(error);
        }
        known.groups.get(group).filter(|members| !members.is_empty()).cloned().ok_or_else(|| {
            Error::permanent(
                ErrorKind::NotFound,
                format!("the group {group:?} does not exist or has no members"),
            )
        })
    }
}
