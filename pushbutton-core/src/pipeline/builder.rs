use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::ingest::{Handler, Intake};
use super::mute::Mute;
use super::shutdown::Shutdown;
use super::supersede::SupersedePolicy;
use super::sweep::Sweeper;
use super::work::{BreakerPolicy, Health, LogPlace, Operator, Tally};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryLedger, MemoryQueue};
use crate::run::JobSpec;
use crate::seam::{Changes, EventSource, Executor, Ledger, Provisioner, Queue, Reporter};
use crate::trigger::Triggers;

/// Both halves in one process.
pub struct Pipeline {
    handler: Handler,
    operator: Operator,
    queue: Arc<dyn Queue>,
}

impl Pipeline {
    /// Starts to compose one.
    pub fn builder() -> PipelineBuilder {
        PipelineBuilder::default()
    }

    /// See [`Operator::health`].
    pub fn health(&self) -> watch::Receiver<Health> {
        self.operator.health()
    }

    /// Runs until somebody wishes to stop; with a finite source, until it has ended and all its jobs are done.
    ///
    /// # Errors
    /// The first permanent error of either half, once the other has ended.
    pub async fn run(self, shutdown: &Shutdown) -> Result<(Intake, Tally)> {
        let Self { handler, operator, queue } = self;
        let idle = operator.idle();
        // The operator outlives a finite source, so its end is a wish of its own.
        let work_end = Shutdown::new();
        let ingest = async {
            let result = handler.run(shutdown).await;
            if result.is_ok() && !shutdown.has_begun() {
                drained(queue.as_ref(), &idle, shutdown).await;
            }
            work_end.begin();
            result
        };
        let work = async {
            let result = operator.run(&work_end).await;
            // Without operators the handler has no business here.
            if result.is_err() {
                shutdown.begin();
            }
            result
        };
        let force = async {
            shutdown.begun().await;
            work_end.begin();
            shutdown.forced().await;
            work_end.force();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            (intake, tally) = async { tokio::join!(ingest, work) } => Ok((intake?, tally?)),
            () = force => unreachable_end(),
        }
    }
}

fn unreachable_end<T>() -> Result<T> {
    Err(Error::permanent(ErrorKind::Unexpected, "the shutdown watcher ended"))
}

/// Waits until nothing waits and nothing runs. Looks whenever a run has ended, and now and then for what other operators do.
async fn drained(queue: &dyn Queue, idle: &Notify, shutdown: &Shutdown) {
    loop {
        match queue.depth().await {
            Ok(depth) if depth.waiting + depth.leased == 0 => return,
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot see the queue's depth: {error}"),
        }
        tokio::select! {
            () = idle.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.begun() => return,
        }
    }
}

/// Composes a [`Pipeline`]. Queue and ledger are in memory unless given; the other parts must be given.
#[derive(Default)]
pub struct PipelineBuilder {
    source: Option<Box<dyn EventSource>>,
    triggers: Option<Triggers>,
    queue: Option<Arc<dyn Queue>>,
    ledger: Option<Arc<dyn Ledger>>,
    provisioner: Option<Arc<dyn Provisioner>>,
    executor: Option<Arc<dyn Executor>>,
    reporters: Vec<Arc<dyn Reporter>>,
    jobs: Vec<JobSpec>,
    logs: Option<LogPlace>,
    slots: usize,
    retry_delays: Option<(Duration, Duration)>,
    shutdown_deadline: Option<Duration>,
    breaker: Option<BreakerPolicy>,
    changes: Option<Arc<dyn Changes>>,
    supersede: SupersedePolicy,
    mute: Option<Arc<Mute>>,
    sweep: Option<Box<dyn FnOnce(Sweeper) -> Sweeper + Send>>,
}

