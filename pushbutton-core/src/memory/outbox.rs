use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::due_after;
use crate::buildset::{BuildsetReport, JobEnd, OpenBuildset};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::names::{BuildsetId, RunId};
use crate::traits::{Delivery, UndeliveredReport, UndeliveredReports};

/// The half of a queue that carries results back: buildsets that are not complete, and reports that are due. A queue
/// of your own can start with it.
#[derive(Debug, Clone)]
pub struct MemoryOutbox {
    lease: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a report is due, or when a waiting time changes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Buildsets of which a job has ended, and another one has not.
    open: HashMap<BuildsetId, OpenBuildset>,
    due: VecDeque<DueReport>,
    undelivered: Vec<UndeliveredReport>,
}

/// A report that is due, or is being delivered.
#[derive(Debug, Clone)]
struct DueReport {
    report: BuildsetReport,
    /// Not before this: after a try that failed, or while its lease lasts.
    due: Instant,
    /// The delivery that holds it.
    delivery: Option<RunId>,
    failed_attempts: u32,
    delivered: BTreeSet<String>,
}

impl DueReport {
    fn new(report: BuildsetReport, delivered: BTreeSet<String>) -> Self {
        Self { report, due: Instant::now(), delivery: None, failed_attempts: 0, delivered }
    }
}

impl MemoryOutbox {
    /// An empty outbox, with leases of this length.
    pub fn with_lease(lease: Duration) -> Self {
        Self { lease, shared: Arc::default() }
    }

    /// Enters how a job ended in its buildset. If it was the last one, the buildset's report is due.
    pub fn end(&self, job: &Job, end: JobEnd) {
        let mut state = self.state();
        let id = &job.buildset.id;
        let open = state.open.entry(id.clone()).or_insert_with(|| OpenBuildset::new(job.buildset.clone()));
        open.end(job.name.clone(), end);
        if !open.is_complete() {
            return;
        }
        if let Some(report) = state.open.remove(id).and_then(OpenBuildset::into_report) {
            state.due.push_back(DueReport::new(report, BTreeSet::new()));
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Notes that the dead letter of a job was put back on the queue. If the buildset was complete without it, the job
    /// gets a buildset of its own.
    pub fn reopen(&self, job: &mut Job) {
        match self.state().open.get_mut(&job.buildset.id) {
            Some(open) => open.reopen(&job.name),
            None => job.buildset = job.buildset_alone(RunId::generate().as_str()),
        }
    }

    /// Does what [`Queue::claim_report`](crate::Queue::claim_report) must do.
    ///
    /// # Errors
    /// None.
    pub async fn claim(&self) -> Result<Box<dyn Delivery>> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Subscribe before looking, so that no change between the two is missed.
            changed.as_mut().enable();
            let taken = self.state().take(Instant::now(), self.lease);
            match taken {
                Ok((delivery, report)) => {
                    return Ok(Box::new(MemoryDelivery { outbox: self.clone(), delivery, report }));
                }
                Err(Some(next)) => {
                    tokio::select! { () = changed => {}, () = tokio::time::sleep_until(next) => {} }
                }
                Err(None) => changed.await,
            }
        }
    }

    /// The number of reports that are due or being delivered.
    pub fn due(&self) -> u64 {
        self.state().due.len() as u64
    }

    /// When the last run ended of the oldest report that is due.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.state().due.iter().filter_map(|due| due.report.ended()).min()
    }

    /// The number of undelivered reports.
    pub fn undelivered(&self) -> u64 {
        self.state().undelivered.len() as u64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first report that is due, now under a lease; or else the time of the next change.
    fn take(
        &mut self,
        now: Instant,
        lease: Duration,
    ) -> std::result::Result<(RunId, DueReport), Option<Instant>> {
        if let Some(report) = self.due.iter_mut().find(|report| report.due <= now) {
            let delivery = RunId::generate();
            (report.due, report.delivery) = (now + lease, Some(delivery.clone()));
            return Ok((delivery, report.clone()));
        }
        Err(self.due.iter().map(|report| report.due).min())
    }
}

#[async_trait]
impl UndeliveredReports for MemoryOutbox {
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>> {
        Ok(self.state().undelivered.iter().take(limit).cloned().collect())
    }

    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let mut state = self.state();
        let at = state.undelivered.iter().position(|undelivered| undelivered.report.id == *id);
        let Some(at) = at else { return Ok(false) };
        let UndeliveredReport { report, delivered, .. } = state.undelivered.remove(at);
        state.due.push_back(DueReport::new(report, delivered));
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(true)
    }

    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let mut state = self.state();
        let before = state.undelivered.len();
        state.undelivered.retain(|undelivered| undelivered.report.id != *id);
        Ok(state.undelivered.len() < before)
    }
}

struct MemoryDelivery {
    outbox: MemoryOutbox,
    delivery: RunId,
    report: DueReport,
}

impl MemoryDelivery {
    /// Ends the lease, if no other delivery has begun.
    fn end(&self, operation: &'static str, then: impl FnOnce(&mut State, DueReport)) -> Result<()> {
        let mut state = self.outbox.state();
        let now = Instant::now();
        let held = |report: &DueReport| report.delivery.as_ref() == Some(&self.delivery) && report.due > now;
        let Some(report) = state.due.iter().position(held).and_then(|at| state.due.remove(at)) else {
            let error =
                Error::permanent(ErrorKind::LeaseLost, "another delivery of the report may have begun");
            return Err(error.during(operation).with("buildset", &self.report.report.id));
        };
        then(&mut state, report);
        drop(state);
        self.outbox.shared.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn report(&self) -> &BuildsetReport {
        &self.report.report
    }

    fn failed_attempts(&self) -> u32 {
        self.report.failed_attempts
    }

    fn delivered(&self) -> &BTreeSet<String> {
        &self.report.delivered
    }

    fn lease(&self) -> Duration {
        self.outbox.lease
    }

    async fn done(self: Box<Self>) -> Result<()> {
        self.end("delivery::done", |_, _| {})
    }

    async fn retry(self: Box<Self>, after: Duration, delivered: &BTreeSet<String>) -> Result<()> {
        self.end("delivery::retry", |state, report| {
            let failed_attempts = report.failed_attempts.saturating_add(1);
            let (due, delivered) = (due_after(after), delivered.clone());
            state.due.push_back(DueReport { due, delivery: None, failed_attempts, delivered, ..report });
        })
    }

    async fn give_up(self: Box<Self>, why: &str, delivered: &BTreeSet<String>) -> Result<()> {
        self.end("delivery::give_up", |state, report| {
            let undelivered = UndeliveredReport::new(report.report, why)
                .with_at(Timestamp::now())
                .with_delivered(delivered.clone());
            state.undelivered.push(undelivered);
        })
    }
}
