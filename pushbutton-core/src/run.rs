//! What a job does when it runs: its stages, their input, and how they end.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::human;
use crate::job::Job;
use crate::names::{NodeLabel, RunId, StageName};
use crate::setters::setters;

/// What a job's name means to an operator. In a configuration this is an entry of `jobs:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobSpec {
    /// The label of the node that it needs.
    pub node: NodeLabel,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// Variables for every stage. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// How often a job is attempted when the infrastructure fails, including the first time. Default: 3, as Zuul's.
    #[serde(default = "three")]
    pub attempts: u32,
    /// How long the node may take until it accepts SSH connections. Default: 10 minutes.
    #[serde(default = "ten_minutes", with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub boot_timeout: Duration,
    /// How long all stages that do not run `always` may take together. Default: 3 hours.
    #[serde(default = "three_hours", with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub timeout: Duration,
}

impl JobSpec {
    /// A job on this kind of node, without stages, with the default limits.
    pub fn new(node: NodeLabel) -> Self {
        Self {
            node,
            stages: Vec::new(),
            vars: BTreeMap::new(),
            attempts: three(),
            boot_timeout: ten_minutes(),
            timeout: three_hours(),
        }
    }

    /// Adds a stage after the ones that are already there.
    #[must_use]
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }
}

setters!(JobSpec {
    stages / with_stages: Vec<Stage>,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
    attempts / with_attempts: u32,
    boot_timeout / with_boot_timeout: Duration,
    timeout / with_timeout: Duration,
});

/// One playbook of a run. In a configuration this is an element of a job's `stages:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Stage {
    /// Its name, as reports show it.
    pub name: StageName,
    /// The playbook, as the executor understands it: for Ansible a path below its playbook folder.
    pub playbook: String,
    /// What its failure means. Default: `fail`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Regular expressions (the `regex` crate's syntax). A failure with output that one of them matches is the
    /// infrastructure's, whatever `on_failure` says: the job is tried again, within its `attempts`. They are searched in
    /// the message and the last lines of the task that failed. The element `defaults` stands for
    /// [patterns](crate::retry_when::DEFAULT_RETRY_PATTERNS) of git, pip, apt, DNS, disks, mirrors and rate limits. Default:
    /// `[defaults]`.
    #[serde(default = "default_patterns")]
    pub retry_when: Vec<String>,
    /// When it runs. Default: `on-success`.
    #[serde(default)]
    pub run: RunWhen,
    /// How long it may take. Default: an hour.
    #[serde(default = "an_hour", with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub timeout: Duration,
    /// Variables for this stage alone; they override the job's. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

impl Stage {
    /// A stage that runs on success, whose failure is the patch's, and which may take an hour.
    pub fn new(name: StageName, playbook: impl Into<String>) -> Self {
        Self {
            name,
            playbook: playbook.into(),
            on_failure: OnFailure::Fail,
            retry_when: default_patterns(),
            run: RunWhen::OnSuccess,
            timeout: an_hour(),
            vars: BTreeMap::new(),
        }
    }
}

setters!(Stage {
    on_failure / with_on_failure: OnFailure,
    retry_when / with_retry_when: Vec<String>,
    run / with_run: RunWhen,
    timeout / with_timeout: Duration,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
});

fn default_patterns() -> Vec<String> {
    vec![crate::retry_when::DEFAULTS.to_owned()]
}

const fn three() -> u32 {
    3
}

const fn ten_minutes() -> Duration {
    Duration::from_secs(10 * 60)
}

const fn an_hour() -> Duration {
    Duration::from_secs(60 * 60)
}

const fn three_hours() -> Duration {
    Duration::from_secs(3 * 60 * 60)
}

/// What a stage's failure means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnFailure {
    /// The patch or its tests failed: the verdict is `FAILURE`.
    #[default]
    Fail,
    /// The lab failed: the job is tried again.
    Retry,
}

/// When a stage runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunWhen {
    /// When all stages before it succeeded.
    #[default]
    OnSuccess,
    /// Also after failure, timeout and cancellation, with a time limit of its own: to gather and publish logs.
    Always,
}

/// The input of a stage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StageContext {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Where the run's logs are on this machine: the console log, and whatever stages gather. Published as it is.
    pub log_dir: PathBuf,
    /// Where people will read that folder.
    pub log_url: Option<String>,
    /// The job's variables, overridden by the stage's.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Whether a stage before this one failed, timed out or was cancelled: `always` stages may need to know.
    pub failed_so_far: bool,
}

impl StageContext {
    /// The context of a first attempt without variables, whose logs have no URL.
    pub fn new(run: RunId, job: Job, log_dir: impl Into<PathBuf>) -> Self {
        let (log_url, vars) = (None, BTreeMap::new());
        Self { run, job, attempt: 1, log_dir: log_dir.into(), log_url, vars, failed_so_far: false }
    }
}

