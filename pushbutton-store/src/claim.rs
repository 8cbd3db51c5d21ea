//! A claim: a lease on a row of the queue, and the ways to end it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Claim, Error, ErrorKind, Job, JobEnd, Result, RunId, RunResult};
use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior, params, params_from_iter};

use crate::Store;
use crate::clocks::Moment;
use crate::column::millis;
use crate::error::StoreError;
use crate::outbox;
use crate::queue::shorten;

/// What the row says about its holder.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The run that the claim is for.
    pub(crate) run: RunId,
    /// The fencing token: which claim of the job this is.
    pub(crate) epoch: i64,
    /// When the lease ends unless renewed, in milliseconds since the boot of the machine.
    pub(crate) ends: i64,
}

#[derive(Debug)]
pub(crate) struct StoreClaim {
    job: Job,
    run: RunId,
    epoch: i64,
    ends: AtomicI64,
    store: Store,
    delivered: bool,
}

impl StoreClaim {
    /// A claim that has not reached its caller. Until [`deliver`](Self::deliver), dropping it returns the job to the
    /// queue.
    pub(crate) fn new(store: Store, job: Job, lease: Lease) -> Self {
        let Lease { run, epoch, ends } = lease;
        Self { job, run, epoch, ends: AtomicI64::new(ends), store, delivered: false }
    }

    /// The caller has it: from now on dropping it lets the lease run out, as the contract of [`Claim`] says.
    pub(crate) fn deliver(mut self) -> Self {
        self.delivered = true;
        self
    }
}

/// A cancelled `claim` call drops its result on the worker thread, which cannot await; so the job is returned by a
/// call that nobody awaits.
impl Drop for StoreClaim {
    fn drop(&mut self) {
        if self.delivered {
            return;
        }
        let (id, epoch, store) = (self.job.id.clone(), self.epoch, self.store.clone());
        let hand_back = move |connection: &mut Connection| {
            match end(connection, HAND_BACK, id.as_str(), epoch, Vec::new()) {
                Ok(_) => store.notify_changed(),
                Err(error) => tracing::warn!(
                    job = %id,
                    "a job that nobody waited for cannot be returned, its lease will run out: {}",
                    Error::from(error)
                ),
            }
            Ok(())
        };
        // Polled once, the call is with the worker thread, unless too many others wait; then the lease runs out.
        let _ = self.store.call("claim::hand_back", hand_back).now_or_never();
    }
}

// Each applies only while the claim holds the job: no other claim has got it, and no claim has found that the lease had
// ended. The epoch is the fence, not a clock: a holder that is late disturbs nobody.
const WHILE_HELD: &str = " WHERE id = ?1 AND epoch = ?2 AND state = 'leased'";
const RENEW: &str = "UPDATE jobs SET boot = ?3, lease_ends = ?4";
const COMPLETE: &str =
    "UPDATE jobs SET state = 'done', boot = NULL, lease_ends = NULL, run = NULL, job = NULL, ended_at = ?3";
const HAND_BACK: &str = "UPDATE jobs SET state = 'ready', boot = NULL, lease_ends = NULL, run = NULL";
const REJECT: &str =
    "UPDATE jobs SET state = 'dead', boot = NULL, lease_ends = NULL, run = NULL, ended_at = ?3, why = ?4";
const RETRY: &str =
    "UPDATE jobs SET state = 'delayed', boot = NULL, lease_ends = NULL, run = NULL, due_at = ?3, why = ?4,
     failed_attempts = failed_attempts + 1, lost_leases = 0, seq = (SELECT max(seq) + 1 FROM jobs)";

/// Whether the claim has completed the job already: its answer was lost.
const IS_COMPLETED: &str = "SELECT 1 FROM jobs WHERE id = ? AND epoch = ? AND state = 'done'";

