use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{Job, JobState, Result, RunId, StageName, StageOutcome, TestCounts, Verdict};
use serde::Serialize;

/// Answers what the pages ask of past and present runs. An embedder implements it over whatever keeps its runs.
#[async_trait]
pub trait RunHistory: Send + Sync {
    /// Lists the latest runs, those that run now included, the newest first; at most `limit`.
    async fn recent(&self, limit: usize) -> Result<Vec<RunView>>;

    /// Counts the known runs by their result word ([`Verdict::result`]).
    async fn verdicts(&self) -> Result<Vec<(String, u64)>>;

    /// Tells when a run last ended as a success.
    async fn last_success(&self) -> Result<Option<Timestamp>>;
}

/// One run, as pages and the API show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// The job that it is an attempt of.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Where it stands.
    pub state: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it runs.
    pub ended: Option<Timestamp>,
    /// The node's name, once there is one.
    pub node: Option<String>,
    /// How it ended, when it ended with a verdict.
    pub verdict: Option<Verdict>,
    /// Why it is not a success, in one line.
    pub reason: Option<String>,
    /// Where its logs are.
    pub log_url: Option<String>,
    /// Counts of all its tests, where there were any.
    pub tests: Option<TestCounts>,
    /// Its stages, in order.
    pub stages: Vec<StageView>,
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageView {
    /// Its name.
    pub stage: StageName,
    /// When it began.
    pub started: Timestamp,
    /// How it ended; none while it runs.
    pub outcome: Option<StageOutcome>,
}
