use std::path::PathBuf;

use crate::job::Job;
use crate::names::RunId;
use crate::setters::setters;

/// Where logs are on this machine, and where people read them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLocation {
    /// The folder.
    pub dir: PathBuf,
    /// The URL that shows it, without a slash at the end.
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
