//! The work half: jobs in, reports out. Whatever happens in between, a node is released and a lease ends.

mod attempt;
mod board;
mod judge;
mod lease;
mod stages;
mod stop;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::attempt::{Ended, Worker};
use self::board::Board;
use self::stop::Stop;
use super::mute::Mute;
use super::shutdown::Shutdown;
use super::sweep::Sweeper;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::ident::{JobName, RunId};
use crate::job::Job;
use crate::retry::Backoff;
use crate::run::JobSpec;
use crate::seam::{Claim, Executor, Provisioner, Queue, Reporter};

/// Where logs lie on this machine, and where people read them.
#[derive(Debug, Clone)]
pub struct LogPlace {
    /// The folder.
    pub dir: PathBuf,
    /// The URL that shows it, without a slash at the end.
    pub url: Option<String>,
}

impl LogPlace {
    /// A run's own place below: two digits, change, patch set, job, run. As Zuul does it, so that no folder grows without bound and no
    /// rerun hides an earlier run.
    pub fn of(&self, run: &RunId, job: &Job) -> Self {
        let change = job.change.number.0;
        let path = format!("{:02}/{change}/{}/{}/{run}", change % 100, job.patchset.number, job.name);
        Self {
            dir: self.dir.join(&path),
            url: self.url.as_ref().map(|url| format!("{}/{path}/", url.trim_end_matches('/'))),
        }
    }
}

/// The work half.
pub struct Operator {
    worker: Worker,
    slots: usize,
    deadline: Duration,
    idle: Arc<Notify>,
    sweeper: Option<Sweeper>,
}

/// What an operator did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that ended with a verdict.
    pub finished: u64,
    /// Runs that ended without one: to be tried again, handed back, or lost.
    pub unfinished: u64,
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
            retry_first: Duration::from_secs(60),
            retry_cap: Duration::from_secs(15 * 60),
        };
        Self { worker, slots: 1, deadline: Duration::from_secs(60), idle: Arc::default(), sweeper: None }
    }

    /// Runs so many jobs at once.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
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
        let worker = Arc::new(worker);
        // They end with this call, however it ends.
        let mut helpers = JoinSet::new();
        helpers.spawn(board::listen(
            Arc::clone(&worker.queue),
            Arc::clone(&worker.board),
            worker.mute.clone(),
        ));
        if let Some(mute) = worker.mute.clone() {
            let queue = Arc::clone(&worker.queue);
            helpers.spawn(async move { mute.keep(queue.as_ref()).await });
        }
        if let Some(sweeper) = sweeper {
            let shutdown = shutdown.clone();
            helpers.spawn(async move { sweeper.run(&shutdown).await });
        }
        let (stop, mut runs, mut tally) = (Stop::new(), JoinSet::new(), Tally::default());
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let fault = loop {
            tokio::select! {
                biased;
                () = shutdown.begun() => break None,
                Some(ended) = runs.join_next(), if !runs.is_empty() => tally.count(ended, &idle),
                claim = worker.queue.claim(), if runs.len() < slots => match claim {
                    Ok(claim) => {
                        backoff.reset();
                        runs.spawn(Arc::clone(&worker).attend(claim, stop.clone()));
                    }
                    Err(error) if error.is_temporary() => {
                        tracing::warn!("could not claim a job: {error}");
                        let delay = backoff.next_delay();
                        tokio::select! { () = tokio::time::sleep(delay) => {}, () = shutdown.begun() => {} }
                    }
                    Err(error) => break Some(error.during("queue::claim")),
                },
            }
        };
        let end = tokio::time::Instant::now() + deadline;
        while !runs.is_empty() {
            tokio::select! {
                biased;
                Some(ended) = runs.join_next() => tally.count(ended, &idle),
                () = shutdown.forced(), if !stop.is_set() => stop.hand_back(),
                () = tokio::time::sleep_until(end), if !stop.is_set() => {
                    tracing::warn!(running = runs.len(), "the deadline has passed: handing back what still runs");
                    stop.hand_back();
                }
            }
        }
        fault.map_or(Ok(tally), Err)
    }
}

impl Tally {
    fn count(&mut self, ended: std::result::Result<Ended, tokio::task::JoinError>, idle: &Notify) {
        match ended {
            Ok(Ended::Finished) => self.finished += 1,
            Ok(Ended::Unfinished) => self.unfinished += 1,
            Err(error) => {
                // Its lease will run out, and its node is found by its marks.
                tracing::error!("a run's task died: {error}");
                self.unfinished += 1;
            }
        }
        idle.notify_one();
    }
}

/// A claim that a run has to itself.
type Held = Box<dyn Claim>;
