//! The work half: jobs in, reports out. Whatever happens in between, the node is released and the lease ends.

// In the order of a claim's life.
mod operator_loop;

mod run_claim;
mod staleness;

mod attempt;
mod log_location;
mod outcome;

// What watches over runs.
mod announcements;
mod cancellations;
mod circuit_breaker;
mod lease_fencing;
mod no_room;
mod settings;
mod stop_signal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::announcements::Announcer;
use self::cancellations::Cancellations;
use self::circuit_breaker::CircuitBreaker;
pub use self::circuit_breaker::{BreakerPolicy, BreakerState, Health};
pub use self::log_location::LogLocation;
use self::no_room::NoRoomGate;
pub use self::no_room::{NoRoom, NoRoomPolicy};
use self::operator_loop::OperatorLoop;
pub use self::operator_loop::OperatorStats;
pub use self::settings::OperatorSettings;
use super::orphan_sweep::Sweeper;
use super::shutdown::Shutdown;
use super::supersede::SupersedePolicy;
use crate::clock::{Clock, SystemClock};
use crate::current::Current;
use crate::error::Result;
use crate::job::JobFilter;
use crate::memory::MemoryJournal;
use crate::names::{JobName, NodeLabel};
use crate::run::JobSpec;
use crate::traits::{Alerter, ChangeStatusLookup, Executor, Journal, Provisioner, Queue, Reporter};

/// The work half: claims jobs, runs each on a node of its own, and gives the result to the queue.
pub struct Operator {
    context: OperatorContext,
    name: Option<String>,
    run_ended: Arc<Notify>,
    sweeper: Option<Sweeper>,
}

/// What all runs of an operator share.
struct OperatorContext {
    queue: Arc<dyn Queue>,
    provisioner: Arc<dyn Provisioner>,
    journal: Arc<dyn Journal>,
    executor: Arc<dyn Executor>,
    reporters: Vec<Arc<dyn Reporter>>,
    settings: Current<OperatorSettings>,
    logs: LogLocation,
    clock: Arc<dyn Clock>,
    cancellations: Arc<Cancellations>,
    change_status: Option<Arc<dyn ChangeStatusLookup>>,
    breaker: Arc<CircuitBreaker>,
    no_room: Arc<NoRoomGate>,
    alerter: Option<Arc<dyn Alerter>>,
}

impl OperatorContext {
    /// Hands the settings of now to those that keep their own, and returns them.
    fn apply_settings(&self) -> Arc<OperatorSettings> {
        let settings = self.settings.get();
        self.breaker.set_slots(settings.slots_to_use());
        self.breaker.set_policy(settings.breaker);
        self.no_room.set_policy(settings.no_room);
        settings
    }
}

impl Operator {
    /// An operator with one slot that runs these jobs, and whose logs are in `logs`. It claims every job on the
    /// queue; see [`with_filter`](Self::with_filter).
    pub fn new(
        queue: impl Queue + 'static,
        provisioner: impl Provisioner + 'static,
        executor: impl Executor + 'static,
        jobs: impl IntoIterator<Item = (JobName, JobSpec)>,
        logs: LogLocation,
    ) -> Self {
        let breaker = Arc::new(CircuitBreaker::new(BreakerPolicy::default()));
        let context = OperatorContext {
            queue: Arc::new(queue),
            provisioner: Arc::new(provisioner),
            journal: Arc::new(MemoryJournal::default()),
            executor: Arc::new(executor),
            reporters: Vec::new(),
            settings: Current::new(OperatorSettings::new(jobs)),
            logs,
            clock: Arc::new(SystemClock),
            cancellations: Arc::new(Cancellations::default()),
            change_status: None,
            no_room: Arc::new(NoRoomGate::new(Arc::clone(&breaker))),
            breaker,
            alerter: None,
        };
        Self { context, name: None, run_ended: Arc::default(), sweeper: None }
    }

    /// Goes by these settings instead of those that it was made with.
    #[must_use]
    pub fn with_settings(self, settings: OperatorSettings) -> Self {
        self.setting(|current| *current = settings)
    }

    /// What it runs and how, which may be replaced while it runs: runs that have begun go on with their jobs, and the next
    /// claim goes by the new settings.
    pub fn settings(&self) -> Current<OperatorSettings> {
        self.context.settings.clone()
    }

    fn setting(self, change: impl FnOnce(&mut OperatorSettings)) -> Self {
        self.context.settings.update(change);
        self.context.apply_settings();
        self
    }

    /// Claims only jobs that this filter matches: for operators with different jobs or nodes on one queue. Default:
    /// every job; one that the operator does not define becomes a dead letter.
    #[must_use]
    pub fn with_filter(self, filter: JobFilter) -> Self {
        self.setting(|settings| settings.filter = filter)
    }

