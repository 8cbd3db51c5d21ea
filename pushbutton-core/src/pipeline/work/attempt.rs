//! One claim, from its lease to its end: run the job, release the node, tell the verdict, let the lease go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::board::Board;
use super::currency;
use super::health::{Followed, Pulse};
use super::judge::{Ending, retry_delay};
use super::lease::keeping;
use super::stages::Attempt;
use super::stop::{Reason, Stop};
use super::{Held, LogPlace};
use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::ident::{JobName, RunId};
use crate::job_state::JobState;
use crate::pipeline::mute::Mute;
use crate::pipeline::supersede::SupersedePolicy;
use crate::report::{Report, UpdateKind};
use crate::retry::RetryPolicy;
use crate::run::{JobSpec, TestCounts};
use crate::seam::{Changes, Executor, Provisioner, Queue, Reporter};
use crate::verdict::Verdict;

/// Tries to release a node before it is left to the sweep: about five minutes of them.
const RELEASE: RetryPolicy =
    RetryPolicy { tries: 10, first: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// What all runs of an operator share.
pub(super) struct Worker {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) provisioner: Arc<dyn Provisioner>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) reporters: Vec<Arc<dyn Reporter>>,
    pub(super) jobs: HashMap<JobName, Arc<JobSpec>>,
    pub(super) logs: LogPlace,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Arc<Board>,
    pub(super) mute: Option<Arc<Mute>>,
    pub(super) changes: Option<Arc<dyn Changes>>,
    pub(super) supersede: SupersedePolicy,
    pub(super) pulse: Arc<Pulse>,
    pub(super) retry_first: Duration,
    pub(super) retry_cap: Duration,
}

/// How a claim ended, for the tally.
pub(super) enum Ended {
    Finished,
    Unfinished,
}

impl Worker {
    /// Attends to one claim until its lease has ended, one way or another.
    pub(super) async fn attend(
        self: Arc<Self>,
        claim: Held,
        _followed: Followed,
        operator_stop: Stop,
    ) -> Ended {
        let job = claim.job().clone();
        let Some(spec) = self.jobs.get(&job.name).cloned() else {
            let why = format!("this operator knows no job named {}", job.name);
            return settle(claim.reject(&why).await, Ended::Unfinished);
        };
        let run = claim.run().clone();
        let stop = operator_stop.child();
        let mut attempt = Attempt {
            worker: &self,
            number: job.failed_attempts.saturating_add(1),
            logs: self.logs.of(&run, &job),
            state: JobState::Claimed,
            stages: Vec::new(),
            spec,
            run,
            stop: stop.clone(),
            job,
        };
        tracing::info!(run = %attempt.run, job = %attempt.job.name, target = %attempt.job.target(), attempt = attempt.number, "claimed");
        let (started, began) = (self.clock.now(), Instant::now());
        let ending = keeping(claim.as_ref(), &stop, async {
            let ending = match self.board.verdict_on(&attempt.job) {
                Some(reason) => Ending::Stopped(reason),
                None => self.run(&mut attempt).await,
            };
            let ending = self.last_word(&attempt, ending);
            // The people wait for the word, the cloud for its machine: neither for the other.
            let report = self.report_of(&attempt, &ending, started, began.elapsed());
            if report.is_some() {
                attempt.enter(JobState::Reporting);
            }
            let tell = async {
                if let Some(report) = report {
                    tokio::select! {
                        biased;
                        () = attempt.tell(UpdateKind::Finished { report: Box::new(report) }) => true,
                        () = stop.urgent().cancelled() => false,
                    }
                } else {
                    true
                }
            };
            let (told, ()) = tokio::join!(tell, self.release(&attempt.run));
            // Counted after it was told: the last word before a silence says why.
            if let (true, Some(mute), Ending::Verdict(verdict, _)) = (told, &self.mute, &ending) {
                mute.count(&attempt.job, verdict, self.clock.now());
            }
            if told { ending } else { Ending::Stopped(stop.reason().unwrap_or(Reason::HandBack)) }
        })
        .await;
        self.let_go(claim, &mut attempt, ending).await
    }

    /// Runs the attempt while listening for reasons to stop it.
    async fn run(&self, attempt: &mut Attempt<'_>) -> Ending {
        let (stop, job) = (attempt.stop.clone(), attempt.job.clone());
        let listen = async {
            let reason = self.board.concerns(&job).await;
            tracing::info!(job = %job.id, ?reason, "stopping the run");
            stop.set(reason);
            std::future::pending::<std::convert::Infallible>().await
        };
        let go = async {
            if let Some(changes) = &self.changes {
                tokio::select! {
                    biased;
                    () = attempt.stop.any().cancelled() => return attempt.stopped(),
                    pointless = currency::is_pointless(changes.as_ref(), self.supersede, &attempt.job) => {
                        if pointless { return Ending::Stopped(Reason::Superseded) }
                    }
                }
            }
            attempt.go().await
        };
        tokio::select! {
            biased;
            ending = go => ending,
            never = listen => match never {},
        }
    }