setters!(StageContext {
    attempt / with_attempt: u32,
    log_url / with_log_url: Option<String>,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
    failed_so_far / with_failed_so_far: bool,
});

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageOutcome {
    /// In one word.
    pub status: StageStatus,
    /// How long it took.
    #[serde(with = "seconds")]
    pub took: Duration,
    /// What failed, in one line, as `task "Run tempest" on node: exit 1`.
    #[serde(default)]
    pub detail: Option<String>,
    /// What in the output of a failed stage says that the infrastructure failed, in one line, as
    /// `git server: "fatal: early EOF"`: a pattern of [`Stage::retry_when`] matched it. Or that its test results are
    /// incomplete. The pipeline then tries the job again.
    #[serde(default)]
    pub lab_fault: Option<String>,
    /// What does not merge, in one line, where that is why the stage failed. It ends the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_conflict: Option<String>,
    /// Counts of the tests that the stage ran, where it left results.
    #[serde(default)]
    pub tests: Option<TestCounts>,
    /// Names of some tests that failed, the first few.
    #[serde(default)]
    pub failed_tests: Vec<String>,
    /// Some tests that took longest, the slowest first. Empty where the results say no times.
    #[serde(default)]
    pub slowest_tests: Vec<TestTime>,
    /// The page with all its tests, relative to the run's log folder, as `testr_results.html.gz`. Each test that is not a
    /// success has the anchor [`test_anchor`] there.
    #[serde(default)]
    pub test_page: Option<String>,
    /// A URL of the logs that the stage itself knows (it published them elsewhere); it replaces the run's own.
    #[serde(default)]
    pub log_url: Option<String>,
}

impl StageOutcome {
    /// An outcome with a status and nothing else.
    pub fn new(status: StageStatus, took: Duration) -> Self {
        Self {
            status,
            took,
            detail: None,
            lab_fault: None,
            merge_conflict: None,
            tests: None,
            failed_tests: Vec::new(),
            slowest_tests: Vec::new(),
            test_page: None,
            log_url: None,
        }
    }

    /// Where people read what a test that failed said, relative to the run's log folder.
    pub fn test_link(&self, test: &str) -> Option<String> {
        self.test_page.as_ref().map(|page| format!("{page}#{}", test_anchor(test)))
    }
}

setters!(StageOutcome {
    took / with_took: Duration,
    detail / with_detail: Option<String>,
    lab_fault / with_lab_fault: Option<String>,
    merge_conflict / with_merge_conflict: Option<String>,
    tests / with_tests: Option<TestCounts>,
    failed_tests / with_failed_tests: Vec<String>,
    slowest_tests / with_slowest_tests: Vec<TestTime>,
    test_page / with_test_page: Option<String>,
    log_url / with_log_url: Option<String>,
});

/// How a stage ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageStatus {
    /// Every task succeeded.
    Passed,
    /// A task failed. See [`StageOutcome::lab_fault`] for whose fault it may be.
    Failed,
    /// The node could not be reached: infrastructure, never the patch (ansible-playbook exits 4).
    Unreachable,
    /// The time limit passed; its processes were ended.
    TimedOut,
    /// It was cancelled; its processes were ended.
    Cancelled,
}

/// The anchor of a test in a page of test results: short, plain, and the same wherever it is made from the same name.
pub fn test_anchor(test: &str) -> String {
    // FNV-1a, 64 bits. Two tests with one anchor would only share a link.
    let hash = test.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("t{hash:016x}")
}

/// How long a test took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TestTime {
    /// The test's name.
    pub name: String,
    /// From its begin to its end.
    #[serde(with = "seconds")]
    pub took: Duration,
}

impl TestTime {
    /// A test that took so long.
    pub fn new(name: impl Into<String>, took: Duration) -> Self {
        Self { name: name.into(), took }
    }

    /// The slowest tests of all stages, the slowest first, at most `most`.
    pub(crate) fn slowest<'a>(stages: impl Iterator<Item = &'a StageOutcome>, most: usize) -> Vec<&'a Self> {
        let mut tests: Vec<&Self> = stages.flat_map(|outcome| &outcome.slowest_tests).collect();
        tests.sort_by(|a, b| b.took.cmp(&a.took).then_with(|| a.name.cmp(&b.name)));
        tests.truncate(most);
        tests
    }
}

/// Counts of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TestCounts {
    /// Passed, including expected failures.
    pub passed: u64,
    /// Failed, including unexpected successes.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

impl TestCounts {
    /// These counts.
    pub fn new(passed: u64, failed: u64, skipped: u64) -> Self {
        Self { passed, failed, skipped }
    }
}

impl AddAssign for TestCounts {
    fn add_assign(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_the_same_plain_anchor_everywhere() {
        // Links are in comments that outlive this program: the value must not change.
        assert_eq!(test_anchor(""), "tcbf29ce484222325");
        assert_eq!(
            test_anchor("tempest.api.volume.test_x[id-1]"),
            test_anchor("tempest.api.volume.test_x[id-1]")
        );
        assert_ne!(test_anchor("a"), test_anchor("b"));
        assert!(test_anchor("\"><script>").bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO);
        assert_eq!(outcome.test_link("a"), None);
        let outcome = outcome.with_test_page(Some("testr_results.html.gz".into()));
        assert_eq!(outcome.test_link("").unwrap(), "testr_results.html.gz#tcbf29ce484222325");
    }

    #[test]
    fn the_slowest_tests_of_all_stages_are_sorted_and_few() {
        let outcome = |tests: &[(&str, u64)]| {
            let tests: Vec<_> =
                tests.iter().map(|(name, s)| TestTime::new(*name, Duration::from_secs(*s))).collect();
            StageOutcome::new(StageStatus::Passed, Duration::ZERO).with_slowest_tests(tests)
        };
        let stages = [outcome(&[("a", 5), ("b", 2)]), outcome(&[("c", 9), ("d", 2)])];
        let names: Vec<_> =
            TestTime::slowest(stages.iter(), 3).into_iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
}

/// Durations as seconds with a fraction, in records.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}
