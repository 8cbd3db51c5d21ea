use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::{HumanDuration, human};
use crate::job::Job;
use crate::names::RunId;
use crate::setters::setters;

/// Where logs are on this machine, and where people read them. In a configuration this is `logs:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogLocation {
    /// The folder.
    pub dir: PathBuf,
    /// The URL that shows it. Default: none, and reports link to no logs.
    #[serde(default)]
    pub url: Option<String>,
    /// How long the folders of runs are kept after their last change; zero: forever. OpenStack's rules for third-party CIs
    /// ask for a month. Default: 32 days.
    #[serde(default = "a_month", with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub keep: Duration,
}

/// A month of 31 days, and a day for who reads late in it.
const fn a_month() -> Duration {
    Duration::from_secs(32 * 24 * 3600)
}

/// Shorter than this a run could lose its folder while people still look at its result.
const MIN_KEEP: Duration = Duration::from_secs(24 * 3600);

impl LogLocation {
    /// A folder that no URL shows.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), url: None, keep: a_month() }
    }

    /// What is wrong with the values: each problem begins with its key, as `keep: must be ...`.
    pub fn problems(&self) -> Vec<String> {
        let is_too_short = !self.keep.is_zero() && self.keep < MIN_KEEP;
        let problem = || format!("keep: must be at least {}, or 0s forever", HumanDuration(MIN_KEEP));
        is_too_short.then(problem).into_iter().collect()
    }

    /// A run's own folder below it: two digits, change, patch set, job, run. As in Zuul, so that no folder gets too
    /// many entries and no rerun hides an earlier run.
    pub fn of(&self, run: &RunId, job: &Job) -> Self {
        let change = job.change.number.0;
        let path = format!("{:02}/{change}/{}/{}/{run}", change % 100, job.patchset.number, job.name);
        Self {
            dir: self.dir.join(&path),
            keep: self.keep,
            url: self.url.as_ref().map(|url| format!("{}/{path}/", url.trim_end_matches('/'))),
        }
    }
}

setters!(LogLocation { url / with_url: Option<String>, keep / with_keep: Duration });
