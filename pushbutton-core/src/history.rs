//! What is kept of past runs, and who answers questions about it.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::Job;
use crate::names::{ChangeNumber, JobName, RunId, StageName};
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

    /// Counts how often each of these tests failed in the last runs of a job on other changes: whether it is flaky.
    /// Default: from [`recent`](Self::recent), among the latest [`RECENT_RUNS`] runs.
    ///
    /// # Contract
    /// - One count for each test of the query, in the same order.
    /// - Counts the newest [`FailureQuery::runs`] runs, by their starts, that are of the job, on other changes, and have
    ///   ended with a verdict and with counts of tests. No other run counts.
    /// - A run with more failed tests than it has names counts only for the tests that it names: about the others it
    ///   says nothing.
    async fn failure_counts(&self, query: &FailureQuery) -> Result<Vec<FailureCount>> {
        let recent = self.recent(RECENT_RUNS).await?;
        Ok(query.count(recent.iter().filter(|run| query.includes(run))))
    }
}

/// How many runs the default of [`RunHistory::failure_counts`] looks at.
pub const RECENT_RUNS: usize = 500;

/// Which runs and which tests [`RunHistory::failure_counts`] counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureQuery {
    /// The job.
    pub job: JobName,
    /// The change whose own runs do not count.
    pub not_on: ChangeNumber,
    /// The names of the tests, as in [`StageOutcome::failed_tests`].
    pub tests: Vec<String>,
    /// The number of runs, at most.
    pub runs: u32,
}

impl FailureQuery {
    /// These tests in the last 20 runs of this job on other changes.
    pub fn new(job: JobName, not_on: ChangeNumber, tests: Vec<String>) -> Self {
        Self { job, not_on, tests, runs: 20 }
    }

    /// Whether this run counts. For implementations.
    pub fn includes(&self, run: &RunRecord) -> bool {
        let is_other = run.job.name == self.job && run.job.change.number != self.not_on;
        is_other && run.verdict.is_some() && run.tests.is_some()
    }

    /// Counts the failures in these runs, the newest first; further runs than [`runs`](Self::runs) do not count. For
    /// implementations.
    pub fn count<'r>(&self, runs: impl IntoIterator<Item = &'r RunRecord>) -> Vec<FailureCount> {
        let mut counts = vec![FailureCount::default(); self.tests.len()];
        for run in runs.into_iter().take(self.runs as usize) {
            let named: HashSet<&str> = run.failed_tests().collect();
            let are_all_named = run.tests.is_none_or(|tests| tests.failed <= named.len() as u64);
            for (test, count) in self.tests.iter().zip(&mut counts) {
                let failed = named.contains(test.as_str());
                count.failed += u32::from(failed);
                count.runs += u32::from(failed || are_all_named);
            }
        }
        counts
    }
}

setters!(FailureQuery { runs / with_runs: u32 });

/// How often a test failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureCount {
    /// In so many runs it failed.
    pub failed: u32,
    /// Of so many.
    pub runs: u32,
}

impl FailureCount {
    /// `failed` of `runs`.
    pub fn new(failed: u32, runs: u32) -> Self {
        Self { failed, runs }
    }
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

    /// Names of tests that failed, of all stages, the first few of each.
    pub fn failed_tests(&self) -> impl Iterator<Item = &str> {
        self.outcomes().flat_map(|outcome| outcome.failed_tests.iter().map(String::as_str))
    }

    /// Enters a step of the run. A run that has ended is not changed again. Long texts are cut, as by
    /// [`RunResult::bounded`](crate::RunResult::bounded), so that a record has a bound.
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
            UpdateKind::StageEnded { stage, outcome } => {
                self.end_stage(stage, outcome.clone().bounded(), update.at);
            }
            UpdateKind::Retrying { why, .. } | UpdateKind::HandedBack { why } => {
                self.end_without_verdict(update.at, why);
            }
            UpdateKind::Finished { result } => {
                let result = result.as_ref().clone().bounded();
                self.state = RunState::Completed;
                self.ended = Some(update.at);
                for stage in result.stages {
                    self.end_stage(&stage.name, stage.outcome, update.at);
                }
                self.verdict = Some(result.verdict);
                self.reason = result.reason;
                self.log_url = result.log_url;
                self.tests = result.tests;
            }
            _ => {}
        }
    }

    /// Ends the run without a verdict: the job is tried again, or the operator has stopped.
    pub fn end_without_verdict(&mut self, at: Timestamp, why: &str) {
        self.state = RunState::Retrying;
        self.ended = Some(at);
        self.reason = Some(why.to_owned());
    }

    /// Sets the stage's outcome. Adds the stage when its start was not reported.
    fn end_stage(&mut self, stage: &StageName, outcome: StageOutcome, at: Timestamp) {
        match self.stages.iter_mut().find(|known| known.stage == *stage) {
            Some(known) => known.outcome = Some(outcome),
            None => {
                let took = SignedDuration::try_from(outcome.took).unwrap_or_default();
                let started = at.checked_sub(took).unwrap_or(at);
                self.stages.push(StageRecord::new(stage.clone(), started).with_outcome(Some(outcome)));
            }
        }
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