impl PipelineBuilder {
    /// Where events come from.
    #[must_use]
    pub fn source(mut self, source: impl EventSource + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Which events call for which jobs.
    #[must_use]
    pub fn triggers(mut self, triggers: Triggers) -> Self {
        self.triggers = Some(triggers);
        self
    }

    /// What carries the jobs. Default: a queue in memory.
    #[must_use]
    pub fn queue(mut self, queue: Arc<dyn Queue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// What remembers seen events. Default: memory.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Where nodes come from.
    #[must_use]
    pub fn provisioner(mut self, provisioner: Arc<dyn Provisioner>) -> Self {
        self.provisioner = Some(provisioner);
        self
    }

    /// What runs stages.
    #[must_use]
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// One more who is told. Call it as often as wanted.
    #[must_use]
    pub fn reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporters.push(reporter);
        self
    }

    /// What a job's name means. Call it once a job.
    #[must_use]
    pub fn job(mut self, spec: JobSpec) -> Self {
        self.jobs.push(spec);
        self
    }

    /// Where logs lie.
    #[must_use]
    pub fn logs(mut self, logs: LogPlace) -> Self {
        self.logs = Some(logs);
        self
    }

    /// Jobs at once. Default: 1.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// See [`Operator::with_retry_delays`].
    #[must_use]
    pub fn retry_delays(mut self, first: Duration, cap: Duration) -> Self {
        self.retry_delays = Some((first, cap));
        self
    }

    /// See [`Operator::with_shutdown_deadline`].
    #[must_use]
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = Some(deadline);
        self
    }

    /// See [`Operator::with_breaker`].
    #[must_use]
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = Some(policy);
        self
    }

    /// See [`Operator::with_changes`].
    #[must_use]
    pub fn changes(mut self, changes: Arc<dyn Changes>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// What makes jobs pointless, for both halves. Default: a newer patch set, a merge, an abandon.
    #[must_use]
    pub fn supersede(mut self, policy: SupersedePolicy) -> Self {
        self.supersede = policy;
        self
    }

    /// See [`Operator::with_mute`].
    #[must_use]
    pub fn mute(mut self, mute: Arc<Mute>) -> Self {
        self.mute = Some(mute);
        self
    }

    /// Clears away what crashes have left: see [`Operator::with_sweeper`]. The function says how, as
    /// `|sweeper| sweeper.with_journal(journal)`. Default: nobody does.
    #[must_use]
    pub fn sweep(mut self, how: impl FnOnce(Sweeper) -> Sweeper + Send + 'static) -> Self {
        self.sweep = Some(Box::new(how));
        self
    }

    /// Puts the parts together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming every part that is missing, and every job that a trigger names and nobody explains.
    pub fn build(self) -> Result<Pipeline> {
        let missing = [
            ("source", self.source.is_none()),
            ("triggers", self.triggers.is_none()),
            ("provisioner", self.provisioner.is_none()),
            ("executor", self.executor.is_none()),
            ("logs", self.logs.is_none()),
        ];
        let mut faults: Vec<String> = missing
            .iter()
            .filter(|(_, missing)| *missing)
            .map(|(part, _)| format!("no {part} was given"))
            .collect();
        for job in self.triggers.iter().flat_map(Triggers::job_names) {
            if !self.jobs.iter().any(|spec| spec.name == *job) {
                faults.push(format!("a trigger names job {job}, which is not defined"));
            }
        }
        let (Some(source), Some(triggers), Some(provisioner), Some(executor), Some(logs), true) =
            (self.source, self.triggers, self.provisioner, self.executor, self.logs, faults.is_empty())
        else {
            return Err(Error::permanent(ErrorKind::Config, faults.join("; ")).during("pipeline::build"));
        };
        let queue = self.queue.unwrap_or_else(|| Arc::new(MemoryQueue::default()));
        let ledger = self.ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default()));
        let handler = Handler::new(source, triggers, Arc::clone(&queue))
            .with_ledger(ledger)
            .with_supersede(self.supersede)
            .with_reporters(self.reporters.clone());
        let sweeper = self.sweep.map(|how| how(Sweeper::new(Arc::clone(&provisioner), Arc::clone(&queue))));
        let mut operator = Operator::new(Arc::clone(&queue), provisioner, executor, self.jobs, logs)
            .with_slots(self.slots)
            .with_supersede(self.supersede)
            .with_reporters(self.reporters);
        if let Some((first, cap)) = self.retry_delays {
            operator = operator.with_retry_delays(first, cap);
        }
        if let Some(deadline) = self.shutdown_deadline {
            operator = operator.with_shutdown_deadline(deadline);
        }
        if let Some(policy) = self.breaker {
            operator = operator.with_breaker(policy);
        }
        if let Some(changes) = self.changes {
            operator = operator.with_changes(changes);
        }
        if let Some(mute) = self.mute {
            operator = operator.with_mute(mute);
        }
        if let Some(sweeper) = sweeper {
            operator = operator.with_sweeper(sweeper);
        }
        Ok(Pipeline { handler, operator, queue })
    }
}
