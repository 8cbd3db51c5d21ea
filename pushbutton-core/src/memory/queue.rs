use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::ident::{JobId, RunId};
use crate::job::Job;
use crate::seam::{Claim, DeadLetter, Notice, Notices, Queue, QueueDepth};

/// How many completed jobs are remembered, so that they are not run again.
const REMEMBERED: usize = 10_000;

/// A queue in memory, with leases on tokio's clock.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    lease: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Woken when a job or a notice comes, or when a waiting time changes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Instant, Job)>,
    leased: HashMap<JobId, Lease>,
    dead: Vec<DeadLetter>,
    notices: Vec<Notice>,
    completed: HashSet<JobId>,
    completed_order: VecDeque<JobId>,
}

#[derive(Debug)]
struct Lease {
    run: RunId,
    end: Instant,
    job: Job,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::with_lease(Duration::from_secs(60))
    }
}

impl MemoryQueue {
    /// A queue whose leases last so long.
    pub fn with_lease(lease: Duration) -> Self {
        Self { lease, shared: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn knows(&self, id: &JobId) -> bool {
        self.completed.contains(id)
            || self.leased.contains_key(id)
            || self.waiting.iter().any(|(_, job)| job.id == *id)
            || self.dead.iter().any(|letter| letter.job.as_ref().is_some_and(|job| job.id == *id))
    }

    /// Remembers a job that is not to be run again.
    fn remember(&mut self, job: JobId) {
        self.completed.insert(job.clone());
        self.completed_order.push_back(job);
        if self.completed_order.len() > REMEMBERED {
            if let Some(oldest) = self.completed_order.pop_front() {
                self.completed.remove(&oldest);
            }
        }
    }

    /// Gives back what its holder no longer renews.
    fn reap(&mut self, now: Instant) {
        let lost: Vec<_> =
            self.leased.iter().filter(|(_, lease)| lease.end <= now).map(|(id, _)| id.clone()).collect();
        for id in lost {
            if let Some(lease) = self.leased.remove(&id) {
                self.waiting.push_front((now, lease.job));
            }
        }
    }

    /// The first job that is due, or when the next thing will happen.
    fn take(&mut self, now: Instant, lease: Duration) -> std::result::Result<(RunId, Job), Option<Instant>> {
        self.reap(now);
        if let Some(at) = self.waiting.iter().position(|(due, _)| *due <= now) {
            if let Some((_, job)) = self.waiting.remove(at) {
                let run = RunId::generate();
                let lease = Lease { run: run.clone(), end: now + lease, job: job.clone() };
                self.leased.insert(job.id.clone(), lease);
                return Ok((run, job));
            }
        }
        let due = self.waiting.iter().map(|(due, _)| *due);
        Err(due.chain(self.leased.values().map(|lease| lease.end)).min())
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let mut state = self.state();
        if !state.knows(&job.id) {
            state.waiting.push_back((Instant::now(), job.clone()));
            self.shared.changed.notify_waiters();
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Box<dyn Claim>> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Listen before looking, so that nothing falls between the two.
            changed.as_mut().enable();
            let taken = self.state().take(Instant::now(), self.lease);
            match taken {
                Ok((run, job)) => return Ok(Box::new(MemoryClaim { queue: self.clone(), run, job })),
                Err(Some(next)) => {
                    tokio::select! { () = changed => {}, () = tokio::time::sleep_until(next) => {} }
                }
                Err(None) => changed.await,
            }
        }
    }

    async fn announce(&self, notice: &Notice) -> Result<()> {
        self.state().notices.push(notice.clone());
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        Ok(Box::new(MemoryNotices { queue: self.clone(), next: 0 }))
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let mut state = self.state();
        state.reap(Instant::now());
        let count = |n: usize| n as u64;
        let (waiting, leased, dead) = (state.waiting.len(), state.leased.len(), state.dead.len());
        Ok(QueueDepth { waiting: count(waiting), leased: count(leased), dead: count(dead) })
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.state().dead.iter().take(limit).cloned().collect())
    }

    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool> {
        let mut state = self.state();
        let Some(at) = state.dead.iter().position(|dead| dead.id == letter) else { return Ok(false) };
        if let Some(job) = state.dead.remove(at).job {
            state.waiting.push_back((Instant::now(), Job { failed_attempts: 0, ..job }));
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(true)
    }

    async fn drop_dead_letter(&self, letter: &str) -> Result<bool> {
        let mut state = self.state();
        let Some(at) = state.dead.iter().position(|dead| dead.id == letter) else { return Ok(false) };
        if let Some(job) = state.dead.remove(at).job {
            state.remember(job.id);
        }
        Ok(true)
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let mut state = self.state();
        state.reap(Instant::now());
        Ok(state.leased.values().map(|lease| lease.run.clone()).collect())
    }
}

struct MemoryClaim {
    queue: MemoryQueue,
    run: RunId,
    job: Job,
}

impl MemoryClaim {
    /// Ends the lease, if it is still ours.
    fn end(&self, operation: &'static str, then: impl FnOnce(&mut State, Job)) -> Result<()> {
        let mut state = self.queue.state();
        state.reap(Instant::now());
        match state.leased.get(&self.job.id) {
            Some(lease) if lease.run == self.run => {}
            _ => return Err(lost(&self.job).during(operation)),
        }
        if let Some(lease) = state.leased.remove(&self.job.id) {
            then(&mut state, lease.job);
        }
        drop(state);
        self.queue.shared.changed.notify_waiters();
        Ok(())
    }
}

fn lost(job: &Job) -> Error {
    Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job").with("job", &job.id)
}

#[async_trait]
impl Claim for MemoryClaim {
    fn job(&self) -> &Job {
        &self.job
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn lease(&self) -> Duration {
        self.queue.lease
    }

    async fn renew(&self) -> Result<()> {
        let mut state = self.queue.state();
        let now = Instant::now();
        state.reap(now);
        match state.leased.get_mut(&self.job.id) {
            Some(lease) if lease.run == self.run => {
                lease.end = now + self.queue.lease;
                Ok(())
            }
            _ => Err(lost(&self.job).during("claim::renew")),
        }
    }

    async fn complete(self: Box<Self>) -> Result<()> {
        self.end("claim::complete", |state, job| state.remember(job.id))
    }

    async fn retry(self: Box<Self>, after: Duration, _why: &str) -> Result<()> {
        self.end("claim::retry", |state, mut job| {
            job.failed_attempts = job.failed_attempts.saturating_add(1);
            // A delay beyond what the clock can tell is a year: long enough for any queue in memory.
            let now = Instant::now();
            let due = now.checked_add(after).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
            state.waiting.push_back((due, job));
        })
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.end("claim::hand_back", |state, job| state.waiting.push_front((Instant::now(), job)))
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.end("claim::reject", |state, job| {
            let (id, at) = (job.id.to_string(), Some(Timestamp::now()));
            state.dead.push(DeadLetter { id, job: Some(job), why: why.to_owned(), at });
        })
    }
}

struct MemoryNotices {
    queue: MemoryQueue,
    next: usize,
}

#[async_trait]
impl Notices for MemoryNotices {
    async fn next(&mut self) -> Result<Notice> {
        loop {
            let shared = Arc::clone(&self.queue.shared);
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let notice = self.queue.state().notices.get(self.next).cloned();
            if let Some(notice) = notice {
                self.next += 1;
                return Ok(notice);
            }
            changed.await;
        }
    }
}
