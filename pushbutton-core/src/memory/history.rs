use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::history::{FailureCount, FailureQuery, RunHistory, RunRecord};
use crate::report::{Update, UpdateKind};
use crate::traits::Reporter;
use crate::verdict::Verdict;

/// How many runs are kept by default.
const RUNS: usize = 1000;

/// The last runs, by default 1000. As a [`Reporter`] it records runs and stages, not lines of output.
#[derive(Debug)]
pub struct MemoryHistory {
    limit: usize,
    /// In the order in which they began.
    runs: Mutex<VecDeque<RunRecord>>,
}

impl Default for MemoryHistory {
    fn default() -> Self {
        Self { limit: RUNS, runs: Mutex::default() }
    }
}

impl MemoryHistory {
    /// Keeps so many runs; older ones are forgotten.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Reads the runs, the newest first.
    fn read<T>(&self, read: impl FnOnce(&mut dyn Iterator<Item = &RunRecord>) -> T) -> T {
        read(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner).iter().rev())
    }
}

#[async_trait]
impl RunHistory for MemoryHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        Ok(self.read(|runs| runs.take(limit).cloned().collect()))
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let mut counts = BTreeMap::new();
        self.read(|runs| {
            for verdict in runs.filter_map(|run| run.verdict.as_ref()) {
                *counts.entry(verdict.result().to_owned()).or_default() += 1;
            }
        });
        Ok(counts.into_iter().collect())
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        let ended = |run: &RunRecord| run.ended.filter(|_| run.verdict == Some(Verdict::Success));
        Ok(self.read(|runs| runs.filter_map(ended).max()))
    }

    async fn failure_counts(&self, query: &FailureQuery) -> Result<Vec<FailureCount>> {
        Ok(self.read(|runs| query.count(runs.filter(|run| query.includes(run)))))
    }
}

#[async_trait]
impl Reporter for MemoryHistory {
    async fn report(&self, update: &Update) -> Result<()> {
        let Some(id) = &update.run else { return Ok(()) };
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return Ok(());
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = runs.iter_mut().rev().find(|run| run.run == *id) {
            run.apply(update);
            return Ok(());
        }
        let started = match &update.kind {
            UpdateKind::Finished { result } => result.started,
            _ => update.at,
        };
        let mut run = RunRecord::new(id.clone(), update.job.clone(), update.attempt, started);
        run.apply(update);
        let place = runs.partition_point(|known| (known.started, &known.run) <= (started, id));
        runs.insert(place, run);
        while runs.len() > self.limit {
            runs.pop_front();
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "memory-history"
    }
}
