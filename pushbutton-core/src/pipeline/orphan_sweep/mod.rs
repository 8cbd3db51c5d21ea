//! The orphan sweep: finds nodes and other resources whose runs have no lease any more, and deletes them.

mod orphan;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

pub use self::orphan::Orphan;
use super::RELEASE_TIMEOUT;
use super::panics::catch_panic;
use super::shutdown::Shutdown;
use crate::clock::{Clock, SystemClock};
use crate::duration::HumanDuration;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::MemoryJournal;
use crate::names::RunId;
use crate::retry::Backoff;
use crate::traits::{Journal, Provisioner, Queue};

/// Runs that are released at the same time: a crash leaves a few, and the cloud has other work too.
const PARALLEL: usize = 4;

/// The first delay after a sweep that failed because something could not be asked; it grows up to the interval.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Two looks are apart by the safety age divided by this: 30 s of ten minutes, in which operators delete the nodes of
/// runs that have just ended.
const LOOKS_PER_SAFETY_AGE: u32 = 20;

/// Deletes what is left of runs that no operator holds any more.
///
/// What a provisioner has made for a run, by the cloud's list or by the journal, is an orphan once the run has no
/// lease and the youngest trace of it is older than a safety age. An operator that crashes keeps its leases until
/// they run out; the next sweep after that finds its nodes.
///
/// - What has a lease, on any machine, is never touched; nor is what does not carry our owner and our installation.
/// - Where the cloud, the journal or the queue cannot be asked, nothing is deleted.
/// - Any number of sweepers may sweep at the same time, beside any number of operators: releasing is idempotent, and
///   a run that has lost its lease never gets it back.
///
/// The provisioner must have the installation of this queue ([`Queue::installation`]): what was made for the jobs of
/// another queue has no lease here, and would look like an orphan.
pub struct Sweeper {
    provisioner: Arc<dyn Provisioner>,
    queue: Arc<dyn Queue>,
    journal: Arc<dyn Journal>,
    safety_age: Duration,
    interval: Duration,
    clock: Arc<dyn Clock>,
}

/// What a sweep did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SweepReport {
    /// Deleted.
    pub released: Vec<Orphan>,
    /// Still there, and why; the next sweep tries again.
    pub left: Vec<UnreleasedOrphan>,
}

/// An orphan that could not be deleted.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnreleasedOrphan {
    /// What is left.
    pub orphan: Orphan,
    /// Why.
    pub error: Error,
}

impl Sweeper {
    /// A sweeper with an empty journal, a safety age of ten minutes, and an interval of ten minutes.
    pub fn new(provisioner: impl Provisioner + 'static, queue: impl Queue + 'static) -> Self {
        Self {
            provisioner: Arc::new(provisioner),
            queue: Arc::new(queue),
            journal: Arc::new(MemoryJournal::default()),
            safety_age: Duration::from_secs(600),
            interval: Duration::from_secs(600),
            clock: Arc::new(SystemClock),
        }
    }

    /// The provisioner's journal: it knows what the cloud does not show, or shows without our tag. Default: an empty
    /// one.
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// What is younger than this is not touched.
    #[must_use]
    pub fn with_safety_age(mut self, age: Duration) -> Self {
        self.safety_age = age;
        self
    }

    /// The interval of [`run`](Self::run). Each sweep comes up to half of it earlier, so that operators that started
    /// together do not sweep at the same moment.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Reads the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Lists what [`sweep`](Self::sweep) would delete, the oldest run first. Changes nothing.
    ///
    /// # Errors
    /// Whatever keeps the journal, the cloud or the queue from answering.
    pub async fn plan(&self) -> Result<Vec<Orphan>> {
        let now = self.clock.now();
        // First the resources, then the leases. A run makes nothing before its claim is granted, so whatever is
        // listed here was claimed before the leases are read: if its run is not among them, its lease has ended. In
        // the other order, a run that begins between the two calls would look like an orphan.
        let entries = self.journal.open().await.map_err(|error| error.during("journal::open"))?;
        let owned = guarded("provisioner::list_owned", self.provisioner.list_owned()).await?;
        let leased = self.queue.leased_runs().await.map_err(|error| error.during("queue::leased_runs"))?;
        let leased = HashSet::from_iter(leased);
        Ok(orphan::orphans(entries, owned, &leased, now, self.safety_age))
    }

