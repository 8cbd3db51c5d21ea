use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ident::{ChangeNumber, JobId, JobName, PatchsetNumber, RunId};
use crate::job::Job;

/// Carries jobs from handlers to operators, durably.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts a job on the queue.
    ///
    /// # Contract
    /// - `Ok` means durable: it survives the end of this process and of the broker.
    /// - Jobs are claimed in the order in which they were published, retries and lost leases aside.
    /// - Idempotent: a job that is queued, leased, completed or rejected already (by [`Job::id`]) is not run a second time.
    /// - On an error the job may or may not be on the queue; publishing it again is safe.
    async fn publish(&self, job: &Job) -> Result<()>;

    /// Waits for a job and takes a lease on it.
    ///
    /// # Contract
    /// - Waits without polling where the backend can tell, for ever if need be.
    /// - Of many callers, on many machines, exactly one gets the job.
    /// - The lease lasts [`Claim::lease`] from now; unless renewed, another claim gets the job after it ends.
    /// - Survives reconnects of the backend; a broker restart shorter than the lease disturbs no claim.
    /// - Cancel-safe: a dropped call takes no job, or gives it back.
    async fn claim(&self) -> Result<Box<dyn Claim>>;

    /// Tells every operator something that concerns queued and running jobs.
    ///
    /// # Contract
    /// - `Ok` means durable: operators that start later hear it too, for at least a day.
    async fn announce(&self, notice: &Notice) -> Result<()>;

    /// Listens to notices: those of the last day, then whatever comes.
    ///
    /// # Contract
    /// - Each listener gets every notice, in the order announced.
    async fn notices(&self) -> Result<Box<dyn Notices>>;

    /// Counts what is on the queue.
    async fn depth(&self) -> Result<QueueDepth>;

    /// Lists the dead-letter queue, oldest first, at most `limit`.
    ///
    /// # Contract
    /// - Listing changes nothing.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Puts a dead letter's job back on the queue, with all its attempts before it again; says whether there was such a letter.
    ///
    /// # Contract
    /// - `Ok(true)` means durable: the letter is gone, and the job waits to be claimed.
    /// - `Ok(false)` when no letter has this [`DeadLetter::id`]: another may have taken it.
    /// - A letter whose job could not be read stays, with a permanent [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool>;

    /// Forgets a dead letter; says whether there was one.
    ///
    /// # Contract
    /// - `Ok(true)` means durable. The job is not run, also when it is published again.
    async fn drop_dead_letter(&self, letter: &str) -> Result<bool>;

    /// Lists the runs whose leases have not ended: what a sweep must not touch.
    ///
    /// # Contract
    /// - Complete: it holds every run whose claim was granted, on any machine, before this call began and has not ended since.
    async fn leased_runs(&self) -> Result<Vec<RunId>>;
}

/// A lease on one job. Dropping it without an ending lets the lease run out: the job comes back.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Claim: Send + Sync {
    /// The job, with its count of failed attempts.
    fn job(&self) -> &Job;

    /// The run that this claim is for: made with the claim, and listed by [`Queue::leased_runs`] while the lease lasts.
    fn run(&self) -> &RunId;

    /// How long the lease lasts from the claim or the last renewal.
    fn lease(&self) -> Duration;

    /// Renews the lease.
    ///
    /// # Contract
    /// - After `Ok` the lease lasts [`Claim::lease`] from the call's start.
    /// - [`ErrorKind::LeaseLost`](crate::ErrorKind::LeaseLost), permanent, once another may hold the job: stop the run at once.
    /// - A temporary error leaves the lease as it is: try again before it ends.
    /// - Cancel-safe.
    async fn renew(&self) -> Result<()>;

    /// Ends the job: it will not be run again.
    ///
    /// # Contract
    /// - Idempotent with [`Queue::publish`]: the same job published later is not run again.
    /// - `LeaseLost` when another may hold the job.
    async fn complete(self: Box<Self>) -> Result<()>;

    /// Gives the job back to be tried again, not before `after` has passed.
    ///
    /// # Contract
    /// - Counts as a failed attempt: the next claim's [`Job::failed_attempts`] is one more.
    /// - The delay survives restarts.
    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()>;

    /// Gives the job back at once, as if it had not been claimed: at shutdown.
    ///
    /// # Contract
    /// - Does not count as an attempt.
    async fn hand_back(self: Box<Self>) -> Result<()>;

    /// Puts the job on the dead-letter queue.
    ///
    /// # Contract
    /// - It is kept with the reason, and listed by [`Queue::dead_letters`].
    async fn reject(self: Box<Self>, why: &str) -> Result<()>;
}