/// Ends a job for good, and enters that in its buildset; false when the lease is no longer held.
fn end_job(
    connection: &mut Connection,
    change: &str,
    (job, epoch): (&Job, i64),
    further: Vec<Value>,
    how: JobEnd,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !end(&transaction, change, job.id.as_str(), epoch, further)? {
        return Ok(transaction.prepare_cached(IS_COMPLETED)?.exists(params![job.id.as_str(), epoch])?);
    }
    outbox::end_job(&transaction, job, how)?;
    transaction.commit()?;
    Ok(true)
}

/// Does one of the above, with its further arguments; false when the lease is no longer held.
fn end(
    connection: &Connection,
    change: &str,
    id: &str,
    epoch: i64,
    further: Vec<Value>,
) -> Result<bool, StoreError> {
    let arguments = [id.to_owned().into(), epoch.into()].into_iter().chain(further);
    let mut statement = connection.prepare_cached(&format!("{change}{WHILE_HELD}"))?;
    Ok(statement.execute(params_from_iter(arguments))? == 1)
}

impl StoreClaim {
    /// Changes the row, and with `how` ends the job for good.
    async fn change(
        &self,
        operation: &'static str,
        change: &'static str,
        further: Vec<Value>,
        how: Option<JobEnd>,
    ) -> Result<()> {
        let (job, epoch) = (self.job.clone(), self.epoch);
        let write = move |connection: &mut Connection| match how {
            Some(how) => end_job(connection, change, (&job, epoch), further, how),
            None => end(connection, change, job.id.as_str(), epoch, further),
        };
        match self.store.call(operation, write).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job")
                .during(operation)
                .with("job", &self.job.id)),
            Err(error) => Err(error.with("job", &self.job.id)),
        }
    }

    /// Ends the lease. The caller gives the claim away and cannot retry, so the retries are here, as long as the
    /// lease lasts.
    async fn finish(
        &self,
        operation: &'static str,
        change: &'static str,
        further: Vec<Value>,
        how: Option<JobEnd>,
    ) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let Err(error) = self.change(operation, change, further.clone(), how.clone()).await else {
                self.store.notify_changed();
                return Ok(());
            };
            let delay = backoff.next_delay();
            if !error.is_temporary() || delay >= self.expires_in() {
                return Err(error.retried_out());
            }
            tracing::warn!(?delay, "will retry: {error}");
            tokio::time::sleep(delay).await;
        }
    }
}

#[async_trait]
impl Claim for StoreClaim {
    fn job(&self) -> &Job {
        &self.job
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn lease(&self) -> Duration {
        self.store.lease()
    }

    fn expires_in(&self) -> Duration {
        let left = self.ends.load(Ordering::Relaxed).saturating_sub(self.store.now().uptime);
        Duration::from_millis(u64::try_from(left).unwrap_or_default())
    }

    async fn renew(&self) -> Result<()> {
        // From the start of this call, as the holder counts, not from when the worker thread runs it.
        let Moment { uptime, boot, .. } = self.store.now();
        let ends = uptime.saturating_add(millis(self.lease()));
        self.change("claim::renew", RENEW, vec![boot.to_string().into(), ends.into()], None).await?;
        self.ends.store(ends, Ordering::Relaxed);
        Ok(())
    }

    async fn complete(&self, result: &RunResult) -> Result<()> {
        let how = JobEnd::Finished { result: Box::new(result.clone()) };
        self.change("claim::complete", COMPLETE, vec![self.store.now().date.into()], Some(how)).await?;
        self.store.notify_changed();
        Ok(())
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        let due = self.store.now().date.saturating_add(millis(after));
        self.finish("claim::retry", RETRY, vec![due.into(), shorten(why).into()], None).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.finish("claim::hand_back", HAND_BACK, Vec::new(), None).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        let now = self.store.now().date;
        let how = JobEnd::Dead { why: shorten(why) };
        self.finish("claim::reject", REJECT, vec![now.into(), shorten(why).into()], Some(how)).await
    }
}
