use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::outbox::MemoryOutbox;
use crate::buildset::JobEnd;
use crate::control::ControlMessage;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, JobFilter};
use crate::names::{BuildsetId, InstallationId, JobId, RunId};
use crate::operators::WaitingJobs;
use crate::report::RunResult;
use crate::traits::{
    Claim, ControlMessages, DeadLetter, DeadLetters, Delivery, Queue, QueueDepth, UndeliveredReport,
    UndeliveredReports,
};

/// How many completed jobs are remembered, so that they are not run again.
const REMEMBERED: usize = 10_000;

/// How many leases on a job may run out before it becomes a dead letter.
const MAX_LOST_LEASES: u32 = 5;

/// How long control messages are kept for later subscribers.
const MESSAGE_AGE: Duration = Duration::from_secs(24 * 3600);

/// How old a dead letter must be so that a job of the same id is a new one.
const DEAD_LETTER_AGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// A queue in memory, with leases on tokio's clock.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    lease: Duration,
    max_lost_leases: u32,
    shared: Arc<Shared>,
    outbox: MemoryOutbox,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a job or a control message comes, or when a waiting time changes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    leased: HashMap<JobId, Lease>,
    dead: Vec<DeadLetter>,
    /// Control messages of the last day, with the time they were sent at.
    messages: VecDeque<(Instant, ControlMessage)>,
    /// The number of messages that were dropped from the front.
    dropped_messages: usize,
    /// Jobs that must not run again, with the run that completed them.
    completed: HashMap<JobId, Option<RunId>>,
    completed_order: VecDeque<JobId>,
    installation: Option<InstallationId>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    job: Job,
    /// How many leases on it ran out since its last failed attempt.
    lost_leases: u32,
}

impl Waiting {
    fn new(due: Instant, job: Job) -> Self {
        Self { due, job, lost_leases: 0 }
    }
}

#[derive(Debug)]
struct Lease {
    run: RunId,
    end: Instant,
    job: Job,
    lost_leases: u32,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::with_lease(Duration::from_secs(60))
    }
}

impl MemoryQueue {
    /// A queue with leases of this length.
    pub fn with_lease(lease: Duration) -> Self {
        Self {
            lease,
            max_lost_leases: MAX_LOST_LEASES,
            shared: Arc::default(),
            outbox: MemoryOutbox::with_lease(lease),
        }
    }

    /// Sets how many leases on a job may run out before it becomes a dead letter. Default: 5.
    #[must_use]
    pub fn with_max_lost_leases(mut self, count: u32) -> Self {
        self.max_lost_leases = count;
        self
    }

    /// The control message of this number, or the oldest one that is kept; and the number of the one after it. Waits
    /// if there is none.
    async fn message(&self, number: usize) -> (ControlMessage, usize) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state();
                let number = number.max(state.dropped_messages);
                if let Some((_, message)) = state.messages.get(number - state.dropped_messages) {
                    return (message.clone(), number + 1);
                }
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn knows(&self, id: &JobId) -> bool {
        self.completed.contains_key(id)
            || self.leased.contains_key(id)
            || self.waiting.iter().any(|waiting| waiting.job.id == *id)
            || self.dead.iter().any(|letter| letter.job.as_ref().is_some_and(|job| job.id == *id))
    }

    /// Remembers a job that must not run again.
    fn remember(&mut self, job: JobId, run: Option<RunId>) {
        self.completed.insert(job.clone(), run);
        self.completed_order.push_back(job);
        if self.completed_order.len() > REMEMBERED {
            if let Some(oldest) = self.completed_order.pop_front() {
                self.completed.remove(&oldest);
            }
        }
    }

    /// The buildset whose waiting job absorbs this one.
    fn absorber(&self, job: &Job) -> Option<BuildsetId> {
        let equal = self.waiting.iter().find(|waiting| waiting.job.absorbs(job));
        equal.map(|waiting| waiting.job.buildset.id.clone())
    }

    /// Removes the dead letter of a job whose event is older than that of this job, though its identity is the same.
    fn forget_old_letter(&mut self, job: &Job) {
        let is_old =
            |at: Option<Timestamp>| at.is_some_and(|at| job.created.duration_since(at) > DEAD_LETTER_AGE);
        self.dead.retain(|letter| letter.id != job.id.as_str() || !is_old(letter.at));
    }