    /// Announces itself under this name to the other participants of the queue, as `operator host-3`: which jobs it can
    /// run, and for which nodes there is no room. People see it ([`Operators`](crate::Operators)). Default: it does not.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs this many jobs at once. Default: 1.
    #[must_use]
    pub fn with_slots(self, slots: usize) -> Self {
        self.setting(|settings| settings.slots = slots)
    }

    /// Sends every step of its runs here. What people on the review get is delivered by the handler.
    #[must_use]
    pub fn with_reporter(mut self, reporter: impl Reporter + 'static) -> Self {
        self.context.reporters.push(Arc::new(reporter));
        self
    }

    /// The journal that the provisioner writes. Default: in memory, which does not survive a crash.
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.context.journal = Arc::new(journal);
        self
    }

    /// Reads the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.context.clock = Arc::new(clock);
        self
    }

    /// How long a graceful shutdown waits for runs; those that still run then are returned to the queue. Default: a
    /// minute.
    #[must_use]
    pub fn with_shutdown_deadline(self, deadline: Duration) -> Self {
        self.setting(|settings| settings.shutdown_deadline = deadline)
    }

    /// The delay before the next attempt after an infrastructure failure: from `first`, doubling, to `cap`. Default:
    /// 1 to 15 minutes.
    #[must_use]
    pub fn with_retry_delays(self, first: Duration, cap: Duration) -> Self {
        self.setting(|settings| (settings.retry_delay, settings.retry_delay_cap) = (first, cap))
    }

    /// When to stop claiming because no node comes up. Default: [`BreakerPolicy::default`].
    #[must_use]
    pub fn with_breaker(self, policy: BreakerPolicy) -> Self {
        self.setting(|settings| settings.breaker = policy)
    }

    /// What to do while the cloud has no room for a node. Default: [`NoRoomPolicy::default`].
    #[must_use]
    pub fn with_no_room(self, policy: NoRoomPolicy) -> Self {
        self.setting(|settings| settings.no_room = policy)
    }

    /// Alerts the lab's people here when the cloud has had no room for long. Default: the log alone says so.
    #[must_use]
    pub fn with_alerter(mut self, alerter: impl Alerter + 'static) -> Self {
        self.context.alerter = Some(Arc::new(alerter));
        self
    }

    /// Looks up here, before it boots a node, whether the patch set is still current. Without an answer in half a
    /// minute the job runs. Jobs that a person started run in any case. Default: no look-up.
    #[must_use]
    pub fn with_change_status(mut self, lookup: impl ChangeStatusLookup + 'static) -> Self {
        self.context.change_status = Some(Arc::new(lookup));
        self
    }

    /// Which answers of [`with_change_status`](Self::with_change_status) end a job. Control messages always do: the
    /// handler's policy decides which of them are sent. Default: all.
    #[must_use]
    pub fn with_supersede(self, policy: SupersedePolicy) -> Self {
        self.setting(|settings| settings.supersede = policy)
    }

    /// Sweeps orphans at the start and at intervals. Default: no sweep.
    #[must_use]
    pub fn with_sweeper(mut self, sweeper: Sweeper) -> Self {
        self.sweeper = Some(sweeper);
        self
    }

    /// Watches the operator's state, until it ends.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.context.breaker.watch()
    }

    /// The label of the node that each of its jobs needs, for [`Handler::with_labels`](crate::Handler::with_labels).
    pub fn labels(&self) -> impl Iterator<Item = (JobName, NodeLabel)> {
        let settings = self.context.settings.get();
        let labels: Vec<_> =
            settings.jobs.iter().map(|(name, spec)| (name.clone(), spec.node.clone())).collect();
        labels.into_iter()
    }

    /// Whether it defines a job of this name.
    pub(super) fn defines(&self, name: &JobName) -> bool {
        self.context.settings.get().jobs.contains_key(name)
    }

    /// Is notified each time a run has ended.
    pub(super) fn run_ended(&self) -> Arc<Notify> {
        Arc::clone(&self.run_ended)
    }

    /// Runs until a shutdown is requested.
    ///
    /// A graceful shutdown claims nothing more, waits for runs up to the deadline, then returns the rest to the
    /// queue. A forced one returns all at once. Either way every node is released, and nothing false is reported.
    ///
    /// # Errors
    /// Permanent errors of the queue, once the running jobs have ended.
    ///
    /// # Cancel safety
    /// Dropping it leaves nodes behind, until the leases have run out and an orphan sweep has found them. Use the
    /// shutdown.
    pub async fn run(self, shutdown: &Shutdown) -> Result<OperatorStats> {
        let Self { context, name, run_ended, sweeper } = self;
        let announcer = name.map(Announcer::new);
        OperatorLoop::new(Arc::new(context), run_ended).run(shutdown, sweeper, announcer).await
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("settings", &self.context.settings.get()).finish_non_exhaustive()
    }
}
