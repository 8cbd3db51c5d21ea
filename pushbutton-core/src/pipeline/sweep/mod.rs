//! Finding what crashes have left behind, and clearing it away.

mod orphan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

pub use self::orphan::Orphan;
use super::shutdown::Shutdown;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::seam::{Journal, Provisioner, Queue};

/// Runs that are cleared away at once: a crash leaves a handful, and the cloud has other work too.
const AT_ONCE: usize = 4;

/// After a sweep that could not even look, tries again so soon, and then ever later.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Clears away what is left of runs that nobody holds any more.
///
/// What a provisioner has made for a run, by the cloud's list or by the journal, is orphaned once the run holds no lease and the
/// youngest sign of it is older than a safety age. An operator that crashes keeps its leases until they run out; the sweep after
/// that finds its nodes.
///
/// - What holds a lease, on any machine, is never touched; nor is what does not carry our owner.
/// - Where the cloud, the journal or the queue cannot be asked, nothing is deleted.
/// - Any number of sweepers may sweep at once, beside any number of operators: releasing is idempotent, and a run that has lost
///   its lease never gets it back.
///
/// The owner must be this installation's alone: to an installation with another queue, all of ours are orphans.
pub struct Sweeper {
    provisioner: Arc<dyn Provisioner>,
    queue: Arc<dyn Queue>,
    journal: Option<Arc<dyn Journal>>,
    safety_age: Duration,
    every: Duration,
    clock: Arc<dyn Clock>,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Cleared away.
    pub released: Vec<Orphan>,
    /// Still there, and why; the next sweep tries again.
    pub left: Vec<(Orphan, Error)>,
}

impl Sweeper {
    /// A sweeper without a journal, with a safety age of ten minutes, for a sweep every ten minutes.
    pub fn new(provisioner: Arc<dyn Provisioner>, queue: Arc<dyn Queue>) -> Self {
        Self {
            provisioner,
            queue,
            journal: None,
            safety_age: Duration::from_secs(600),
            every: Duration::from_secs(600),
            clock: Arc::new(SystemClock),
        }
    }

    /// Looks into the provisioner's journal too: for what the cloud does not show, or shows without our mark.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Leaves alone what is younger than this.
    #[must_use]
    pub fn with_safety_age(mut self, age: Duration) -> Self {
        self.safety_age = age;
        self
    }

    /// Sweeps so often in [`run`](Self::run); up to half of it earlier, so that operators that started together do not sweep in step.
    #[must_use]
    pub fn with_interval(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Says what [`sweep`](Self::sweep) would clear away, the oldest run first. Changes nothing.
    ///
    /// # Errors
    /// Whatever keeps the journal, the cloud or the queue from answering.
    pub async fn plan(&self) -> Result<Vec<Orphan>> {
        let now = self.clock.now();
        // First what is there, then who holds a lease. A run makes nothing before its claim is granted, so whatever is seen here
        // was claimed before the leases are asked for: if its run is not among them, its lease has ended. The other way round, a
        // run that begins between the two questions would be taken for an orphan.
        let entries = match &self.journal {
            Some(journal) => journal.open().await.map_err(|error| error.during("journal::open"))?,
            None => Vec::new(),
        };
        let owned = self.provisioner.list_owned().await;
        let owned = owned.map_err(|error| error.during("provisioner::list_owned"))?;
        let leased = self.queue.leased_runs().await.map_err(|error| error.during("queue::leased_runs"))?;
        let leased = HashSet::from_iter(leased);
        Ok(orphan::orphans(entries, owned, &leased, now, self.safety_age))
    }

    /// Clears away what [`plan`](Self::plan) says.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan). What could not be cleared away is no error: it is told in [`Swept::left`].
    pub async fn sweep(&self) -> Result<Swept> {
        let orphans = self.plan().await?;
        let mut results = stream::iter(orphans)
            .map(|orphan| async { (self.clear_away(&orphan).await, orphan) })
            .buffer_unordered(AT_ONCE);
        let mut swept = Swept::default();
        while let Some((result, orphan)) = results.next().await {
            match result {
                Ok(()) => {
                    tracing::warn!("swept away what a crash had left: {orphan}");
                    swept.released.push(orphan);
                }
                Err(error) => {
                    tracing::error!("could not sweep away {orphan}: {error}");
                    swept.left.push((orphan, error));
                }
            }
        }
        Ok(swept)
    }

    async fn clear_away(&self, orphan: &Orphan) -> Result<()> {
        let released = self.provisioner.release(&orphan.run).await;
        released.map_err(|error| error.during("provisioner::release"))?;
        // Most provisioners have done so themselves; this is for the entries of one that has been replaced since.
        if let Some(journal) = &self.journal {
            for entry in &orphan.entries {
                journal.gone(entry.entry).await.map_err(|error| error.during("journal::gone"))?;
            }
        }
        Ok(())
    }

    /// Sweeps at once and then now and again, until somebody wishes to stop. A sweep that is cut short does no harm.
    pub async fn run(&self, shutdown: &Shutdown) {
        let sweeps = async {
            let mut interval = Backoff::new(self.every, self.every);
            let mut look_again = Backoff::new(LOOK_AGAIN.min(self.every), self.every);
            loop {
                let delay = match self.sweep().await {
                    Ok(_) => {
                        look_again.reset();
                        interval.next_delay()
                    }
                    Err(error) => {
                        tracing::warn!(
                            "could not look for what crashes have left, nothing was deleted: {error}"
                        );
                        look_again.next_delay()
                    }
                };
                tokio::time::sleep(delay).await;
            }
        };
        tokio::select! { biased; () = shutdown.begun() => {}, () = sweeps => {} }
    }
}
