use jiff::Timestamp;
use pushbutton_core::{Job, JobState, RunId, StageName, StageOutcome, TestCounts, Verdict};

/// One run, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// The job that it is an attempt of.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Where it stands: claimed, provisioning, running, retrying (given up without a verdict) or completed.
    pub state: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, with or without a verdict; none while it runs.
    pub ended: Option<Timestamp>,
    /// The node's name, once there is one.
    pub node: Option<String>,
    /// How it ended; none while it runs, and for runs that were given back or retried.
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

/// One stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRecord {
    /// Its name.
    pub stage: StageName,
    /// When it began, as far as was told.
    pub started: Timestamp,
    /// How it ended; none while it runs.
    pub outcome: Option<StageOutcome>,
}
