//! One claim, from its lease to its end: run the job, give its result to the queue, release the node.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::OperatorContext;
use super::attempt::Attempt;
use super::circuit_breaker::ProbeGuard;
use super::lease_fencing::with_lease;
use super::no_room::RoomGuard;
use super::outcome::AttemptOutcome;
use super::staleness::is_stale;
use super::stop_signal::{StopReason, StopSignal};
use crate::error::{Error, ErrorKind, Result};
use crate::names::RunId;
use crate::pipeline::RELEASE_TIMEOUT;
use crate::pipeline::panics::catch_panic;
use crate::pipeline::shutdown::Shutdown;
use crate::report::{RunResult, UpdateKind};
use crate::retry::{RetryPolicy, delay_after};
use crate::run::{JobSpec, TestCounts};
use crate::traits::Claim;
use crate::verdict::Verdict;

/// How long a result is still given to the queue after a shutdown has become urgent.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// How a result is given to the queue while the broker is away.
const COMPLETE: RetryPolicy =
    RetryPolicy { tries: 0, first: Duration::from_millis(500), cap: Duration::from_secs(15) };

/// How a claim ended, for the statistics.
pub(super) enum Ended {
    Finished,
    Unfinished,
}

impl OperatorContext {
    /// Runs a claimed job as it was defined when it was claimed, until its lease has ended one way or another.
    pub(super) async fn run_claim(
        self: Arc<Self>,
        claim: Box<dyn Claim>,
        spec: Option<Arc<JobSpec>>,
        _guards: (ProbeGuard, RoomGuard),
        operator_stop: StopSignal,
        shutdown: Shutdown,
    ) -> Ended {
        let job = claim.job().clone();
        let Some(spec) = spec else {
            let why = format!("this operator does not define a job named {}", job.name);
            return ended(claim.reject(&why).await, Ended::Unfinished);
        };
        let stop = operator_stop.child();
        let mut attempt = Attempt::new(&self, spec, job, claim.run().clone(), stop.clone());
        tracing::info!(run = %attempt.run, job = %attempt.job.name, patchset = %attempt.job.target(), attempt = attempt.number, "claimed");
        let (started, began) = (self.clock.now(), Instant::now());
        // On the heap: the job with its change is large.
        let work = Box::pin(async {
            let outcome = match self.cancellations.reason_for(&attempt.job) {
                Some(reason) => AttemptOutcome::Stopped(reason),
                None => self.run_catching_panics(&mut attempt).await,
            };
            let outcome = match stop.reason() {
                Some(reason) if reason.is_urgent() => AttemptOutcome::Stopped(reason),
                // A service manager may end the processes of a stage together with this one: that is no failure of
                // the infrastructure.
                _ if shutdown.has_begun() && outcome.is_infrastructure() => {
                    AttemptOutcome::Stopped(StopReason::HandBack)
                }
                _ => outcome.exhaust_retries(attempt.number, attempt.spec.attempts),
            };
            let result = match self.result_of(&attempt, &outcome, started, began.elapsed()) {
                Some(result) => Some((complete(claim.as_ref(), &result, &stop).await, result)),
                None => None,
            };
            (outcome, result)
        });
        let (outcome, result) = with_lease(claim.as_ref(), &stop, work).await;
        // At the same time: a slow cloud must not keep the claim, nor a slow reporter the machine.
        let settled = async {
            match result {
                Some((completed, result)) => self.after_completion(&attempt, completed, result).await,
                None => self.return_claim(claim, &attempt, outcome).await,
            }
        };
        let (ended, ()) = tokio::join!(settled, self.release(&attempt.run));
        ended
    }

    /// Runs the attempt. A panic in a part is an infrastructure failure of this attempt.
    async fn run_catching_panics(&self, attempt: &mut Attempt<'_>) -> AttemptOutcome {
        match catch_panic(self.run(attempt)).await {
            Ok(outcome) => outcome,
            Err(panic) => {
                tracing::error!(run = %attempt.run, "a part panicked: {panic}");
                let why = "a part of the pipeline panicked; its log has more".to_owned();
                AttemptOutcome::Infrastructure { why, last: Verdict::RetryLimit }
            }
        }
    }

