//! What is reported of a run: an update at every step, and one report at the end.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::names::{RunId, StageName};
use crate::run::{StageOutcome, TestCounts, seconds};
use crate::setters::setters;
use crate::verdict::Verdict;

/// A step of a run, sent to every reporter in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Update {
    /// The run; none before one has begun.
    pub run: Option<RunId>,
    /// The job.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: UpdateKind,
}

impl Update {
    /// A step of a first attempt, before a run has begun.
    pub fn new(job: Job, kind: UpdateKind, at: Timestamp) -> Self {
        Self { run: None, job, attempt: 1, at, kind }
    }
}

setters!(Update { run / with_run: Option<RunId>, attempt / with_attempt: u32 });

/// What happened to a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "update")]
#[non_exhaustive]
pub enum UpdateKind {
    /// The job was put on the queue.
    Queued,
    /// An operator took the job; a run begins.
    Started,
    /// A node is being made.
    Provisioning,
    /// The node is ready.
    NodeReady {
        /// Its name.
        name: String,
        /// Its address.
        address: String,
    },
    /// A stage began.
    StageStarted {
        /// Which.
        stage: StageName,
    },
    /// A stage wrote a line.
    Line {
        /// Which.
        stage: StageName,
        /// The line, without its end; long ones are cut. Hostile text: shown, never interpreted.
        line: String,
    },
    /// A stage ended.
    StageEnded {
        /// Which.
        stage: StageName,
        /// How.
        outcome: StageOutcome,
    },
    /// The infrastructure failed; the job will be tried again.
    Retrying {
        /// Why.
        why: String,
        /// Not before so long from now.
        #[serde(with = "seconds")]
        after: Duration,
    },
    /// The job was returned to the queue without a verdict: shutdown, or a lost lease.
    HandedBack {
        /// Why.
        why: String,
    },
    /// The run ended with a verdict.
    Finished {
        /// The report.
        report: Box<Report>,
    },
}

/// A stage that ended, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageResult {
    /// Which stage.
    pub name: StageName,
    /// How it ended.
    pub outcome: StageOutcome,
}

impl StageResult {
    /// A stage of this name that ended like this.
    pub fn new(name: StageName, outcome: StageOutcome) -> Self {
        Self { name, outcome }
    }
}

/// The result of a finished run, with all that reporters may need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: Job,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Attempts that it took, the last included.
    pub attempts: u32,
    /// When the last attempt began.
    pub started: Timestamp,
    /// How long the last attempt took.
    #[serde(with = "seconds")]
    pub took: Duration,
    /// Its stages, in order.
    pub stages: Vec<StageResult>,
    /// All tests of all stages, where there were any.
    pub tests: Option<TestCounts>,
    /// Where the logs are.
    pub log_url: Option<String>,
    /// Why it is not a success, in one line.
    pub reason: Option<String>,
}

impl Report {
    /// A report of a first attempt without stages.
    pub fn new(run: RunId, job: Job, verdict: Verdict, started: Timestamp, took: Duration) -> Self {
        Self {
            run,
            job,
            verdict,
            attempts: 1,
            started,
            took,
            stages: Vec::new(),
            tests: None,
            log_url: None,
            reason: None,
        }
    }

    /// Names of tests that failed, of all stages, the first few of each.
    pub fn failed_tests(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().flat_map(|stage| stage.outcome.failed_tests.iter().map(String::as_str))
    }
}

setters!(Report {
    attempts / with_attempts: u32,
    stages / with_stages: Vec<StageResult>,
    tests / with_tests: Option<TestCounts>,
    log_url / with_log_url: Option<String>,
    reason / with_reason: Option<String>,
});
