//! Control messages: kept in order, for a day and at most [`MAX_BYTES`], so that a late listener gets them.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::ids::EntryId;
use super::jobs::json_size;
use super::rules::{Rule, holds};

/// How long a message is kept; a little more than the day that the contract of `Queue` demands.
const MAX_AGE: Duration = Duration::from_secs(25 * 3600);
/// How many bytes of them are kept, as a snapshot has them: some 8,000 messages. The oldest are dropped first.
const MAX_BYTES: usize = 2 << 20;

/// A message in the state.
#[derive(Debug, Clone)]
pub(crate) struct StoredMessage {
    pub(crate) id: EntryId,
    /// JSON.
    pub(crate) text: String,
    /// When it was written, by the clock of this participant.
    since: Instant,
}

/// A message in a snapshot. Its age is the writer's; the time until the snapshot is read makes it only older.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    pub(super) id: EntryId,
    text: String,
    age_ms: u64,
}

#[cfg(test)]
impl MessageRecord {
    pub(super) fn forget_age(&mut self) {
        self.age_ms = 0;
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ControlMessages {
    kept: VecDeque<StoredMessage>,
    ids: HashSet<EntryId>,
    /// All ids, by exclusive or: changes with every message that comes or goes.
    fingerprint: u128,
    bytes: usize,
}

impl ControlMessages {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &StoredMessage> {
        self.kept.iter()
    }

    pub(crate) fn has(&self, id: EntryId) -> bool {
        self.ids.contains(&id)
    }

    /// Adds a message, unless it is there, and drops what is too old or too much.
    pub(super) fn add(&mut self, id: EntryId, text: &str, since: Instant, now: Instant) {
        if self.ids.insert(id) {
            self.bytes += size(text);
            self.fingerprint ^= id.0;
            self.kept.push_back(StoredMessage { id, text: text.to_owned(), since });
        }
        while self.bytes > MAX_BYTES || self.kept.front().is_some_and(|oldest| is_old(oldest.since, now)) {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= size(&oldest.text);
            self.fingerprint ^= oldest.id.0;
            self.ids.remove(&oldest.id);
        }
    }

    pub(super) fn records(&self, now: Instant) -> Vec<MessageRecord> {
        let fresh = self.kept.iter().filter(|message| !is_old(message.since, now));
        let record = |message: &StoredMessage| MessageRecord {
            id: message.id,
            text: message.text.clone(),
            age_ms: u64::try_from((now - message.since).as_millis()).unwrap_or(u64::MAX),
        };
        fresh.map(record).collect()
    }

    pub(super) fn restore(&mut self, records: &[MessageRecord], now: Instant) {
        for record in records {
            // A clock that began later than the message counts from its own beginning.
            let since = now.checked_sub(Duration::from_millis(record.age_ms)).unwrap_or(now);
            self.add(record.id, &record.text, since, now);
        }
    }
}

/// What one listener has got.
#[derive(Debug, Default)]
pub(crate) struct Listened {
    /// By id, because offsets change when the broker loses the end of the log.
    delivered: HashSet<EntryId>,
    /// Of the messages when they were last read. The newest of them would not do: the one that is written again after
    /// the broker has lost it is the newest both before and after, and others have come between.
    fingerprint: u128,
}

impl Listened {
    /// Messages that the listener has not got yet, in order. They count as delivered from now on.
    pub(crate) fn new_messages(&mut self, messages: &ControlMessages) -> Vec<String> {
        if messages.fingerprint == self.fingerprint {
            return Vec::new();
        }
        self.fingerprint = messages.fingerprint;
        self.delivered.retain(|id| messages.has(*id));
        let new =
            messages.iter().filter(|message| self.delivered.insert(message.id) || !holds(Rule::HeardOnce));
        new.map(|message| message.text.clone()).collect()
    }
}

/// As JSON within JSON, with id and age.
fn size(text: &str) -> usize {
    80 + json_size(&text)
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) > MAX_AGE
}

#[cfg(test)]
#[path = "control_messages_tests.rs"]
mod tests;
