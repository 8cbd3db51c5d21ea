//! The broker: a log that may lose its unsynced end or drop its beginning, and an inbox that loses nothing.

use std::collections::VecDeque;

use pushbutton_core::Job;

use super::super::entry::Entry;

/// How many entries may not be on the disk yet.
const MAX_UNSYNCED: u64 = 12;

/// An entry in the log.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) entry: Entry,
    pub(super) size: usize,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    log: VecDeque<Stored>,
    /// The offset of the first entry that is still there.
    first: u64,
    /// What came before this offset is on the disk.
    synced: u64,
    inbox: VecDeque<Job>,
    /// Messages that one consumer has and did not acknowledge.
    unacknowledged: VecDeque<Job>,
    /// The one consumer of the inbox: a connection.
    consumer: Option<u64>,
}

impl Broker {
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the next entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    pub(super) fn get(&self, offset: u64) -> Option<&Stored> {
        self.log.get(usize::try_from(offset.checked_sub(self.first)?).unwrap())
    }

    pub(super) fn append(&mut self, entry: Entry, size: usize) -> u64 {
        self.log.push_back(Stored { entry, size });
        self.synced = self.synced.max(self.end().saturating_sub(MAX_UNSYNCED));
        self.end() - 1
    }

    /// How many entries are lost at most if the host loses power. The first one is on the disk.
    pub(super) fn unsynced(&self) -> u64 {
        self.end().saturating_sub(self.synced.max(1))
    }

    /// The host loses power: all from this offset on is gone.
    pub(super) fn lose_from(&mut self, offset: u64) -> Vec<Entry> {
        let kept = usize::try_from(offset.saturating_sub(self.first)).unwrap();
        self.log.drain(kept.min(self.log.len())..).map(|stored| stored.entry).collect()
    }

    /// Drops the beginning of the log.
    pub(super) fn drop_before(&mut self, offset: u64) {
        while self.first < offset && self.log.pop_front().is_some() {
            self.first += 1;
        }
    }

    pub(super) fn publish(&mut self, job: Job) {
        self.inbox.push_back(job);
    }

    /// Delivers messages to the one consumer.
    pub(super) fn deliver(&mut self, connection: u64, most: usize) -> Vec<Job> {
        if *self.consumer.get_or_insert(connection) != connection || !self.unacknowledged.is_empty() {
            return Vec::new();
        }
        let count = most.min(self.inbox.len());
        self.unacknowledged.extend(self.inbox.drain(..count));
        self.unacknowledged.iter().cloned().collect()
    }

    pub(super) fn acknowledge(&mut self, connection: u64) {
        if self.consumer == Some(connection) {
            self.unacknowledged.clear();
        }
    }

    /// What the connection did not acknowledge is delivered again, to somebody.
    pub(super) fn disconnect(&mut self, connection: u64) {
        if self.consumer == Some(connection) {
            self.consumer = None;
            while let Some(job) = self.unacknowledged.pop_back() {
                self.inbox.push_front(job);
            }
        }
    }

    pub(super) fn inbox_is_empty(&self) -> bool {
        self.inbox.is_empty() && self.unacknowledged.is_empty()
    }
}
