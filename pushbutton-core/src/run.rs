//! What a job does when it runs: its stages, what they are given, and how they end.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ident::{JobName, NodeLabel, RunId, StageName};
use crate::job::Job;

/// What a job's name means to an operator.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// The kind of node it needs.
    pub node: NodeLabel,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// Variables for every stage.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// How often an infrastructure failure is tried, the first time included. Zuul's default, 3, is a good one.
    pub attempts: u32,
    /// How long the node may take until it answers SSH.
    pub boot_timeout: Duration,
    /// How long all stages that do not run `always` may take together.
    pub timeout: Duration,
}

/// One playbook of a run.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name.
    pub name: StageName,
    /// The playbook, as the executor understands it: for Ansible a path below its playbook folder.
    pub playbook: String,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// When it runs.
    pub run: RunWhen,
    /// How long it may take.
    pub timeout: Duration,
    /// Variables for this stage alone; they win over the job's.
    pub vars: BTreeMap<String, serde_json::Value>,
}

/// What a stage's failure means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The patch or its tests failed: the verdict is `Failure`.
    #[default]
    Fail,
    /// The lab failed: the run is tried again.
    Retry,
}

/// When a stage runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunWhen {
    /// When all stages before it succeeded.
    #[default]
    OnSuccess,
    /// Also after failure, timeout and cancellation, with a time limit of its own: to gather and publish logs.
    Always,
}

/// What a stage is given.
#[derive(Debug, Clone)]
pub struct StageContext {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Where the run's logs lie on this machine: the console log, and whatever stages gather. Published as it is.
    pub log_dir: PathBuf,
    /// Where people will read that folder.
    pub log_url: Option<String>,
    /// The job's variables, overlaid by the stage's.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Whether a stage before this one failed, timed out or was cancelled: what `always` stages may want to know.
    pub failed_so_far: bool,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageOutcome {
    /// In one word.
    pub status: StageStatus,
    /// How long it took.
    #[serde(with = "seconds")]
    pub took: Duration,
    /// What failed, in one line, as `task "Run tempest" on node: exit 1`.
    #[serde(default)]
    pub detail: Option<String>,
    /// Tests that the stage ran, where it left results.
    #[serde(default)]
    pub tests: Option<TestCounts>,
    /// Names of some tests that failed, the first few.
    #[serde(default)]
    pub failed_tests: Vec<String>,
    /// A URL of the logs that the stage itself knows (a publisher to elsewhere); it wins over the run's own.
    #[serde(default)]
    pub log_url: Option<String>,
}

impl StageOutcome {
    /// An outcome that is a status and nothing else.
    pub fn of(status: StageStatus, took: Duration) -> Self {
        Self { status, took, detail: None, tests: None, failed_tests: Vec::new(), log_url: None }
    }
}

/// How a stage ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageStatus {
    /// All went well.
    Passed,
    /// A task failed.
    Failed,
    /// The node could not be reached: infrastructure, never the patch (ansible-playbook exits 4).
    Unreachable,
    /// The time limit passed; its processes were ended.
    TimedOut,
    /// It was told to stop; its processes were ended.
    Cancelled,
}

/// Counts of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCounts {
    /// Passed, expected failures included.
    pub passed: u64,
    /// Failed, unexpected successes included.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

impl AddAssign for TestCounts {
    fn add_assign(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.skipped = self.skipped.saturating_add(other.skipped);
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