    /// Turns an infrastructure failure into a verdict when no attempt is left.
    fn last_word(&self, attempt: &Attempt<'_>, ending: Ending) -> Ending {
        match ending {
            Ending::Infrastructure { why, last } if attempt.number >= attempt.spec.attempts => {
                Ending::Verdict(last, Some(why))
            }
            other => other,
        }
    }

    fn report_of(
        &self,
        attempt: &Attempt<'_>,
        ending: &Ending,
        started: Timestamp,
        took: Duration,
    ) -> Option<Report> {
        let (verdict, reason) = match ending {
            Ending::Verdict(verdict, reason) => (verdict.clone(), reason.clone()),
            Ending::Stopped(Reason::Superseded) => (Verdict::Superseded, None),
            Ending::Stopped(Reason::Cancelled) => (Verdict::Cancelled, None),
            Ending::Infrastructure { .. } | Ending::Misconfigured { .. } | Ending::Stopped(_) => return None,
        };
        let mut tests: Option<TestCounts> = None;
        for counts in attempt.stages.iter().filter_map(|(_, outcome)| outcome.tests) {
            *tests.get_or_insert_default() += counts;
        }
        let stage_url = attempt.stages.iter().rev().find_map(|(_, outcome)| outcome.log_url.clone());
        let run_url = attempt.logs.url.clone().filter(|_| !attempt.stages.is_empty());
        Some(Report {
            run: attempt.run.clone(),
            job: attempt.job.clone(),
            verdict,
            attempts: attempt.number,
            started,
            took,
            stages: attempt.stages.clone(),
            tests,
            log_url: stage_url.or(run_url),
            reason,
        })
    }

    async fn release(&self, run: &RunId) {
        if let Err(error) = RELEASE.run("provisioner::release", || self.provisioner.release(run)).await {
            tracing::error!(%run, "could not release the node, it is left to the sweep: {error}");
        }
    }

    /// Ends the lease as the ending asks for.
    async fn let_go(&self, claim: Held, attempt: &mut Attempt<'_>, ending: Ending) -> Ended {
        match ending {
            Ending::Verdict(..) | Ending::Stopped(Reason::Superseded | Reason::Cancelled) => {
                attempt.enter(JobState::Completed);
                settle(claim.complete().await, Ended::Finished)
            }
            Ending::Infrastructure { why, .. } => {
                attempt.enter(JobState::Retrying);
                let after = retry_delay(self.retry_first, self.retry_cap, attempt.number);
                tracing::warn!(run = %attempt.run, job = %attempt.job.name, target = %attempt.job.target(), attempt = attempt.number, "the infrastructure failed, another attempt follows: {why}");
                attempt.tell(UpdateKind::Retrying { why: why.clone(), after }).await;
                settle(claim.retry(after, &why).await, Ended::Unfinished)
            }
            Ending::Misconfigured { why } => {
                attempt.enter(JobState::Dead);
                tracing::error!(run = %attempt.run, "the lab is not set up for this job, it goes to the dead letters: {why}");
                attempt.tell(UpdateKind::HandedBack { why: why.clone() }).await;
                settle(claim.reject(&why).await, Ended::Unfinished)
            }
            Ending::Stopped(reason) => {
                attempt.enter(JobState::Retrying);
                let why =
                    if reason == Reason::LeaseLost { "the lease was lost" } else { "the operator is ending" };
                attempt.tell(UpdateKind::HandedBack { why: why.into() }).await;
                // A lost lease is not ours to give back.
                let result = if reason == Reason::LeaseLost { Ok(()) } else { claim.hand_back().await };
                settle(result, Ended::Unfinished)
            }
        }
    }
}

/// An end that could not be told to the queue is no loss: the lease runs out, and what is done twice is done once for the review.
fn settle(result: Result<()>, ended: Ended) -> Ended {
    match result {
        Ok(()) => ended,
        Err(error) if error.kind() == ErrorKind::LeaseLost => {
            tracing::error!("the lease was lost at the end: {error}");
            Ended::Unfinished
        }
        Err(error) => {
            tracing::error!("could not end the lease, it will run out: {error}");
            ended
        }
    }
}
