use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::control::ControlMessage;
use crate::error::Result;
use crate::history::{FailureCount, FailureQuery, RunHistory, RunRecord};
use crate::names::RunId;
use crate::report::{Update, UpdateKind};
use crate::shared_history::{DeliveryRecord, HistoryEntry, HistoryLog, HistoryReplica, ParticipantRecord};
use crate::traits::Reporter;
use crate::verdict::Verdict;

/// How many runs are kept by default.
const RUNS: usize = 1000;

/// The last runs, by default 1000, and as many other entries. Clones share them. As a [`Reporter`] it records runs and
/// stages, not lines of output.
#[derive(Debug, Clone, Default)]
pub struct MemoryHistory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: usize,
    /// In the order in which they began.
    runs: VecDeque<RunRecord>,
    others: BTreeMap<String, HistoryEntry>,
    positions: HashMap<String, String>,
}

impl Default for State {
    fn default() -> Self {
        Self { limit: RUNS, runs: VecDeque::new(), others: BTreeMap::new(), positions: HashMap::new() }
    }
}

impl MemoryHistory {
    /// Keeps so many runs, and so many other entries; older ones are forgotten.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        self.state().limit = limit;
        self
    }

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
    /// The newest first.
    fn runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.iter().rev()
    }

    fn place_of(&self, run: &RunId) -> Option<usize> {
        self.runs.iter().rposition(|known| known.run == *run)
    }

    fn apply(&mut self, entry: HistoryEntry) {
        match entry {
            HistoryEntry::Run { record } => self.apply_run(*record),
            entry => self.apply_other(entry),
        }
    }

    fn apply_run(&mut self, record: RunRecord) {
        match self.place_of(&record.run) {
            Some(place) if self.runs.get(place).is_some_and(|known| !record.is_news_to(known)) => {}
            Some(place) => {
                self.runs.remove(place);
                self.insert(record);
            }
            None => self.begin(record),
        }
    }

    /// A job has one run at a time: an older one that is still open has lost its operator.
    fn begin(&mut self, record: RunRecord) {
        let lost = self.runs.iter_mut().filter(|open| {
            open.ended.is_none() && open.job.id == record.job.id && open.started < record.started
        });
        lost.for_each(|open| open.end_as_lost(record.started));
        self.insert(record);
    }

    fn insert(&mut self, record: RunRecord) {
        let place =
            self.runs.partition_point(|known| (known.started, &known.run) <= (record.started, &record.run));
        self.runs.insert(place, record);
        while self.runs.len() > self.limit {
            self.runs.pop_front();
        }
    }

    fn apply_other(&mut self, entry: HistoryEntry) {
        let key = entry.key();
        if self.others.get(&key).is_some_and(|known| known.at() > entry.at()) {
            return;
        }
        self.others.insert(key, entry);
        if self.others.len() > self.limit {
            let oldest = self.others.iter().min_by_key(|(_, entry)| entry.at()).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.others.remove(&key));
        }
    }
}

#[async_trait]
impl RunHistory for MemoryHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        Ok(self.state().runs().take(limit).cloned().collect())
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let mut counts = BTreeMap::new();
        for verdict in self.state().runs().filter_map(|run| run.verdict.as_ref()) {
            *counts.entry(verdict.result().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        let ended = |run: &RunRecord| run.ended.filter(|_| run.verdict == Some(Verdict::Success));
        Ok(self.state().runs().filter_map(ended).max())
    }

    async fn failure_counts(&self, query: &FailureQuery) -> Result<Vec<FailureCount>> {
        Ok(query.count(self.state().runs().filter(|run| query.includes(run))))
    }

    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        Ok(self.state().runs().find(|known| known.run == *run).cloned())
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
impl Reporter for MemoryHistory {
    async fn report(&self, update: &Update) -> Result<()> {
        let Some(id) = &update.run else { return Ok(()) };
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return Ok(());
        }
        let mut state = self.state();
        let place = state.place_of(id);
        match place.and_then(|place| state.runs.get_mut(place)) {
            Some(run) => run.apply(update),
            None => {
                let mut run = RunRecord::begun_by(id, update);
                run.apply(update);
                state.begin(run);
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "memory-history"
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