/// A stream of notices.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Notices: Send {
    /// Waits for the next notice. Cancel-safe. Reconnects by itself; an error is permanent.
    async fn next(&mut self) -> Result<Notice>;
}

/// Something that concerns queued and running jobs on every operator. Acting on it twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "notice")]
#[non_exhaustive]
pub enum Notice {
    /// A newer patch set came: jobs of older ones of this change are pointless.
    Superseded {
        /// The change.
        change: ChangeNumber,
        /// The newest patch set.
        by: PatchsetNumber,
        /// When it was said.
        at: Timestamp,
    },
    /// The change was merged or abandoned: jobs that were created before this are pointless.
    Closed {
        /// The change.
        change: ChangeNumber,
        /// When it was said.
        at: Timestamp,
    },
    /// A person cancels one job.
    Cancel {
        /// The job.
        job: JobId,
        /// Who asked.
        by: String,
        /// When it was said.
        at: Timestamp,
    },
    /// A person cancels what was asked for until now on a change.
    CancelAll {
        /// The change.
        change: ChangeNumber,
        /// Only of this patch set.
        patchset: Option<PatchsetNumber>,
        /// Only jobs of this name.
        name: Option<JobName>,
        /// Who asked.
        by: String,
        /// When it was said: jobs that were created later are not meant.
        at: Timestamp,
    },
    /// Too many runs in a row went wrong: nobody comments on reviews until a person has looked.
    Muted {
        /// Who found out, as `operator host-3`.
        by: String,
        /// Why.
        why: String,
        /// When it was said.
        at: Timestamp,
    },
    /// A person has looked: comments are welcome again.
    Unmuted {
        /// Who.
        by: String,
        /// When it was said.
        at: Timestamp,
    },
}

impl Notice {
    /// Whether it makes this job pointless.
    pub fn concerns(&self, job: &Job) -> bool {
        match self {
            // A person who asks for an older patch set means it.
            Self::Superseded { change, by, .. } => {
                job.change.number == *change && job.patchset.number < *by && !job.is_by_hand()
            }
            Self::Closed { change, at } => job.change.number == *change && job.created <= *at,
            Self::Cancel { job: id, .. } => job.id == *id,
            Self::CancelAll { change, patchset, name, at, .. } => {
                job.change.number == *change
                    && patchset.is_none_or(|patchset| job.patchset.number == patchset)
                    && name.as_ref().is_none_or(|name| job.name == *name)
                    && job.created <= *at
            }
            Self::Muted { .. } | Self::Unmuted { .. } => false,
        }
    }

    /// When it was said.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Superseded { at, .. }
            | Self::Closed { at, .. }
            | Self::Cancel { at, .. }
            | Self::CancelAll { at, .. }
            | Self::Muted { at, .. }
            | Self::Unmuted { at, .. } => *at,
        }
    }
}

/// Counts of jobs, by where they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Waiting to be claimed, those that wait for a retry included.
    pub waiting: u64,
    /// Claimed.
    pub leased: u64,
    /// On the dead-letter queue.
    pub dead: u64,
}

/// A job that nobody will run, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its name, for [`Queue::requeue_dead_letter`] and [`Queue::drop_dead_letter`]: the job's id where the job could be read.
    pub id: String,
    /// The job; none when it could not be read.
    pub job: Option<Job>,
    /// Why it was rejected.
    pub why: String,
    /// When, where the backend tells.
    pub at: Option<Timestamp>,
}
