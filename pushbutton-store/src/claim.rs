//! A claim: a lease on a row of the queue, and the ways to end it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Claim, Error, ErrorKind, Job, Result, RunId};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Store;
use crate::column::{millis, now};
use crate::error::StoreError;
use crate::queue::shorten;

/// What the row says about its holder.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The run that the claim is for.
    pub(crate) run: RunId,
    /// The fencing token: which claim of the job this is.
    pub(crate) epoch: i64,
    /// When the lease ends unless renewed, in milliseconds since 1970.
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

// Each applies only while the lease is held: the same epoch, and not yet ended.
const WHILE_HELD: &str = " WHERE id = ?1 AND epoch = ?2 AND state = 'leased' AND due_at > ?3";
const RENEW: &str = "UPDATE jobs SET due_at = ?4";
const COMPLETE: &str = "UPDATE jobs SET state = 'done', due_at = NULL, run = NULL, job = NULL, ended_at = ?3";
const HAND_BACK: &str = "UPDATE jobs SET state = 'ready', due_at = NULL, run = NULL";
const REJECT: &str = "UPDATE jobs SET state = 'dead', due_at = NULL, run = NULL, ended_at = ?3, why = ?4";
const RETRY: &str = "UPDATE jobs SET state = 'delayed', run = NULL, due_at = ?3 + ?4, why = ?5,
     failed_attempts = failed_attempts + 1, seq = (SELECT max(seq) + 1 FROM jobs)";

/// Does one of the above, with its further arguments; false when the lease is no longer held.
fn end(
    connection: &Connection,
    change: &str,
    id: &str,
    epoch: i64,
    further: Vec<Value>,
) -> Result<bool, StoreError> {
    let arguments = [id.to_owned().into(), epoch.into(), now().into()].into_iter().chain(further);
    let mut statement = connection.prepare_cached(&format!("{change}{WHILE_HELD}"))?;
    Ok(statement.execute(params_from_iter(arguments))? == 1)
}

impl StoreClaim {
    async fn change(&self, operation: &'static str, change: &'static str, further: Vec<Value>) -> Result<()> {
        let (id, epoch) = (self.job.id.clone(), self.epoch);
        let write = move |connection: &mut Connection| end(connection, change, id.as_str(), epoch, further);
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
    async fn finish(&self, operation: &'static str, change: &'static str, further: Vec<Value>) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let Err(error) = self.change(operation, change, further.clone()).await else {
                self.store.notify_changed();
                return Ok(());
            };
            let delay = backoff.next_delay();
            let ends = self.ends.load(Ordering::Relaxed);
            if !error.is_temporary() || now().saturating_add(millis(delay)) >= ends {
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

    async fn renew(&self) -> Result<()> {
        // From the start of this call, as the holder counts, not from when the worker thread runs it.
        let ends = now().saturating_add(millis(self.lease()));
        self.change("claim::renew", RENEW, vec![ends.into()]).await?;
        self.ends.store(ends, Ordering::Relaxed);
        Ok(())
    }

    async fn complete(self: Box<Self>) -> Result<()> {
        self.finish("claim::complete", COMPLETE, Vec::new()).await
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        self.finish("claim::retry", RETRY, vec![millis(after).into(), shorten(why).into()]).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.finish("claim::hand_back", HAND_BACK, Vec::new()).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.finish("claim::reject", REJECT, vec![shorten(why).into()]).await
    }
}