    /// Runs the attempt, and stops it when a control message says so.
    async fn run(&self, attempt: &mut Attempt<'_>) -> AttemptOutcome {
        let (stop, job) = (attempt.stop.clone(), attempt.job.clone());
        let watch_cancellations = async {
            let reason = self.cancellations.wait_for(&job).await;
            tracing::info!(job = %job.id, ?reason, "stopping the run");
            stop.set(reason);
            std::future::pending::<std::convert::Infallible>().await
        };
        let run = async {
            if let Some(lookup) = &self.change_status {
                tokio::select! {
                    biased;
                    () = attempt.stop.any().cancelled() => return attempt.stopped(),
                    stale = is_stale(lookup.as_ref(), self.settings.get().supersede, &attempt.job) => {
                        if stale { return AttemptOutcome::Stopped(StopReason::Superseded) }
                    }
                }
            }
            attempt.run().await
        };
        tokio::select! {
            biased;
            outcome = run => outcome,
            never = watch_cancellations => match never {},
        }
    }

    /// The result of an attempt that ended the job; none when the job will run again.
    fn result_of(
        &self,
        attempt: &Attempt<'_>,
        outcome: &AttemptOutcome,
        started: Timestamp,
        took: Duration,
    ) -> Option<RunResult> {
        let (verdict, reason) = match outcome {
            AttemptOutcome::Verdict(verdict, reason) => (verdict.clone(), reason.clone()),
            AttemptOutcome::Stopped(StopReason::Superseded) => (Verdict::Superseded, None),
            AttemptOutcome::Stopped(StopReason::Cancelled) => (Verdict::Cancelled, None),
            AttemptOutcome::Infrastructure { .. }
            | AttemptOutcome::NoRoom { .. }
            | AttemptOutcome::HostFault { .. }
            | AttemptOutcome::Misconfigured { .. }
            | AttemptOutcome::Stopped(_) => return None,
        };
        let stages = || attempt.stages.iter().map(|stage| &stage.outcome);
        let mut tests: Option<TestCounts> = None;
        for counts in stages().filter_map(|stage| stage.tests) {
            *tests.get_or_insert_default() += counts;
        }
        let stage_url = stages().rev().find_map(|stage| stage.log_url.clone());
        let run_url = attempt.logs.url.clone().filter(|_| !attempt.stages.is_empty());
        let report = RunResult::new(attempt.run.clone(), attempt.job.clone(), verdict, started, took)
            .with_attempts(attempt.number)
            .with_stages(attempt.stages.clone())
            .with_tests(tests)
            .with_log_url(stage_url.or(run_url))
            .with_reason(reason);
        Some(report)
    }

