use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::buildset::BuildsetReport;
use crate::error::Result;
use crate::report::{RunResult, Update, UpdateKind};
use crate::traits::Reporter;

/// A reporter that keeps all it gets, and each report of a buildset once, as on a review.
#[derive(Debug, Default)]
pub struct MemoryReporter(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    updates: Vec<Update>,
    finished: HashSet<String>,
    results: Vec<RunResult>,
    delivered: Vec<BuildsetReport>,
}

impl MemoryReporter {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every update so far, in order.
    pub fn updates(&self) -> Vec<Update> {
        self.kept().updates.clone()
    }

    /// The results of runs: one for each run.
    pub fn results(&self) -> Vec<RunResult> {
        self.kept().results.clone()
    }

    /// The reports of buildsets: one for each.
    pub fn delivered(&self) -> Vec<BuildsetReport> {
        self.kept().delivered.clone()
    }
}

#[async_trait]
impl Reporter for MemoryReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        let mut kept = self.kept();
        kept.updates.push(update.clone());
        if let UpdateKind::Finished { result } = &update.kind {
            if kept.finished.insert(result.run.to_string()) {
                kept.results.push(result.as_ref().clone());
            }
        }
        Ok(())
    }

    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let mut kept = self.kept();
        if !kept.delivered.iter().any(|delivered| delivered.id == report.id) {
            kept.delivered.push(report.clone());
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "memory"
    }
}
