//! A lease on a job, and its endings.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Claim, Error, ErrorKind, Job, Result, RunId};
use rusqlite::{Connection, ToSql};

use crate::error::Fault;
use crate::queue::{StoreQueue, cut};
use crate::store::now;
use crate::upkeep::millis;

/// What tells one holder from the next.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The run that the claim is for.
    pub(crate) run: RunId,
    /// Which claim of the job this is.
    pub(crate) epoch: i64,
    /// When it ends unless renewed, in milliseconds since 1970.
    pub(crate) ends: i64,
}

/// A lease on a row of the queue.
pub(crate) struct StoreClaim {
    job: Job,
    run: RunId,
    epoch: i64,
    ends: AtomicI64,
    queue: StoreQueue,
    heard: bool,
}

impl StoreClaim {
    /// A claim for a caller who may have gone: unless it is [`heard`](Self::heard), its job is given back.
    pub(crate) fn new(queue: StoreQueue, job: Job, lease: Lease) -> Self {
        let Lease { run, epoch, ends } = lease;
        Self { job, run, epoch, ends: AtomicI64::new(ends), queue, heard: false }
    }

    /// The caller has it: from now on its lease runs out when it is dropped, as the contract says.
    pub(crate) fn heard(mut self) -> Self {
        self.heard = true;
        self
    }
}

impl Drop for StoreClaim {
    fn drop(&mut self) {
        if self.heard {
            return;
        }
        let (id, epoch, store) = (self.job.id.to_string(), self.epoch, self.queue.store.clone());
        self.queue.store.post(move |connection| match end(connection, HAND_BACK, &id, epoch, &[]) {
            Ok(_) => store.announce_change(),
            Err(fault) => {
                tracing::warn!(
                    job = id,
                    "an unwanted job comes back after its lease: {}",
                    Error::from(fault)
                );
            }
        });
    }
}

// Each ends the lease only while it is ours: the same epoch, and not yet run out.
const RENEW: &str = "UPDATE jobs SET due_at = ?4";
const COMPLETE: &str = "UPDATE jobs SET state = 'done', due_at = NULL, run = NULL, job = NULL, ended_at = ?3";
const HAND_BACK: &str = "UPDATE jobs SET state = 'ready', due_at = NULL, run = NULL";
const REJECT: &str = "UPDATE jobs SET state = 'dead', due_at = NULL, run = NULL, ended_at = ?3, why = ?4";
const RETRY: &str = "UPDATE jobs SET state = 'delayed', run = NULL, due_at = ?3 + ?4, why = ?5,
     failed_attempts = failed_attempts + 1, place = (SELECT max(place) + 1 FROM jobs)";
const WHILE_OURS: &str = " WHERE id = ?1 AND epoch = ?2 AND state = 'leased' AND due_at > ?3";

/// Does one of the above; false when the lease is no longer ours.
fn end(
    connection: &mut Connection,
    change: &str,
    id: &str,
    epoch: i64,
    more: &[&dyn ToSql],
) -> Result<bool, Fault> {
    let now = now();
    let mut write = connection.prepare_cached(&format!("{change}{WHILE_OURS}"))?;
    let ours: [&dyn ToSql; 3] = [&id, &epoch, &now];
    let all: Vec<_> = ours.into_iter().chain(more.iter().copied()).collect();
    Ok(write.execute(all.as_slice())? == 1)
}

/// An argument of a statement, beside the lease.
#[derive(Clone)]
enum Argument {
    Number(i64),
    Text(String),
}

impl ToSql for Argument {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

impl StoreClaim {
    async fn change(&self, operation: &'static str, change: &'static str, more: &[Argument]) -> Result<()> {
        let (id, epoch, more) = (self.job.id.to_string(), self.epoch, more.to_vec());
        let work = move |connection: &mut Connection| {
            let more: Vec<&dyn ToSql> = more.iter().map(|argument| argument as _).collect();
            end(connection, change, &id, epoch, &more)
        };
        if self.queue.store.call(operation, work).await.map_err(|error| error.with("job", &self.job.id))? {
            return Ok(());
        }
        Err(Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job")
            .during(operation)
            .with("job", &self.job.id))
    }

    /// Ends the lease. The caller gives the claim away and cannot try again, so this does, as long as the lease lasts.
    async fn finish(&self, operation: &'static str, change: &'static str, more: &[Argument]) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let error = match self.change(operation, change, more).await {
                Ok(()) => {
                    self.queue.store.announce_change();
                    return Ok(());
                }
                Err(error) => error,
            };
            let delay = backoff.next_delay();
            if !error.is_temporary()
                || now().saturating_add(millis(delay)) >= self.ends.load(Ordering::Relaxed)
            {
                return Err(error.retried_out());
            }
            tracing::warn!(?delay, "will try again: {error}");
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
        self.queue.lease
    }

    async fn renew(&self) -> Result<()> {
        // From the call's start, not from when the thread comes to it: the holder counts from there.
        let ends = now().saturating_add(millis(self.queue.lease));
        self.change("claim::renew", RENEW, &[Argument::Number(ends)]).await?;
        self.ends.store(ends, Ordering::Relaxed);
        Ok(())
    }

    async fn complete(self: Box<Self>) -> Result<()> {
        self.finish("claim::complete", COMPLETE, &[]).await
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        let arguments = [Argument::Number(millis(after)), Argument::Text(cut(why))];
        self.finish("claim::retry", RETRY, &arguments).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.finish("claim::hand_back", HAND_BACK, &[]).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.finish("claim::reject", REJECT, &[Argument::Text(cut(why))]).await
    }
}
