//! The loop of an operator: claims jobs while it may, runs them side by side, and shuts down without leaving anything
//! behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::OperatorContext;
use super::announcements::Announcer;
use super::attempt::deadline_after;
use super::circuit_breaker::Admission;
use super::run_claim::Ended;
use super::stop_signal::StopSignal;
use crate::error::{Error, Result};
use crate::pipeline::control_listener;
use crate::pipeline::orphan_sweep::Sweeper;
use crate::pipeline::panics::restart_after_panic;
use crate::pipeline::shutdown::Shutdown;
use crate::retry::Backoff;
use crate::traits::Claim;

/// What an operator did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperatorStats {
    /// Runs that ended with a verdict.
    pub finished: u64,
    /// Runs that ended without one: to be tried again, returned to the queue, or lost.
    pub unfinished: u64,
}

pub(super) struct OperatorLoop {
    context: Arc<OperatorContext>,
    run_ended: Arc<Notify>,
    runs: JoinSet<Ended>,
    stop: StopSignal,
    stats: OperatorStats,
    claim_backoff: Backoff,
    /// After a failed claim: no claim before this.
    claim_after: Instant,
}

enum Next {
    End,
    RunEnded(std::result::Result<Ended, JoinError>),
    Claimed(Result<Box<dyn Claim>>),
    /// Something has changed: decide again whether a job may be claimed.
    Reconsider,
}

impl OperatorLoop {
    pub(super) fn new(context: Arc<OperatorContext>, run_ended: Arc<Notify>) -> Self {
        Self {
            context,
            run_ended,
            runs: JoinSet::new(),
            stop: StopSignal::new(),
            stats: OperatorStats::default(),
            claim_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            claim_after: Instant::now(),
        }
    }

    /// Runs until a shutdown is requested, then lets runs end until the deadline.
    pub(super) async fn run(
        mut self,
        shutdown: &Shutdown,
        sweeper: Option<Sweeper>,
        announcer: Option<Announcer>,
    ) -> Result<OperatorStats> {
        let announcer = announcer.map(Arc::new);
        // They are aborted when this call ends, however it ends.
        let mut background = self.background_tasks(shutdown, sweeper);
        let announcing = announcer.clone().map(|announcer| {
            let context = Arc::clone(&self.context);
            background.spawn(async move {
                let announce = || async { match announcer.run(&context).await {} };
                restart_after_panic("announcements", announce).await;
            })
        });
        let fault = self.claim_and_run(shutdown).await.err();
        // It claims nothing more.
        if let (Some(announcer), Some(announcing)) = (announcer, announcing) {
            announcing.abort();
            announcer.end(&self.context).await;
        }
        let deadline = self.context.settings.get().shutdown_deadline;
        self.finish_runs(shutdown, deadline).await;
        fault.map_or(Ok(self.stats), Err)
    }

    fn background_tasks(&self, shutdown: &Shutdown, sweeper: Option<Sweeper>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            let OperatorContext { queue, cancellations, .. } = context.as_ref();
            let listen = || control_listener::listen(queue.as_ref(), |message| cancellations.apply(message));
            restart_after_panic("control messages", listen).await;
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            let OperatorContext { no_room, alerter, .. } = context.as_ref();
            let alert = || async { match no_room.alert(alerter.as_deref()).await {} };
            restart_after_panic("alerts", alert).await;
        });
        if let Some(sweeper) = sweeper {
            let shutdown = shutdown.clone();
            tasks.spawn(async move { restart_after_panic("orphan sweep", || sweeper.run(&shutdown)).await });
        }
        tasks
    }

    async fn claim_and_run(&mut self, shutdown: &Shutdown) -> Result<()> {
        let context = Arc::clone(&self.context);
        let mut replaced = context.settings.watch();
        loop {
            replaced.mark_unchanged();
            // One set of settings from the claim to its run: a claimed job is one of those that the filter names.
            let settings = context.apply_settings();
            context.breaker.set_running(self.runs.len());
            let claimable = context.no_room.claimable(&settings.filter, &settings.jobs);
            // None: not before something has changed.
            let claim_at = match context.breaker.admission(context.clock.as_ref()) {
                _ if self.runs.len() >= settings.slots_to_use() || claimable.filter.is_none() => None,
                Admission::Allowed => Some(self.claim_after),
                Admission::After(end) => Some(end.max(self.claim_after)),
                Admission::WaitForProbe => None,
            };
            let filter = claimable.filter.unwrap_or_default();
            let may_claim = claim_at.is_some_and(|at| at <= Instant::now());
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => Next::End,
                Some(ended) = self.runs.join_next(), if !self.runs.is_empty() => Next::RunEnded(ended),
                () = context.breaker.changed() => Next::Reconsider,
                // Its sender lives as long as the context.
                _ = replaced.changed() => Next::Reconsider,
                () = sleep_until(claim_at), if !may_claim => Next::Reconsider,
                () = sleep_until(claimable.until) => Next::Reconsider,
                claim = context.queue.claim(&filter), if may_claim => Next::Claimed(claim),
            };
            match next {
                Next::End => return Ok(()),
                Next::Reconsider => {}
                Next::RunEnded(ended) => self.count(ended),
                Next::Claimed(Ok(claim)) => {
                    self.claim_backoff.reset();
                    let spec = settings.jobs.get(&claim.job().name).cloned();
                    let label = spec.as_ref().map(|spec| &spec.node);
                    let clock = Arc::clone(&context.clock);
                    let guards = (
                        context.breaker.register(claim.run()),
                        context.no_room.register(claim.run(), label, clock),
                    );
                    self.runs.spawn(Arc::clone(&context).run_claim(
                        claim,
                        spec,
                        guards,
                        self.stop.clone(),
                        shutdown.clone(),
                    ));
                }
                Next::Claimed(Err(error)) => self.claim_failed(error)?,
            }
        }
    }

    /// Lets the runs end. Stops those that still run at the deadline or at a forced shutdown, and returns their jobs
    /// to the queue.
    async fn finish_runs(&mut self, shutdown: &Shutdown, deadline: Duration) {
        let end = deadline_after(deadline);
        while !self.runs.is_empty() {
            self.context.breaker.set_running(self.runs.len());
            tokio::select! {
                biased;
                Some(ended) = self.runs.join_next() => self.count(ended),
                () = shutdown.forced(), if !self.stop.is_set() => self.stop.hand_back(),
                () = tokio::time::sleep_until(end), if !self.stop.is_set() => {
                    tracing::warn!(running = self.runs.len(), "the shutdown deadline has passed: jobs that still run return to the queue");
                    self.stop.hand_back();
                }
            }
        }
        self.context.breaker.set_running(0);
    }

    fn claim_failed(&mut self, error: Error) -> Result<()> {
        if !error.is_temporary() {
            return Err(error.during("queue::claim"));
        }
        tracing::warn!("could not claim a job: {error}");
        self.claim_after = Instant::now() + self.claim_backoff.next_delay();
        Ok(())
    }

    fn count(&mut self, ended: std::result::Result<Ended, JoinError>) {
        match ended {
            Ok(Ended::Finished) => self.stats.finished += 1,
            Ok(Ended::Unfinished) => self.stats.unfinished += 1,
            Err(error) => {
                // Its lease will run out, and the orphan sweep finds its node.
                tracing::error!("the task of a run ended early: {error}");
                self.stats.unfinished += 1;
            }
        }
        self.run_ended.notify_one();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
