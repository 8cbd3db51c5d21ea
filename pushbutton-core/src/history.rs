//! What is kept of past runs, and who answers questions about it.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::Job;
use crate::names::{RunId, StageName};
use crate::report::{Update, UpdateKind};
use crate::run::{StageOutcome, TestCounts, TestTime};
use crate::setters::setters;
use crate::verdict::Verdict;

/// Answers questions about past and present runs: for dashboards, metrics and `status`.
#[async_trait]
pub trait RunHistory: Send + Sync {
    /// Lists the latest runs, including those that run now, the newest first; at most `limit`.
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>>;

    /// Counts the known runs by their result word ([`Verdict::result`]).
    async fn verdicts(&self) -> Result<Vec<(String, u64)>>;

    /// When a run last ended as a success.
    async fn last_success(&self) -> Result<Option<Timestamp>>;
}

/// One run, as far as it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// The job that it is an attempt of.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// What it does, or how it ended.
    pub state: RunState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, with or without a verdict; none while it runs.
    pub ended: Option<Timestamp>,
    /// The node's name, once there is one.
    pub node: Option<String>,
    /// How it ended; none while it runs, and for runs that were returned or retried.
    pub verdict: Option<Verdict>,
    /// Why it is not a success, in one line.
    pub reason: Option<String>,
    /// Where its logs are.
    pub log_url: Option<String>,
    /// Counts of all its tests, where there were any.
    pub tests: Option<TestCounts>,
    /// Its stages, in order.
    pub stages: Vec<StageRecord>,
}

impl RunRecord {
    /// A run that has just been claimed.
    pub fn new(run: RunId, job: Job, attempt: u32, started: Timestamp) -> Self {
        Self {
            run,
            job,
            attempt,
            state: RunState::Claimed,
            started,
            ended: None,
            node: None,
            verdict: None,
            reason: None,
            log_url: None,
            tests: None,
            stages: Vec::new(),
        }
    }

    /// Enters a step of the run. A run that has ended is not changed, so a step that is told twice counts once. Lines of
    /// output are not kept.
    pub fn apply(&mut self, update: &Update) {
        if self.ended.is_some() {
            return;
        }
        match &update.kind {
            UpdateKind::Provisioning => self.state = RunState::Provisioning,
            UpdateKind::NodeReady { name, .. } => {
                self.state = RunState::Running;
                self.node = Some(name.clone());
            }
            UpdateKind::StageStarted { stage } => {
                self.state = RunState::Running;
                self.stages.push(StageRecord::new(stage.clone(), update.at));
            }
            UpdateKind::StageEnded { stage, outcome } => self.end_stage(stage, outcome, update.at),
            UpdateKind::Retrying { why, .. } | UpdateKind::HandedBack { why } => {
                self.end_without_verdict(update.at, why);
            }
            UpdateKind::Finished { result } => {
                self.state = RunState::Completed;
                self.ended = Some(update.at);
                self.verdict = Some(result.verdict.clone());
                self.reason.clone_from(&result.reason);
                self.log_url.clone_from(&result.log_url);
                self.tests = result.tests;
                for stage in &result.stages {
                    self.end_stage(&stage.name, &stage.outcome, update.at);
                }
            }
            UpdateKind::Queued | UpdateKind::Started | UpdateKind::Line { .. } => {}
        }
    }

    /// Ends the run without a verdict, because of `why`.
    pub fn end_without_verdict(&mut self, at: Timestamp, why: &str) {
        self.state = RunState::Retrying;
        self.ended = Some(at);
        self.reason = Some(why.to_owned());
    }

    /// Sets the stage's outcome. Adds the stage when its start was not told.
    fn end_stage(&mut self, stage: &StageName, outcome: &StageOutcome, at: Timestamp) {
        match self.stages.iter_mut().find(|known| known.stage == *stage) {
            Some(known) => known.outcome = Some(outcome.clone()),
            None => {
                let took = SignedDuration::try_from(outcome.took).unwrap_or_default();
                let started = at.checked_sub(took).unwrap_or(at);
                self.stages
                    .push(StageRecord::new(stage.clone(), started).with_outcome(Some(outcome.clone())));
            }
        }
    }

    /// Names of tests that failed, of all stages, the first few of each.
    pub fn failed_tests(&self) -> impl Iterator<Item = &str> {
        self.outcomes().flat_map(|outcome| outcome.failed_tests.iter().map(String::as_str))
    }

    /// The slowest tests of all stages, the slowest first, at most `most`.
    pub fn slowest_tests(&self, most: usize) -> Vec<&TestTime> {
        TestTime::slowest(self.outcomes(), most)
    }

    fn outcomes(&self) -> impl Iterator<Item = &StageOutcome> {
        self.stages.iter().filter_map(|stage| stage.outcome.as_ref())
    }
}

setters!(RunRecord {
    state / with_state: RunState,
    ended / with_ended: Option<Timestamp>,
    node / with_node: Option<String>,
    verdict / with_verdict: Option<Verdict>,
    reason / with_reason: Option<String>,
    log_url / with_log_url: Option<String>,
    tests / with_tests: Option<TestCounts>,
    stages / with_stages: Vec<StageRecord>,
});

/// What a run does, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunState {
    /// An operator holds the lease; nothing has been made yet.
    Claimed,
    /// A node is being made.
    Provisioning,
    /// Stages run.
    Running,
    /// Ended without a verdict: the job is tried again, or was returned to the queue.
    Retrying,
    /// Ended with a verdict.
    Completed,
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageRecord {
    /// Its name.
    pub stage: StageName,
    /// When it began.
    pub started: Timestamp,
    /// How it ended; none while it runs.
    pub outcome: Option<StageOutcome>,
}

impl StageRecord {
    /// A stage that has begun.
    pub fn new(stage: StageName, started: Timestamp) -> Self {
        Self { stage, started, outcome: None }
    }
}

setters!(StageRecord { outcome / with_outcome: Option<StageOutcome> });
