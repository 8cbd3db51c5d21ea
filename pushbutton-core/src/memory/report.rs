use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::report::{Report, Update, UpdateKind};
use crate::seam::Reporter;

/// A reporter that keeps what it was told. One report a run, as on a review.
#[derive(Debug, Default)]
pub struct MemoryReporter(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    updates: Vec<Update>,
    spoken: HashSet<String>,
    reports: Vec<Report>,
}

impl MemoryReporter {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every update so far, in order.
    pub fn updates(&self) -> Vec<Update> {
        self.told().updates.clone()
    }

    /// What it has said: one report for each run.
    pub fn reports(&self) -> Vec<Report> {
        self.told().reports.clone()
    }
}

#[async_trait]
impl Reporter for MemoryReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        let mut told = self.told();
        told.updates.push(update.clone());
        if let UpdateKind::Finished { report } = &update.kind {
            if told.spoken.insert(report.run.to_string()) {
                told.reports.push(report.as_ref().clone());
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
