//! One attempt of a job: provisions its node, runs its stages, and decides how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outcome::AttemptOutcome;
use super::stop_signal::{StopReason, StopSignal};
use super::{LogLocation, OperatorContext};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::line_sink::LineSink;
use crate::names::RunId;
use crate::node::{Node, NodeRequest};
use crate::pipeline::notify::notify;
use crate::report::{StageResult, Update, UpdateKind};
use crate::run::{JobSpec, RunWhen, Stage, StageContext, StageOutcome, StageStatus};
use crate::verdict::Verdict;

/// Lines of a stage that wait for slow reporters; the console log gets all of them regardless.
const LINES_WAITING: usize = 256;

/// How long reporters may take for the lines that are left when a stage has ended.
const LINES_GRACE: Duration = Duration::from_secs(30);

/// A stage that fails earlier for want of a part of the operator's host has not run: its host is broken, whatever the
/// job is.
const BROKEN_AT_START: Duration = Duration::from_secs(60);

/// How long an executor may take to end its processes after a stage's time limit or a cancellation, before the stage
/// is abandoned.
const EXECUTOR_GRACE: Duration = Duration::from_secs(60);

/// One attempt of a job.
pub(super) struct Attempt<'a> {
    context: &'a OperatorContext,
    pub(super) spec: Arc<JobSpec>,
    pub(super) job: Job,
    pub(super) run: RunId,
    pub(super) number: u32,
    pub(super) logs: LogLocation,
    pub(super) stop: StopSignal,
    pub(super) stages: Vec<StageResult>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        context: &'a OperatorContext,
        spec: Arc<JobSpec>,
        job: Job,
        run: RunId,
        stop: StopSignal,
    ) -> Self {
        let (number, logs) = (job.failed_attempts.saturating_add(1), context.logs.of(&run, &job));
        Self { context, spec, job, run, number, logs, stop, stages: Vec::new() }
    }

    /// Provisions, runs the stages, and returns how it ended. The caller releases the node.
    pub(super) async fn run(&mut self) -> AttemptOutcome {
        self.notify(UpdateKind::Started).await;
        self.notify(UpdateKind::Provisioning).await;
        let node = match self.provision().await {
            Ok(node) => node,
            Err(outcome) => return outcome,
        };
        self.notify(UpdateKind::NodeReady { name: node.name.clone(), address: node.address.clone() }).await;
        let nodes = [node];
        let outcome = self.main_stages(&nodes).await;
        self.always_stages(&nodes, outcome).await
    }

    async fn provision(&mut self) -> std::result::Result<Node, AttemptOutcome> {
        let name =
            format!("pushbutton-{}-{}-{}", self.job.name, self.job.change.number, self.job.patchset.number);
        let (label, deadline) = (self.spec.node.clone(), self.spec.boot_timeout);
        let request = NodeRequest::new(self.run.clone(), self.job.id.clone(), label, name, deadline);
        let OperatorContext { provisioner, journal, breaker, no_room, clock, .. } = self.context;
        // Before its own, a node may wait three times its deadline for the boots of others.
        let limit = deadline.saturating_mul(4).saturating_add(EXECUTOR_GRACE);
        let provisioned = tokio::select! {
            biased;
            () = self.stop.any().cancelled() => return Err(self.stopped()),
            provisioned = tokio::time::timeout(limit, provisioner.provision(&request, journal)) => provisioned,
        };
        let result =
            provisioned.unwrap_or_else(|_| Err(Error::temporary(ErrorKind::TimedOut, "no node in time")));
        match result {
            Ok(node) => {
                breaker.node_up(clock.as_ref());
                no_room.node_up(&self.run, &request.label, &self.job.id, clock.as_ref());
                Ok(node)
            }
            Err(error) => {
                let error = error.during("provisioner::provision").with("label", &request.label);
                tracing::warn!(run = %self.run, "no node: {error}");
                // Nothing of the job has run, so it is not counted.
                if AttemptOutcome::is_host_fault(&error) {
                    breaker.host_fault(&error.to_string(), clock.as_ref());
                    return Err(AttemptOutcome::HostFault { why: error.message().to_owned() });
                }
                let outcome = AttemptOutcome::no_node(&error);
                // It is not broken, and has its own gate.
                if matches!(outcome, AttemptOutcome::NoRoom { .. }) {
                    let (label, job, why) = (&request.label, &self.job.id, error.to_string());
                    let counts = no_room.no_room(&self.run, label, job, &why, clock.as_ref());
                    return Err(if counts { outcome.count_no_room() } else { outcome });
                }
                // A wrong setting of one job's node says nothing about other jobs. A request that the cloud forbids most
                // likely does.
                let is_jobs_own = matches!(outcome, AttemptOutcome::Misconfigured { .. });
                if !is_jobs_own || error.kind() == ErrorKind::Denied {
                    breaker.no_node(&self.run, &error.to_string(), clock.as_ref());
                }
                Err(outcome)
            }
        }
    }

    /// The stages that run on success, in order, until one does not pass.
    async fn main_stages(&mut self, nodes: &[Node]) -> AttemptOutcome {
        let spec = Arc::clone(&self.spec);
        let end = deadline_after(spec.timeout);
        for stage in spec.stages.iter().filter(|stage| stage.run == RunWhen::OnSuccess) {
            if self.stop.is_set() {
                return self.stopped();
            }
            // The run's limit cuts the stage's own.
            let timeout = stage.timeout.min(end.saturating_duration_since(Instant::now()));
            let cancel = self.stop.any().clone();
            let began = Instant::now();
            let result = match timeout {
                Duration::ZERO => Ok(no_time_left()),
                _ => self.stage(stage, timeout, nodes, &cancel).await,
            };
            if result.is_ok() {
                self.context.breaker.stage_ran(self.context.clock.as_ref());
            }
            let passed = result.as_ref().is_ok_and(|outcome| outcome.status == StageStatus::Passed);
            let outcome = match &result {
                Ok(outcome) => AttemptOutcome::of_stage(stage, outcome, self.stop.reason()),
                Err(error) => Some(self.stage_not_run(error, began.elapsed())),
            };
            self.stages.extend(result.ok().map(|outcome| StageResult::new(stage.name.clone(), outcome)));
            // Why a stopped stage did not pass is known here, whatever the executor reports: the end of its processes
            // may look like a failure of the tests.
            if self.stop.is_set() && !passed {
                return self.stopped();
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        AttemptOutcome::Verdict(Verdict::Success, None)
    }

    /// What it means that a stage could not be run at all. A fault of this host stops the operator from claiming more
    /// jobs. The job itself is counted only if it may have caused the fault: if one of its stages has run, or this one for
    /// a while.
    fn stage_not_run(&self, error: &Error, took: Duration) -> AttemptOutcome {
        if AttemptOutcome::is_host_fault(error) {
            self.context.breaker.host_fault(&error.to_string(), self.context.clock.as_ref());
            if self.stages.is_empty() && took < BROKEN_AT_START {
                return AttemptOutcome::HostFault { why: error.message().to_owned() };
            }
        }
        AttemptOutcome::no_stage(error)
    }

    /// The stages that always run, each within its own time limit, unless the run must end at once.
    async fn always_stages(&mut self, nodes: &[Node], mut outcome: AttemptOutcome) -> AttemptOutcome {
        let spec = Arc::clone(&self.spec);
        for stage in spec.stages.iter().filter(|stage| stage.run == RunWhen::Always) {
            if self.stop.reason().is_some_and(StopReason::is_urgent) {
                return self.stopped();
            }
            let cancel = self.stop.urgent().clone();
            outcome = match self.stage(stage, stage.timeout, nodes, &cancel).await {
                Ok(stage_outcome) => {
                    let outcome = outcome.after_always(stage, &stage_outcome);
                    self.stages.push(StageResult::new(stage.name.clone(), stage_outcome));
                    outcome
                }
                Err(error) => {
                    tracing::error!(run = %self.run, stage = %stage.name, "could not be run: {error}");
                    let failed =
                        StageOutcome::new(StageStatus::Failed, Duration::ZERO).with_detail(error.to_string());
                    outcome.after_always(stage, &failed)
                }
            };
        }
        if self.stop.reason().is_some_and(StopReason::is_urgent) { self.stopped() } else { outcome }
    }

    async fn stage(
        &self,
        stage: &Stage,
        timeout: Duration,
        nodes: &[Node],
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        self.notify(UpdateKind::StageStarted { stage: stage.name.clone() }).await;
        let began = Instant::now();
        let context = self.stage_context(stage);
        let stage = stage.clone().with_timeout(timeout);
        let (sink, mut lines) = LineSink::bounded(LINES_WAITING);
        // When the executor has returned, the lines end, unless it has kept a sink.
        let work = async {
            let sink = sink;
            // By its contract the executor keeps the limit and stops when cancelled. This is for one that does not.
            let abandoned = async {
                tokio::select! {
                    () = tokio::time::sleep(timeout.saturating_add(EXECUTOR_GRACE)) => StageStatus::TimedOut,
                    () = async { cancel.cancelled().await; tokio::time::sleep(EXECUTOR_GRACE).await } => StageStatus::Cancelled,
                    () = self.stop.over().cancelled() => StageStatus::Cancelled,
                }
            };
            tokio::select! {
                biased;
                result = self.context.executor.execute(&stage, nodes, &context, &sink, cancel) => result,
                status = abandoned => {
                    tracing::error!(run = %self.run, stage = %stage.name, ?status, "the executor did not end the stage in time: abandoned");
                    Ok(StageOutcome::new(status, began.elapsed()))
                }
            }
        };
        let has_ended = CancellationToken::new();
        let work = async {
            let result = work.await;
            has_ended.cancel();
            result
        };
        let forward = async {
            while let Some(line) = lines.recv().await {
                self.notify(UpdateKind::Line { stage: stage.name.clone(), line }).await;
            }
        };
        // Not the executor's: a slow reporter, or a sink that was kept, must not hold the run.
        let too_late = async {
            has_ended.cancelled().await;
            tokio::select! {
                () = tokio::time::sleep(LINES_GRACE) => {}
                () = self.stop.over().cancelled() => {}
            }
            tracing::warn!(run = %self.run, stage = %stage.name, "reporters miss the last lines: they were too slow");
        };
        let forward = async {
            tokio::select! {
                biased;
                () = forward => {}
                () = too_late => {}
            }
        };
        let (result, ()) = tokio::join!(work, forward);
        let outcome = result.map_err(|error| error.during("executor::execute").with("stage", &stage.name))?;
        let outcome = outcome.with_took(began.elapsed());
        self.notify(UpdateKind::StageEnded { stage: stage.name.clone(), outcome: outcome.clone() }).await;
        Ok(outcome)
    }

    fn stage_context(&self, stage: &Stage) -> StageContext {
        let mut vars = self.spec.vars.clone();
        vars.extend(stage.vars.clone());
        let failed = self.stages.iter().any(|stage| stage.outcome.status != StageStatus::Passed);
        StageContext::new(self.run.clone(), self.job.clone(), &self.logs.dir)
            .with_attempt(self.number)
            .with_log_url(self.logs.url.clone())
            .with_vars(vars)
            .with_failed_so_far(failed)
    }

    pub(super) fn stopped(&self) -> AttemptOutcome {
        AttemptOutcome::Stopped(self.stop.reason().unwrap_or(StopReason::HandBack))
    }

    pub(super) async fn notify(&self, kind: UpdateKind) {
        let update = Update::new(self.job.clone(), kind, self.context.clock.now())
            .with_run(self.run.clone())
            .with_attempt(self.number);
        notify(&self.context.reporters, &update).await;
    }
}

/// The time limit as a point in time. A limit that is too large to represent is a year: no run takes that long.
pub(super) fn deadline_after(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

/// The outcome of a stage that could not begin before the run's time limit.
fn no_time_left() -> StageOutcome {
    StageOutcome::new(StageStatus::TimedOut, Duration::ZERO)
        .with_detail("the job's time limit had passed before it began".to_owned())
}