    async fn release(&self, run: &RunId) {
        let release = tokio::time::timeout(RELEASE_TIMEOUT, self.provisioner.release(run, &self.journal));
        let why = match catch_panic(release).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.during("provisioner::release").to_string(),
            Ok(Err(_)) => format!("not done within {RELEASE_TIMEOUT:?}"),
            Err(panic) => format!("the provisioner panicked: {panic}"),
        };
        tracing::error!(%run, "could not release the node, the orphan sweep will try again: {why}");
    }

    /// Sends the last step of a run that has ended its job.
    async fn after_completion(
        &self,
        attempt: &Attempt<'_>,
        completed: Result<()>,
        result: RunResult,
    ) -> Ended {
        match completed {
            Ok(()) => {
                attempt.notify(UpdateKind::Finished { result: Box::new(result) }).await;
                Ended::Finished
            }
            Err(error) => {
                tracing::error!(run = %attempt.run, verdict = %result.verdict, "the result is lost, the job will run again: {error}");
                attempt
                    .notify(UpdateKind::HandedBack { why: format!("its result was not accepted: {error}") })
                    .await;
                Ended::Unfinished
            }
        }
    }

    /// Ends the lease of an attempt without a result.
    async fn return_claim(
        &self,
        claim: Box<dyn Claim>,
        attempt: &Attempt<'_>,
        outcome: AttemptOutcome,
    ) -> Ended {
        match outcome {
            // These have a result.
            AttemptOutcome::Verdict(..)
            | AttemptOutcome::Stopped(StopReason::Superseded | StopReason::Cancelled) => Ended::Unfinished,
            // In each case the claim first: a slow reporter must not let the lease run out.
            AttemptOutcome::Infrastructure { why, .. } => {
                let settings = self.settings.get();
                let after = delay_after(settings.retry_delay, settings.retry_delay_cap, attempt.number);
                tracing::warn!(
                    run = %attempt.run,
                    job = %attempt.job.name,
                    patchset = %attempt.job.target(),
                    attempt = attempt.number,
                    "the infrastructure failed, another attempt follows: {why}"
                );
                let ended = ended(claim.retry(after, &why).await, Ended::Unfinished);
                attempt.notify(UpdateKind::Retrying { why, after }).await;
                ended
            }
            AttemptOutcome::NoRoom { why } => {
                tracing::warn!(run = %attempt.run, "no room for a node, the job returns to the queue: {why}");
                let ended = ended(claim.hand_back().await, Ended::Unfinished);
                attempt.notify(UpdateKind::HandedBack { why }).await;
                ended
            }
            AttemptOutcome::HostFault { why } => {
                tracing::error!(run = %attempt.run, "this host cannot run jobs, the job returns to the queue: {why}");
                let ended = ended(claim.hand_back().await, Ended::Unfinished);
                attempt.notify(UpdateKind::HandedBack { why }).await;
                ended
            }
            AttemptOutcome::Misconfigured { why } => {
                tracing::error!(run = %attempt.run, "the lab is not set up for this job, it becomes a dead letter: {why}");
                let ended = ended(claim.reject(&why).await, Ended::Unfinished);
                attempt.notify(UpdateKind::HandedBack { why }).await;
                ended
            }
            AttemptOutcome::Stopped(StopReason::LeaseLost) => {
                attempt.notify(UpdateKind::HandedBack { why: UpdateKind::LEASE_LOST.into() }).await;
                Ended::Unfinished
            }
            AttemptOutcome::Stopped(StopReason::HandBack) => {
                let ended = ended(claim.hand_back().await, Ended::Unfinished);
                attempt.notify(UpdateKind::HandedBack { why: "the operator is shutting down".into() }).await;
                ended
            }
        }
    }
}

/// Gives the result to the queue, with texts of bounded length because it may come from a node, as often as it takes, until the lease has ended or a shutdown does not wait any more.
async fn complete(claim: &dyn Claim, result: &RunResult, stop: &StopSignal) -> Result<()> {
    let gives_up = async {
        tokio::select! {
            () = stop.over().cancelled() => {}
            () = async { stop.urgent().cancelled().await; tokio::time::sleep(LAST_CHANCE).await } => {}
        }
    };
    let result = result.clone().bounded();
    tokio::select! {
        biased;
        completed = COMPLETE.run("claim::complete", || claim.complete(&result)) => completed,
        () = gives_up => Err(Error::temporary(ErrorKind::TimedOut, "the queue did not accept it in time")),
    }
}

/// A claim that could not be settled loses nothing: the lease runs out, and the job runs again.
fn ended(result: Result<()>, how: Ended) -> Ended {
    match result {
        Ok(()) => how,
        Err(error) if error.kind() == ErrorKind::LeaseLost => {
            tracing::error!("the lease was lost at the end: {error}");
            Ended::Unfinished
        }
        Err(error) => {
            tracing::error!("could not settle the claim, its lease will run out: {error}");
            how
        }
    }
}
