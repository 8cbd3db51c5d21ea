//! An operator's working time: claims while it may, runs side by side, and an end that leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::attempt::{Ended, Worker};
use super::breaker::Gate;
use super::stop::Stop;
use super::{Held, board};
use crate::error::{Error, Result};
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::sweep::Sweeper;
use crate::retry::Backoff;

/// What an operator did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that ended with a verdict.
    pub finished: u64,
    /// Runs that ended without one: to be tried again, handed back, or lost.
    pub unfinished: u64,
}

/// The loop's own things.
pub(super) struct Shift {
    pub(super) worker: Arc<Worker>,
    pub(super) slots: usize,
    pub(super) idle: Arc<Notify>,
    runs: JoinSet<Ended>,
    stop: Stop,
    tally: Tally,
    claim_again: Backoff,
    /// The queue could not be asked: not again before this.
    not_before: Instant,
}

enum Next {
    End,
    Ended(std::result::Result<Ended, JoinError>),
    Claimed(Result<Held>),
    /// Something may have changed: whether a job may be claimed is looked at anew.
    Look,
}

impl Shift {
    pub(super) fn new(worker: Arc<Worker>, slots: usize, idle: Arc<Notify>) -> Self {
        Self {
            worker,
            slots,
            idle,
            runs: JoinSet::new(),
            stop: Stop::new(),
            tally: Tally::default(),
            claim_again: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            not_before: Instant::now(),
        }
    }

    /// Works until somebody wishes to stop, then lets runs end until the deadline.
    pub(super) async fn work(
        mut self,
        shutdown: &Shutdown,
        deadline: Duration,
        sweeper: Option<Sweeper>,
    ) -> Result<Tally> {
        // They end with this call, however it ends.
        let _helpers = self.helpers(shutdown, sweeper);
        let fault = self.claim_and_run(shutdown).await.err();
        self.let_runs_end(shutdown, deadline).await;
        if let Some(mute) = &self.worker.mute {
            tokio::select! { () = mute.settled() => {}, () = shutdown.forced() => {} }
        }
        fault.map_or(Ok(self.tally), Err)
    }

    fn helpers(&self, shutdown: &Shutdown, sweeper: Option<Sweeper>) -> JoinSet<()> {
        let mut helpers = JoinSet::new();
        let Worker { queue, board, mute, .. } = self.worker.as_ref();
        helpers.spawn(board::listen(Arc::clone(queue), Arc::clone(board), mute.clone()));
        if let Some(mute) = mute.clone() {
            let queue = Arc::clone(queue);
            helpers.spawn(async move { mute.keep(queue.as_ref()).await });
        }
        if let Some(sweeper) = sweeper {
            let shutdown = shutdown.clone();
            helpers.spawn(async move { sweeper.run(&shutdown).await });
        }
        helpers
    }

    async fn claim_and_run(&mut self, shutdown: &Shutdown) -> Result<()> {
        let worker = Arc::clone(&self.worker);
        loop {
            worker.pulse.set_running(self.runs.len());
            // None: not before something has changed.
            let claim_at = match worker.pulse.gate(worker.clock.as_ref()) {
                _ if self.runs.len() >= self.slots => None,
                Gate::Open => Some(self.not_before),
                Gate::Until(end) => Some(end.max(self.not_before)),
                Gate::Probing => None,
            };
            let may_claim = claim_at.is_some_and(|at| at <= Instant::now());
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => Next::End,
                Some(ended) = self.runs.join_next(), if !self.runs.is_empty() => Next::Ended(ended),
                () = worker.pulse.changed() => Next::Look,
                () = sleep_until(claim_at), if !may_claim => Next::Look,
                claim = worker.queue.claim(), if may_claim => Next::Claimed(claim),
            };
            match next {
                Next::End => return Ok(()),
                Next::Look => {}
                Next::Ended(ended) => self.count(ended),
                Next::Claimed(Ok(claim)) => {
                    self.claim_again.reset();
                    let followed = worker.pulse.follow(claim.run());
                    self.runs.spawn(Arc::clone(&worker).attend(claim, followed, self.stop.clone()));
                }
                Next::Claimed(Err(error)) => self.claim_failed(error)?,
            }
        }
    }

    /// Lets the runs end; hands back what has not ended at the deadline, or when somebody wishes to stop at once.
    async fn let_runs_end(&mut self, shutdown: &Shutdown, deadline: Duration) {
        let end = Instant::now() + deadline;
        while !self.runs.is_empty() {
            self.worker.pulse.set_running(self.runs.len());
            tokio::select! {
                biased;
                Some(ended) = self.runs.join_next() => self.count(ended),
                () = shutdown.forced(), if !self.stop.is_set() => self.stop.hand_back(),
                () = tokio::time::sleep_until(end), if !self.stop.is_set() => {
                    tracing::warn!(running = self.runs.len(), "the deadline has passed: handing back what still runs");
                    self.stop.hand_back();
                }
            }
        }
        self.worker.pulse.set_running(0);
    }

    fn claim_failed(&mut self, error: Error) -> Result<()> {
        if !error.is_temporary() {
            return Err(error.during("queue::claim"));
        }
        tracing::warn!("could not claim a job: {error}");
        self.not_before = Instant::now() + self.claim_again.next_delay();
        Ok(())
    }

    fn count(&mut self, ended: std::result::Result<Ended, JoinError>) {
        match ended {
            Ok(Ended::Finished) => self.tally.finished += 1,
            Ok(Ended::Unfinished) => self.tally.unfinished += 1,
            Err(error) => {
                // Its lease will run out, and its node is found by its marks.
                tracing::error!("a run's task died: {error}");
                self.tally.unfinished += 1;
            }
        }
        self.idle.notify_one();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
