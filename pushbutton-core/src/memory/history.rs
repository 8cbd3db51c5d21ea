use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::control::ControlMessage;
use crate::error::Result;
use crate::history::{RunHistory, RunRecord};
use crate::names::RunId;
use crate::shared_history::{DeliveryRecord, HistoryEntry, HistoryLog, HistoryReplica, ParticipantRecord};
use crate::verdict::Verdict;

/// A history in memory, without limits. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryHistory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    runs: HashMap<RunId, RunRecord>,
    others: BTreeMap<String, HistoryEntry>,
    positions: HashMap<String, String>,
}

impl MemoryHistory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries that are no runs, the newest first.
    fn newest<T>(&self, limit: usize, pick: impl Fn(&HistoryEntry) -> Option<T>) -> Vec<T> {
        let state = self.state();
        let mut found: Vec<_> =
            state.others.values().filter_map(|entry| Some((entry.at(), pick(entry)?))).collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().take(limit).map(|(_, entry)| entry).collect()
    }
}

impl State {
    fn apply(&mut self, entry: HistoryEntry) {
        let HistoryEntry::Run { record } = entry else {
            let known = self.others.get(&entry.key());
            if known.is_none_or(|known| known.at() <= entry.at()) {
                self.others.insert(entry.key(), entry);
            }
            return;
        };
        if self.runs.get(&record.run).is_some_and(|known| !record.is_news_to(known)) {
            return;
        }
        // A job has one run at a time: an older one that is still open has lost its operator.
        if !self.runs.contains_key(&record.run) {
            let lost = self.runs.values_mut().filter(|open| {
                open.ended.is_none() && open.job.id == record.job.id && open.started < record.started
            });
            lost.for_each(|open| open.end_as_lost(record.started));
        }
        self.runs.insert(record.run.clone(), *record);
    }
}

#[async_trait]
impl RunHistory for MemoryHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let mut runs: Vec<_> = self.state().runs.values().cloned().collect();
        runs.sort_by(|a, b| (b.started, &b.run).cmp(&(a.started, &a.run)));
        runs.truncate(limit);
        Ok(runs)
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let mut counts = BTreeMap::new();
        for verdict in self.state().runs.values().filter_map(|run| run.verdict.as_ref()) {
            *counts.entry(verdict.result().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        let state = self.state();
        let successes = state.runs.values().filter(|run| run.verdict == Some(Verdict::Success));
        Ok(successes.filter_map(|run| run.ended).max())
    }

    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        Ok(self.state().runs.get(run).cloned())
    }

    async fn actions(&self, limit: usize) -> Result<Vec<ControlMessage>> {
        Ok(self.newest(limit, |entry| match entry {
            HistoryEntry::Control { message } => Some(message.clone()),
            _ => None,
        }))
    }

    async fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>> {
        Ok(self.newest(limit, |entry| match entry {
            HistoryEntry::Delivery { delivery } => Some(delivery.clone()),
            _ => None,
        }))
    }

    async fn participants(&self) -> Result<Vec<ParticipantRecord>> {
        Ok(self.newest(usize::MAX, |entry| match entry {
            HistoryEntry::Participant { participant } => Some(participant.as_ref().clone()),
            _ => None,
        }))
    }
}

#[async_trait]
impl HistoryLog for MemoryHistory {
    async fn append(&self, entry: HistoryEntry) -> Result<()> {
        self.state().apply(entry);
        Ok(())
    }

    fn dropped(&self) -> u64 {
        0
    }
}

#[async_trait]
impl HistoryReplica for MemoryHistory {
    async fn feed_position(&self, feed: &str) -> Result<Option<String>> {
        Ok(self.state().positions.get(feed).cloned())
    }

    async fn apply(&self, feed: &str, entries: Vec<HistoryEntry>, position: &str) -> Result<()> {
        let mut state = self.state();
        entries.into_iter().for_each(|entry| state.apply(entry));
        state.positions.insert(feed.to_owned(), position.to_owned());
        Ok(())
    }
}
