use std::path::PathBuf;

use crate::ident::RunId;
use crate::job::Job;

/// Where logs lie on this machine, and where people read them.
#[derive(Debug, Clone)]
pub struct LogPlace {
    /// The folder.
    pub dir: PathBuf,
    /// The URL that shows it, without a slash at the end.
    pub url: Option<String>,
}

impl LogPlace {
    /// A run's own place below: two digits, change, patch set, job, run. As Zuul does it, so that no folder grows without bound and no
    /// rerun hides an earlier run.
    pub fn of(&self, run: &RunId, job: &Job) -> Self {
        let change = job.change.number.0;
        let path = format!("{:02}/{change}/{}/{}/{run}", change % 100, job.patchset.number, job.name);
        Self {
            dir: self.dir.join(&path),
            url: self.url.as_ref().map(|url| format!("{}/{path}/", url.trim_end_matches('/'))),
        }
    }
}
