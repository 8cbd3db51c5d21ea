//! What is kept of past runs, and who answers questions about it.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::ControlMessage;
use crate::error::Result;
use crate::job::Job;
use crate::names::{RunId, StageName};
use crate::run::{StageOutcome, TestCounts};
use crate::setters::setters;
use crate::shared_history::{DeliveryRecord, ParticipantRecord};
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

    /// One run.
    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>>;

    /// Lists the latest control messages: what was superseded, cancelled and muted, and by whom; the newest first.
    async fn actions(&self, limit: usize) -> Result<Vec<ControlMessage>>;

    /// Lists the reports that were last delivered or tried, the newest first.
    async fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>>;

    /// Lists the participants that have said how they are, the last to do so first.
    async fn participants(&self) -> Result<Vec<ParticipantRecord>>;
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