    /// What two plans list, one some time after the other. An operator frees its lease before it deletes the node: a
    /// run that has just ended looks like an orphan, and is gone at the second look.
    async fn plan_twice(&self) -> Result<Vec<Orphan>> {
        let first = self.plan().await?;
        if first.is_empty() {
            return Ok(first);
        }
        let suspects: HashSet<RunId> = first.into_iter().map(|orphan| orphan.run).collect();
        tokio::time::sleep(self.safety_age / LOOKS_PER_SAFETY_AGE).await;
        let mut second = self.plan().await?;
        second.retain(|orphan| suspects.contains(&orphan.run));
        Ok(second)
    }

    /// Deletes what [`plan`](Self::plan) lists, at once: also what an operator is deleting, because its run has just
    /// ended.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan). What could not be deleted is no error: it is listed in [`SweepReport::left`].
    pub async fn sweep(&self) -> Result<SweepReport> {
        Ok(self.release_all(self.plan().await?).await)
    }

    async fn release_all(&self, orphans: Vec<Orphan>) -> SweepReport {
        let mut results = stream::iter(orphans)
            .map(|orphan| async { (self.release(&orphan).await, orphan) })
            .buffer_unordered(PARALLEL);
        let mut report = SweepReport::default();
        while let Some((result, orphan)) = results.next().await {
            match result {
                Ok(()) => {
                    tracing::warn!("released an orphan: {orphan}");
                    report.released.push(orphan);
                }
                Err(error) => {
                    tracing::error!("could not release an orphan, {orphan}: {error}");
                    report.left.push(UnreleasedOrphan { orphan, error });
                }
            }
        }
        report
    }

    async fn release(&self, orphan: &Orphan) -> Result<()> {
        guarded("provisioner::release", self.provisioner.release(&orphan.run, &self.journal)).await?;
        // Most provisioners have done so themselves. This is for the entries of a provisioner that was replaced since.
        for entry in &orphan.entries {
            self.journal.gone(entry.entry).await.map_err(|error| error.during("journal::gone"))?;
        }
        Ok(())
    }

    /// Sweeps at once and then at intervals, until a shutdown is requested. A sweep that is interrupted does no harm.
    /// What looks like an orphan is looked at again after a twentieth of the safety age, and only then deleted.
    pub async fn run(&self, shutdown: &Shutdown) {
        let sweeps = async {
            let mut pause = Backoff::new(self.interval, self.interval);
            let mut retry = Backoff::new(RETRY_DELAY.min(self.interval), self.interval);
            loop {
                let delay = match self.plan_twice().await {
                    Ok(orphans) => {
                        self.release_all(orphans).await;
                        retry.reset();
                        pause.next_delay()
                    }
                    Err(error) => {
                        tracing::warn!(
                            "the orphan sweep could not list what there is, nothing was deleted: {error}"
                        );
                        retry.next_delay()
                    }
                };
                tokio::time::sleep(delay).await;
            }
        };
        tokio::select! { biased; () = shutdown.begun() => {}, () = sweeps => {} }
    }
}

/// A call of the provisioner. One that hangs or panics must not end the sweep of other runs, nor those that follow.
async fn guarded<T>(operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let error = match catch_panic(tokio::time::timeout(RELEASE_TIMEOUT, call)).await {
        Ok(Ok(Ok(value))) => return Ok(value),
        Ok(Ok(Err(error))) => error,
        Ok(Err(_)) => {
            let message = format!("it was not done within {}", HumanDuration(RELEASE_TIMEOUT));
            Error::temporary(ErrorKind::TimedOut, message)
        }
        Err(panic) => Error::temporary(ErrorKind::Unexpected, format!("the provisioner panicked: {panic}")),
    };
    Err(error.during(operation))
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper")
            .field("safety_age", &self.safety_age)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