    /// Takes jobs back whose leases have run out. Only a claim does so: until then the holder may renew its lease.
    fn expire_leases(&mut self, now: Instant, queue: &MemoryQueue) {
        let lost: Vec<_> =
            self.leased.iter().filter(|(_, lease)| lease.end <= now).map(|(id, _)| id.clone()).collect();
        for id in lost {
            let Some(Lease { job, lost_leases, .. }) = self.leased.remove(&id) else { continue };
            let lost_leases = lost_leases.saturating_add(1);
            if lost_leases >= queue.max_lost_leases {
                let why = DeadLetter::lost_leases_reason(lost_leases);
                tracing::warn!(job = %job.id, "the job becomes a dead letter: {why}");
                queue.outbox.end(&job, JobEnd::Dead { why: why.clone() });
                self.dead.push(DeadLetter::of_job(job, why).with_at(Timestamp::now()));
            } else {
                self.waiting.push_front(Waiting { due: now, job, lost_leases });
            }
        }
    }

    /// The first matching job that is due, or else the time of the next change.
    fn take(
        &mut self,
        now: Instant,
        queue: &MemoryQueue,
        filter: &JobFilter,
    ) -> std::result::Result<(RunId, Job), Option<Instant>> {
        self.expire_leases(now, queue);
        let due = |waiting: &Waiting| waiting.due <= now && filter.matches(&waiting.job);
        if let Some(at) = self.waiting.iter().position(due) {
            if let Some(Waiting { job, lost_leases, .. }) = self.waiting.remove(at) {
                let run = RunId::generate();
                let lease = Lease { run: run.clone(), end: now + queue.lease, job: job.clone(), lost_leases };
                self.leased.insert(job.id.clone(), lease);
                return Ok((run, job));
            }
        }
        let due =
            self.waiting.iter().filter(|waiting| filter.matches(&waiting.job)).map(|waiting| waiting.due);
        Err(due.chain(self.leased.values().map(|lease| lease.end)).min())
    }

    /// The leases that have not run out.
    fn leases(&self, now: Instant) -> impl Iterator<Item = &Lease> {
        self.leased.values().filter(move |lease| lease.end > now)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let mut state = self.state();
        state.forget_old_letter(job);
        if state.knows(&job.id) {
            return Ok(());
        }
        match state.absorber(job) {
            Some(by) => {
                self.outbox.end(job, JobEnd::Absorbed { by });
                state.remember(job.id.clone(), None);
            }
            None => {
                state.waiting.push_back(Waiting::new(Instant::now(), job.clone()));
                self.shared.changed.notify_waiters();
            }
        }
        Ok(())
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Subscribe before looking, so that no change between the two is missed.
            changed.as_mut().enable();
            let taken = self.state().take(Instant::now(), self, filter);
            match taken {
                Ok((run, job)) => return Ok(Box::new(MemoryClaim { queue: self.clone(), run, job })),
                Err(Some(next)) => {
                    tokio::select! { () = changed => {}, () = tokio::time::sleep_until(next) => {} }
                }
                Err(None) => changed.await,
            }
        }
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        let (mut state, now) = (self.state(), Instant::now());
        while state.messages.front().is_some_and(|(sent, _)| now.duration_since(*sent) > MESSAGE_AGE) {
            state.messages.pop_front();
            state.dropped_messages += 1;
        }
        state.messages.push_back((now, message.clone()));
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        let next = |(queue, next): (Self, usize)| async move {
            let (message, next) = queue.message(next).await;
            Some((Ok(message), (queue, next)))
        };
        let stream: Pin<Box<_>> = Box::pin(futures_util::stream::unfold((self.clone(), 0), next));
        Ok(stream)
    }

    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        self.outbox.claim().await
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let state = self.state();
        let count = |n: usize| n as u64;
        let leased = state.leases(Instant::now()).count();
        // A job whose lease has run out is waiting.
        let waiting = state.waiting.len() + state.leased.len() - leased;
        Ok(QueueDepth::new(count(waiting), count(leased), count(state.dead.len()))
            .with_reports(self.outbox.due())
            .with_undelivered(self.outbox.undelivered()))
    }

    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        let (state, now) = (self.state(), Instant::now());
        // A job whose lease has run out is waiting.
        let lost = state.leased.values().filter(|lease| lease.end <= now).map(|lease| &lease.job);
        let jobs = state.waiting.iter().map(|waiting| &waiting.job).chain(lost);
        Ok(WaitingJobs::count(jobs.map(|job| (&job.name, job.label.as_ref(), job.created))))
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        Ok(self.state().leases(Instant::now()).map(|lease| lease.run.clone()).collect())
    }

    async fn installation(&self) -> Result<InstallationId> {
        Ok(self.state().installation.get_or_insert_with(InstallationId::generate).clone())
    }
}

