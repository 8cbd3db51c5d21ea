//! The work half: jobs in, reports out. Whatever happens in between, a node is released and a lease ends.

// In the order of a run.
mod shift;

mod attempt;
mod currency;
mod stages;

mod judge;

// What watches over runs.
mod board;
mod breaker;
mod health;
mod lease;
mod stop;

mod logs;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::attempt::Worker;
use self::board::Board;
pub use self::breaker::BreakerPolicy;
use self::health::Pulse;
pub use self::health::{Claiming, Health};
pub use self::logs::LogPlace;
use self::shift::Shift;
pub use self::shift::Tally;
use super::mute::Mute;
use super::shutdown::Shutdown;
use super::supersede::SupersedePolicy;
use super::sweep::Sweeper;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::ident::JobName;
use crate::run::JobSpec;
use crate::seam::{Changes, Claim, Executor, Provisioner, Queue, Reporter};

/// The work half.
pub struct Operator {
    worker: Worker,
    slots: usize,
    deadline: Duration,
    idle: Arc<Notify>,
    sweeper: Option<Sweeper>,
}

impl Operator {
    /// An operator with one slot, whose logs lie in `logs`.
    pub fn new(
        queue: Arc<dyn Queue>,
        provisioner: Arc<dyn Provisioner>,
        executor: Arc<dyn Executor>,
        jobs: Vec<JobSpec>,
        logs: LogPlace,
    ) -> Self {
        let jobs: HashMap<JobName, Arc<JobSpec>> =
            jobs.into_iter().map(|spec| (spec.name.clone(), Arc::new(spec))).collect();
        let worker = Worker {
            queue,
            provisioner,
            executor,
            jobs,
            logs,
            reporters: Vec::new(),
            clock: Arc::new(SystemClock),
            board: Arc::new(Board::default()),
            mute: None,
            changes: None,
            supersede: SupersedePolicy::default(),
            pulse: Arc::new(Pulse::new(BreakerPolicy::default())),
            retry_first: Duration::from_secs(60),
            retry_cap: Duration::from_secs(15 * 60),
        };
        Self { worker, slots: 1, deadline: Duration::from_secs(60), idle: Arc::default(), sweeper: None }
    }

    /// Runs so many jobs at once.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
        self.worker.pulse.set_slots(self.slots);
        self
    }

    /// Tells these reporters of every step.
    #[must_use]
    pub fn with_reporters(mut self, reporters: Vec<Arc<dyn Reporter>>) -> Self {
        self.worker.reporters = reporters;
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.worker.clock = clock;
        self
    }

    /// At a graceful stop, waits so long for runs to finish; what then still runs is handed back. Default: a minute.
    #[must_use]
    pub fn with_shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// After an infrastructure failure, waits from `first` (doubling) to `cap` before the next attempt. Default: 1 to 15 minutes.
    #[must_use]
    pub fn with_retry_delays(mut self, first: Duration, cap: Duration) -> Self {
        (self.worker.retry_first, self.worker.retry_cap) = (first, cap);
        self
    }

    /// Stops claiming when no node comes up, by this policy. Default: [`BreakerPolicy::default`].
    #[must_use]
    pub fn with_breaker(self, policy: BreakerPolicy) -> Self {
        self.worker.pulse.set_policy(policy);
        self
    }

    /// Asks here, before it boots a node, whether the patch set is still current. Without an answer in half a minute the job runs; jobs
    /// by hand run in any case. Default: nobody is asked.
    #[must_use]
    pub fn with_changes(mut self, changes: Arc<dyn Changes>) -> Self {
        self.worker.changes = Some(changes);
        self
    }

    /// Which answers of [`with_changes`](Self::with_changes) end a job. Notices are obeyed in any case: the handler's policy decides on
    /// those. Default: all.
    #[must_use]
    pub fn with_supersede(mut self, policy: SupersedePolicy) -> Self {
        self.worker.supersede = policy;
        self
    }

    /// Counts runs for this [`Mute`], passes on to it what other operators say, and tells them when it falls silent. The reporters that
    /// are to obey it must be wrapped in a [`MutingReporter`](crate::MutingReporter). Default: nobody is ever muted.
    #[must_use]
    pub fn with_mute(mut self, mute: Arc<Mute>) -> Self {
        self.worker.mute = Some(mute);
        self
    }

    /// Clears away what crashes have left, at the start and now and again. Default: nobody does.
    #[must_use]
    pub fn with_sweeper(mut self, sweeper: Sweeper) -> Self {
        self.sweeper = Some(sweeper);
        self
    }

    /// Follows how it is, from now to its end.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.worker.pulse.watch()
    }

    /// Is notified each time a run has ended.
    pub(super) fn idle(&self) -> Arc<Notify> {
        Arc::clone(&self.idle)
    }

    /// Runs until somebody wishes to stop.
    ///
    /// A graceful stop claims nothing more, waits for runs up to the deadline, then hands back the rest. A forced one hands back all at
    /// once. Either way every node is released, and nothing false is reported.
    ///
    /// # Errors
    /// Permanent errors of the queue, once the running jobs have ended.
    pub async fn run(self, shutdown: &Shutdown) -> Result<Tally> {
        let Self { worker, slots, deadline, idle, sweeper } = self;
        Shift::new(Arc::new(worker), slots, idle).work(shutdown, deadline, sweeper).await
    }
}

/// A claim that a run has to itself.
type Held = Box<dyn Claim>;
