//! One attempt's way through its node and stages, to an ending.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::LogPlace;
use super::attempt::Worker;
use super::judge::Ending;
use super::stop::{Reason, Stop};
use crate::error::{Error, ErrorKind, Result};
use crate::ident::{RunId, StageName};
use crate::job::Job;
use crate::job_state::JobState;
use crate::node::{Node, NodeRequest};
use crate::pipeline::tell::tell;
use crate::report::{Update, UpdateKind};
use crate::run::{JobSpec, RunWhen, Stage, StageContext, StageOutcome, StageStatus};
use crate::seam::LineSink;
use crate::verdict::Verdict;

/// Lines of a stage that wait for slow reporters; the console log gets all of them regardless.
const LINES_WAITING: usize = 256;

/// After a stage's time limit, and after a cancellation, its executor gets so long to end its processes before the stage is given up.
const EXECUTOR_GRACE: Duration = Duration::from_secs(60);

/// One attempt of a job.
pub(super) struct Attempt<'a> {
    pub(super) worker: &'a Worker,
    pub(super) spec: Arc<JobSpec>,
    pub(super) job: Job,
    pub(super) run: RunId,
    pub(super) number: u32,
    pub(super) logs: LogPlace,
    pub(super) stop: Stop,
    pub(super) state: JobState,
    pub(super) stages: Vec<(StageName, StageOutcome)>,
}