#[async_trait]
impl DeadLetters for MemoryQueue {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.state().dead.iter().take(limit).cloned().collect())
    }

    async fn requeue(&self, letter: &str) -> Result<bool> {
        let mut state = self.state();
        let Some(at) = state.dead.iter().position(|dead| dead.id == letter) else { return Ok(false) };
        if let Some(mut job) = state.dead.remove(at).job {
            self.outbox.reopen(&mut job);
            state.waiting.push_back(Waiting::new(Instant::now(), Job { failed_attempts: 0, ..job }));
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(true)
    }

    async fn remove(&self, letter: &str) -> Result<bool> {
        let mut state = self.state();
        let Some(at) = state.dead.iter().position(|dead| dead.id == letter) else { return Ok(false) };
        if let Some(job) = state.dead.remove(at).job {
            state.remember(job.id, None);
        }
        Ok(true)
    }
}

#[async_trait]
impl UndeliveredReports for MemoryQueue {
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>> {
        self.outbox.list_undelivered(limit).await
    }

    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        self.outbox.retry_undelivered(id).await
    }

    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        self.outbox.drop_undelivered(id).await
    }
}

/// So long from now. A delay that the clock cannot represent is a year: long enough for any queue in memory.
pub(super) fn due_after(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

struct MemoryClaim {
    queue: MemoryQueue,
    run: RunId,
    job: Job,
}

impl MemoryClaim {
    /// Ends the lease, if no other claim has got the job.
    fn end(&self, operation: &'static str, then: impl FnOnce(&mut State, Lease)) -> Result<()> {
        let mut state = self.queue.state();
        match state.leased.get(&self.job.id) {
            Some(lease) if lease.run == self.run => {}
            _ => return Err(lost(&self.job).during(operation)),
        }
        if let Some(lease) = state.leased.remove(&self.job.id) {
            then(&mut state, lease);
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

    fn expires_in(&self) -> Duration {
        match self.queue.state().leased.get(&self.job.id) {
            Some(lease) if lease.run == self.run => lease.end.saturating_duration_since(Instant::now()),
            _ => Duration::ZERO,
        }
    }

    async fn renew(&self) -> Result<()> {
        let mut state = self.queue.state();
        let now = Instant::now();
        match state.leased.get_mut(&self.job.id) {
            Some(lease) if lease.run == self.run => {
                lease.end = now + self.queue.lease;
                Ok(())
            }
            _ => Err(lost(&self.job).during("claim::renew")),
        }
    }

    async fn complete(&self, result: &RunResult) -> Result<()> {
        if self.queue.state().completed.get(&self.job.id).is_some_and(|run| run.as_ref() == Some(&self.run)) {
            return Ok(());
        }
        let end = JobEnd::Finished { result: Box::new(result.clone()) };
        self.end("claim::complete", |state, lease| {
            self.queue.outbox.end(&lease.job, end);
            state.remember(lease.job.id, Some(self.run.clone()));
        })
    }

    async fn retry(self: Box<Self>, after: Duration, _why: &str) -> Result<()> {
        self.end("claim::retry", |state, Lease { mut job, .. }| {
            job.failed_attempts = job.failed_attempts.saturating_add(1);
            state.waiting.push_back(Waiting::new(due_after(after), job));
        })
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.end("claim::hand_back", |state, Lease { job, lost_leases, .. }| {
            state.waiting.push_front(Waiting { due: Instant::now(), job, lost_leases });
        })
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.end("claim::reject", |state, lease| {
            self.queue.outbox.end(&lease.job, JobEnd::Dead { why: why.to_owned() });
            state.dead.push(DeadLetter::of_job(lease.job, why).with_at(Timestamp::now()));
        })
    }
}
