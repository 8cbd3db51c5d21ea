//! What is reported of a run: an update at every step, and its result at the end.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::names::{RunId, StageName};
use crate::run::{StageOutcome, TestCounts, TestTime, seconds};
use crate::setters::setters;
use crate::text::cut;
use crate::verdict::Verdict;

/// How many bytes of a reason, or of a text of a stage, [`RunResult::bounded`] keeps.
const MAX_REASON: usize = 2_000;

/// How many bytes of one kind of texts [`RunResult::bounded`] keeps of all stages together.
const MAX_STAGE_TEXTS: usize = 10_000;

/// The longest name of a page of test results that [`RunResult::bounded`] keeps, in bytes.
const MAX_PAGE_NAME: usize = 100;

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
        /// The result.
        result: Box<RunResult>,
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
pub struct RunResult {
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

impl RunResult {
    /// The result of a first attempt without stages.
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

    /// The same with texts cut so that they take at most some 50 KiB in all, for a queue with a limit: the reason, and
    /// of each stage the details and the names of failed tests. A URL that is too long is left out.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let short_url = |url: &String| url.len() <= MAX_REASON;
        self.log_url = self.log_url.filter(short_url);
        shorten(&mut self.reason, MAX_REASON);
        let each = (MAX_STAGE_TEXTS / self.stages.len().max(1)).min(MAX_REASON);
        for StageResult { outcome, .. } in &mut self.stages {
            bound(outcome, each);
        }
        self
    }

    /// Names of tests that failed, of all stages, the first few of each.
    pub fn failed_tests(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().flat_map(|stage| stage.outcome.failed_tests.iter().map(String::as_str))
    }

    /// The slowest tests of all stages, the slowest first, at most `most`.
    pub fn slowest_tests(&self, most: usize) -> Vec<&TestTime> {
        TestTime::slowest(self.stages.iter().map(|stage| &stage.outcome), most)
    }
}

setters!(RunResult {
    attempts / with_attempts: u32,
    stages / with_stages: Vec<StageResult>,
    tests / with_tests: Option<TestCounts>,
    log_url / with_log_url: Option<String>,
    reason / with_reason: Option<String>,
});

fn shorten(text: &mut Option<String>, most: usize) {
    if let Some(text) = text {
        text.truncate(cut(text, most).len());
    }
}

fn bound(outcome: &mut StageOutcome, each: usize) {
    shorten(&mut outcome.detail, each);
    shorten(&mut outcome.lab_fault, each);
    outcome.log_url = outcome.log_url.take().filter(|url| url.len() <= each);
    let mut left = each;
    outcome.failed_tests.retain(|test| {
        // With its quotation marks.
        let size = test.len() + 4;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    outcome.slowest_tests.retain(|test| {
        // With the names of its fields and its time.
        let size = test.name.len() + 50;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    outcome.test_page = outcome.test_page.take().filter(|page| page.len() <= MAX_PAGE_NAME);
}

impl StageOutcome {
    /// The same with texts cut to some 2 KiB each, and names of failed tests to some 2 KiB together.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        bound(&mut self, MAX_REASON);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::StageStatus;
    use crate::samples;

    #[test]
    fn a_result_of_any_size_is_bounded_and_an_ordinary_one_is_not_changed() {
        let outcome = |text: &str, tests: usize| {
            StageOutcome::new(StageStatus::Failed, Duration::ZERO)
                .with_detail(Some(text.to_owned()))
                .with_lab_fault(Some(text.to_owned()))
                .with_log_url(Some(text.to_owned()))
                .with_failed_tests(vec![text.to_owned(); tests])
                .with_slowest_tests(vec![TestTime::new(text, Duration::from_secs(9)); tests])
                .with_test_page(Some(text.to_owned()))
        };
        let result = |text: &str, stages: usize, tests: usize| {
            let stage = StageResult::new("run".parse().unwrap(), outcome(text, tests));
            samples::success(&samples::job("tempest"))
                .with_reason(Some(text.to_owned()))
                .with_log_url(Some(text.to_owned()))
                .with_stages(vec![stage; stages])
        };
        let ordinary = result("test_attach_volume", 4, 5);
        assert_eq!(ordinary.clone().bounded(), ordinary);
        for huge in [result(&"\u{1f980}".repeat(50_000), 5, 3), result("test", 60, 100_000)] {
            let size = serde_json::to_vec(&huge.bounded()).unwrap().len();
            assert!(size < 64 << 10, "{size}");
        }
    }
}
