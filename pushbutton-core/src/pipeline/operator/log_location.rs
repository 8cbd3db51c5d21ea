use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::names::RunId;
use crate::setters::setters;

/// Where logs are on this machine, and where people read them. In a configuration this is `logs:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogLocation {
    /// The folder.
    pub dir: PathBuf,
    /// The URL that shows it. Default: none, and reports link to no logs.
    #[serde(default)]
    pub url: Option<String>,
}

impl LogLocation {
    /// A folder that no URL shows.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), url: None }
    }

    /// A run's own folder below it: two digits, change, patch set, job, run. As in Zuul, so that no folder gets too
    /// many entries and no rerun hides an earlier run.
    pub fn of(&self, run: &RunId, job: &Job) -> Self {
        let change = job.change.number.0;
        let path = format!("{:02}/{change}/{}/{}/{run}", change % 100, job.patchset.number, job.name);
        Self {
            dir: self.dir.join(&path),
            url: self.url.as_ref().map(|url| format!("{}/{path}/", url.trim_end_matches('/'))),
        }
    }
}

setters!(LogLocation { url / with_url: Option<String> });
