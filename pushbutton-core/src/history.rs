//! What is kept of past runs, and who answers questions about it.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::Job;
use crate::names::{RunId, StageName};
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
