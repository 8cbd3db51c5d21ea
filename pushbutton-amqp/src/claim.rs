//! A claim: a lease that stands in the record.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{Claim, Error, ErrorKind, Job, JobId, Result, RunId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::commit::commit;
use crate::link::Shared;
use crate::record::{Op, Outcome};
use crate::tasks::Tasks;

/// The longest reason that is kept.
const MAX_WHY: usize = 2_000;

/// Cuts a reason that is too long.
pub(crate) fn shortened(why: &str) -> String {
    match why.char_indices().nth(MAX_WHY) {
        Some((at, _)) => format!("{}...", &why[..at]),
        None => why.to_owned(),
    }
}

/// A claim that the record granted, on its way to whoever asked for it: dropped on the way, it is given back.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) job: Job,
    pub(crate) run: RunId,
    /// When the holder must have stopped.
    pub(crate) end: Instant,
    /// Where it goes when nobody takes it.
    pub(crate) returns: Option<mpsc::UnboundedSender<Returned>>,
}

/// A claim that nobody took.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) job: JobId,
    pub(crate) run: RunId,
}

impl Granted {
    /// It arrived: from now on only the lease gives it back.
    pub(crate) fn arrived(mut self, tasks: Arc<Tasks>) -> AmqpClaim {
        self.returns = None;
        let (job, run, end) = (self.job.clone(), self.run.clone(), Mutex::new(self.end));
        AmqpClaim { tasks, job, run, end }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            // Nobody is left to take it at the very end: then the lease runs out.
            let _ = returns.send(Returned { job: self.job.id.clone(), run: self.run.clone() });
        }
    }
}

/// A held claim.
#[derive(Debug)]
pub(crate) struct AmqpClaim {
    tasks: Arc<Tasks>,
    job: Job,
    /// Also the name of the claim in the record.
    run: RunId,
    end: Mutex<Instant>,
}

impl AmqpClaim {
    fn shared(&self) -> &Arc<Shared> {
        self.tasks.shared()
    }

    fn end(&self) -> Instant {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job and the claim, as every entry about them names them.
    fn names(&self) -> (JobId, RunId) {
        (self.job.id.clone(), self.run.clone())
    }

    fn lost(&self) -> Error {
        Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job").with("job", &self.job.id)
    }

    /// Writes what the holder wants.
    async fn say(&self, op: Op, until: Instant) -> Result<()> {
        let mut outcome = commit(self.shared(), op.clone(), until).await?;
        if outcome == Outcome::Unknown {
            // The broker's host lost power, and with it what was written last. Nobody else can have the job: it was
            // acknowledged on the jobs queue. So it is still ours, and is written down again.
            let (job, claim, lease_ms) = (self.job.clone(), self.run.clone(), lease_ms(self.shared()));
            commit(self.shared(), Op::Adopt { job, claim, lease_ms }, until).await?;
            outcome = commit(self.shared(), op, until).await?;
        }
        if outcome == Outcome::Done { Ok(()) } else { Err(self.lost()) }
    }

    /// Ends the claim: the caller cannot try again, so this does, as long as the lease lasts. After that the record decides.
    async fn settle(&self, operation: &'static str, op: Op) -> Result<()> {
        let until = self.end().max(Instant::now() + self.shared().config.timeout.0);
        let said = self.say(op, until).await;
        said.map_err(|error| {
            if error.is_temporary() { self.lost().because(error) } else { error }.during(operation)
        })
    }
}

/// What is promised to the others.
pub(crate) fn lease_ms(shared: &Shared) -> u64 {
    u64::try_from(shared.config.lease.0.as_millis()).unwrap_or(u64::MAX)
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
        self.shared().config.holder_lease()
    }

    async fn renew(&self) -> Result<()> {
        let (start, end) = (Instant::now(), self.end());
        // By our own clock, whatever the record says: the run has been stopped.
        if start >= end {
            return Err(self.lost().during("claim::renew"));
        }
        let until = end.min(start + self.shared().config.timeout.0);
        let (job, claim) = self.names();
        let said = self.say(Op::Renew { job, claim }, until).await;
        match said {
            Ok(()) => {
                let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
                *end = (*end).max(start + self.lease());
                Ok(())
            }
            Err(error) if error.is_temporary() && Instant::now() >= end => {
                Err(self.lost().because(error).during("claim::renew"))
            }
            Err(error) => Err(error.during("claim::renew")),
        }
    }

    async fn complete(self: Box<Self>) -> Result<()> {
        let (job, claim) = self.names();
        self.settle("claim::complete", Op::Complete { job, claim }).await
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        tracing::debug!(job = %self.job.id, ?after, "to be tried again: {why}");
        // A delay beyond the calendar is ten years.
        let after = after.min(Duration::from_secs(315_360_000));
        let after_ms = u64::try_from(after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let due = Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX);
        let (job, claim) = self.names();
        self.settle("claim::retry", Op::Retry { job, claim, due, after_ms }).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        let (job, claim) = self.names();
        self.settle("claim::hand_back", Op::HandBack { job, claim }).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        let ((job, claim), why, at) = (self.names(), shortened(why), Timestamp::now());
        self.settle("claim::reject", Op::Reject { job, claim, why, at }).await
    }
}
