//! A claim: a lease on a job, held by entries in the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::text::cut;
use pushbutton_core::{Claim, Error, ErrorKind, Job, JobId, Result, RunId, RunResult};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::commit::commit;
use crate::log::{HeldLease, Op, Outcome};
use crate::queue::Tasks;
use crate::supervise::Shared;

/// How many bytes of a reason are kept.
const MAX_REASON: usize = 2_000;

/// Cuts a reason that is too long.
pub(crate) fn shortened(why: &str) -> String {
    let short = cut(why, MAX_REASON);
    if short.len() < why.len() { format!("{short}...") } else { short.to_owned() }
}

/// A delay as entries have it: the date at its end, and its milliseconds. One beyond the calendar is ten years.
pub(crate) fn retry_time(after: Duration) -> (Timestamp, u64) {
    let after = after.min(Duration::from_secs(315_360_000));
    let after_ms = u64::try_from(after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    (Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX), after_ms)
}

/// A claim on its way to the caller. Dropped on the way, the job is handed back.
#[derive(Debug)]
pub(crate) struct GrantedClaim {
    pub(crate) job: Job,
    pub(crate) run: RunId,
    pub(crate) lease: HeldLease,
    /// Where the claim goes when no caller takes it.
    pub(crate) unused: Option<mpsc::UnboundedSender<UnusedClaim>>,
}

/// A claim that no caller took.
#[derive(Debug)]
pub(crate) struct UnusedClaim {
    pub(crate) job: JobId,
    pub(crate) run: RunId,
}

impl GrantedClaim {
    /// The caller has it: from now on the job returns only when the lease ends.
    pub(crate) fn arrived(mut self, tasks: Arc<Tasks>) -> AmqpClaim {
        self.unused = None;
        let (job, run, lease) = (self.job.clone(), self.run.clone(), Mutex::new(self.lease));
        AmqpClaim { tasks, job, run, lease }
    }
}

impl Drop for GrantedClaim {
    fn drop(&mut self) {
        if let Some(unused) = self.unused.take() {
            // If the claimer has ended, the lease runs out.
            let _ = unused.send(UnusedClaim { job: self.job.id.clone(), run: self.run.clone() });
        }
    }
}

/// A held claim.
#[derive(Debug)]
pub(crate) struct AmqpClaim {
    tasks: Arc<Tasks>,
    job: Job,
    run: RunId,
    lease: Mutex<HeldLease>,
}

impl AmqpClaim {
    fn shared(&self) -> &Arc<Shared> {
        self.tasks.shared()
    }

    fn held_lease(&self) -> MutexGuard<'_, HeldLease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job and the run, by which every entry about the claim names it.
    fn ids(&self) -> (JobId, RunId) {
        (self.job.id.clone(), self.run.clone())
    }

    fn lost(&self) -> Error {
        Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job").with("job", &self.job.id)
    }

    async fn commit(&self, op: Op, until: Instant) -> Result<()> {
        match commit(self.shared(), op, until).await? {
            Outcome::Accepted => Ok(()),
            _ => Err(self.lost()),
        }
    }

    /// Ends the claim. The caller cannot try again, so this does, as long as the lease lasts.
    async fn settle(&self, operation: &'static str, op: Op) -> Result<()> {
        let until = self.held_lease().end().max(self.shared().deadline());
        self.commit(op, until).await.map_err(|error| {
            if error.is_temporary() { self.lost().because(error) } else { error }.during(operation)
        })
    }
}

#[async_trait]
impl Claim for AmqpClaim {
    fn job(&self) -> &Job {
        &self.job
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn lease(&self) -> Duration {
        self.shared().config.lease_term().held()
    }

    fn expires_in(&self) -> Duration {
        self.held_lease().end().saturating_duration_since(Instant::now())
    }

    async fn renew(&self) -> Result<()> {
        let (start, lease) = (Instant::now(), *self.held_lease());
        // Whether a late renewal is accepted is decided by the log: it is, unless another claim has got the job.
        let deadline = start + self.shared().config.timeout.0;
        let until = if lease.has_ended(start) { deadline } else { lease.end().min(deadline) };
        let (job, run) = self.ids();
        match self.commit(Op::Renew { job, run }, until).await {
            Ok(()) => {
                self.held_lease().renewed(start);
                Ok(())
            }
            Err(error) if error.is_temporary() && lease.has_ended(Instant::now()) => {
                Err(self.lost().because(error).during("claim::renew"))
            }
            Err(error) => Err(error.during("claim::renew")),
        }
    }

    async fn complete(&self, result: &RunResult) -> Result<()> {
        let ((job, run), result) = (self.ids(), Box::new(result.clone().bounded()));
        let op = Op::Complete { job, run, result };
        self.commit(op, self.shared().deadline()).await.map_err(|error| error.during("claim::complete"))
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        tracing::debug!(job = %self.job.id, ?after, "will be retried: {why}");
        let ((due, after_ms), (job, run)) = (retry_time(after), self.ids());
        self.settle("claim::retry", Op::Retry { job, run, due, after_ms }).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        let (job, run) = self.ids();
        self.settle("claim::hand_back", Op::HandBack { job, run }).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        let ((job, run), why, at) = (self.ids(), shortened(why), Timestamp::now());
        self.settle("claim::reject", Op::Reject { job, run, why, at }).await
    }
}