impl Attempt<'_> {
    /// Provisions, runs the stages, and says how it ended. Leaves the node for the caller to release.
    pub(super) async fn go(&mut self) -> Ending {
        self.tell(UpdateKind::Started).await;
        self.enter(JobState::Provisioning);
        self.tell(UpdateKind::Provisioning).await;
        let node = match self.provision().await {
            Ok(node) => node,
            Err(ending) => return ending,
        };
        self.tell(UpdateKind::NodeReady { name: node.name.clone(), address: node.address.clone() }).await;
        self.enter(JobState::Running);
        let nodes = [node];
        let ending = self.main_stages(&nodes).await;
        self.always_stages(&nodes, ending).await
    }

    async fn provision(&mut self) -> std::result::Result<Node, Ending> {
        let request = NodeRequest {
            run: self.run.clone(),
            job: self.job.id.clone(),
            label: self.spec.node.clone(),
            name: format!(
                "pushbutton-{}-{}-{}",
                self.job.name, self.job.change.number, self.job.patchset.number
            ),
            deadline: self.spec.boot_timeout,
        };
        let limit = request.deadline + EXECUTOR_GRACE;
        let provisioned = tokio::select! {
            biased;
            () = self.stop.any().cancelled() => return Err(self.stopped()),
            provisioned = tokio::time::timeout(limit, self.worker.provisioner.provision(&request)) => provisioned,
        };
        let result =
            provisioned.unwrap_or_else(|_| Err(Error::temporary(ErrorKind::TimedOut, "no node in time")));
        let (pulse, clock) = (&self.worker.pulse, self.worker.clock.as_ref());
        match result {
            Ok(node) => {
                pulse.came_up(clock);
                Ok(node)
            }
            Err(error) => {
                let error = error.during("provisioner::provision").with("label", &request.label);
                tracing::warn!(run = %self.run, "no node: {error}");
                let ending = Ending::no_node(&error);
                // What is wrong with one job's own node says nothing of the others'; a cloud that lets nobody in says it of all.
                let is_jobs_own = matches!(ending, Ending::Misconfigured { .. });
                if !is_jobs_own || error.kind() == ErrorKind::Denied {
                    pulse.failed(&self.run, &error.to_string(), clock);
                }
                Err(ending)
            }
        }
    }

    /// The stages that run on success, in order, until one does not pass.
    async fn main_stages(&mut self, nodes: &[Node]) -> Ending {
        let spec = Arc::clone(&self.spec);
        let end = Instant::now() + spec.timeout;
        for stage in spec.stages.iter().filter(|stage| stage.run == RunWhen::OnSuccess) {
            if self.stop.is_set() {
                return self.stopped();
            }
            // The run's limit cuts the stage's own.
            let timeout = stage.timeout.min(end.saturating_duration_since(Instant::now()));
            let cancel = self.stop.any().clone();
            let result = match timeout {
                Duration::ZERO => Ok(no_time_left()),
                _ => self.stage(stage, timeout, nodes, &cancel).await,
            };
            match result {
                Ok(outcome) => {
                    let ending = Ending::of_stage(stage, &outcome, self.stop.reason());
                    self.stages.push((stage.name.clone(), outcome));
                    if let Some(ending) = ending {
                        return ending;
                    }
                }
                Err(error) => return Ending::no_stage(&error),
            }
        }
        Ending::Verdict(Verdict::Success, None)
    }

    /// The stages that always run, each within its own time limit; unless the job must be let go of at once.
    async fn always_stages(&mut self, nodes: &[Node], mut ending: Ending) -> Ending {
        let spec = Arc::clone(&self.spec);
        if !spec.stages.iter().any(|stage| stage.run == RunWhen::Always) {
            return ending;
        }
        if !self.stop.reason().is_some_and(Reason::is_urgent) {
            self.enter(JobState::Collecting);
        }
        for stage in spec.stages.iter().filter(|stage| stage.run == RunWhen::Always) {
            if self.stop.reason().is_some_and(Reason::is_urgent) {
                return self.stopped();
            }
            let cancel = self.stop.urgent().clone();
            ending = match self.stage(stage, stage.timeout, nodes, &cancel).await {
                Ok(outcome) => {
                    let ending = ending.after_always(stage, &outcome);
                    self.stages.push((stage.name.clone(), outcome));
                    ending
                }
                Err(error) => {
                    tracing::error!(run = %self.run, stage = %stage.name, "could not be run: {error}");
                    let outcome = StageOutcome {
                        detail: Some(error.to_string()),
                        ..StageOutcome::of(StageStatus::Failed, Duration::ZERO)
                    };
                    ending.after_always(stage, &outcome)
                }
            };
        }
        if self.stop.reason().is_some_and(Reason::is_urgent) { self.stopped() } else { ending }
    }

    async fn stage(
        &self,
        stage: &Stage,
        timeout: Duration,
        nodes: &[Node],
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        self.tell(UpdateKind::StageStarted { stage: stage.name.clone() }).await;
        let began = Instant::now();
        let context = self.context(stage);
        let stage = Stage { timeout, ..stage.clone() };
        let (sink, mut lines) = LineSink::bounded(LINES_WAITING);
        // One sink for the executor alone: when it returns, the lines end.
        let work = async {
            let sink = sink;
            // The executor keeps the limit itself, and obeys; this is for one that does not.
            let given_up = async {
                tokio::select! {
                    () = tokio::time::sleep(timeout + EXECUTOR_GRACE) => StageStatus::TimedOut,
                    () = async { cancel.cancelled().await; tokio::time::sleep(EXECUTOR_GRACE).await } => StageStatus::Cancelled,
                    () = self.stop.over().cancelled() => StageStatus::Cancelled,
                }
            };
            tokio::select! {
                biased;
                result = self.worker.executor.execute(&stage, nodes, &context, &sink, cancel) => result,
                status = given_up => {
                    tracing::error!(run = %self.run, stage = %stage.name, ?status, "the executor has not ended it in time: given up");
                    Ok(StageOutcome::of(status, began.elapsed()))
                }
            }
        };
        let forward = async {
            while let Some(line) = lines.recv().await {
                self.tell(UpdateKind::Line { stage: stage.name.clone(), line }).await;
            }
        };
        let (result, ()) = tokio::join!(work, forward);
        let outcome = result.map_err(|error| error.during("executor::execute").with("stage", &stage.name))?;
        let outcome = StageOutcome { took: began.elapsed(), ..outcome };
        self.tell(UpdateKind::StageEnded { stage: stage.name.clone(), outcome: outcome.clone() }).await;
        Ok(outcome)
    }

    fn context(&self, stage: &Stage) -> StageContext {
        let mut vars = self.spec.vars.clone();
        vars.extend(stage.vars.clone());
        StageContext {
            run: self.run.clone(),
            job: self.job.clone(),
            attempt: self.number,
            log_dir: self.logs.dir.clone(),
            log_url: self.logs.url.clone(),
            vars,
            failed_so_far: self.stages.iter().any(|(_, outcome)| outcome.status != StageStatus::Passed),
        }
    }

    pub(super) fn stopped(&self) -> Ending {
        Ending::Stopped(self.stop.reason().unwrap_or(Reason::HandBack))
    }

    /// Goes to the next state; a change that is not legal is a defect, told and survived.
    pub(super) fn enter(&mut self, next: JobState) {
        match self.state.become_next(next) {
            Ok(state) => self.state = state,
            Err(error) => tracing::error!(run = %self.run, "{error}"),
        }
    }

    pub(super) async fn tell(&self, kind: UpdateKind) {
        let update = Update {
            run: Some(self.run.clone()),
            job: self.job.clone(),
            attempt: self.number,
            at: self.worker.clock.now(),
            kind,
        };
        tell(&self.worker.reporters, &update).await;
    }
}

/// The outcome of a stage that could not begin before the run's time limit.
fn no_time_left() -> StageOutcome {
    StageOutcome {
        detail: Some("no time was left for it".into()),
        ..StageOutcome::of(StageStatus::TimedOut, Duration::ZERO)
    }
}
