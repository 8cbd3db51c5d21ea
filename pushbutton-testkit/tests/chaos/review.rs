//! The review, with a reporter like Gerrit's: it looks for an earlier comment before it posts, and a comment that was
//! sent arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{BuildsetId, BuildsetReport, JobId, Reporter, Result, Verdict};

/// How long a query takes, and how long a comment takes to arrive.
const ROUND_TRIP: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Review {
    comments: Arc<Mutex<BTreeMap<BuildsetId, Vec<BuildsetReport>>>>,
}

impl Review {
    pub(crate) fn comments_on(&self, job: &JobId) -> Vec<Verdict> {
        let comments = self.comments.lock().unwrap();
        let results = comments.values().flatten().flat_map(|report| &report.results);
        results.filter(|result| result.job.id == *job).map(|result| result.verdict.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.comments.lock().unwrap().values().map(Vec::len).sum()
    }
}

#[async_trait]
impl Reporter for Review {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        tokio::time::sleep(ROUND_TRIP).await;
        if self.comments.lock().unwrap().contains_key(&report.id) {
            return Ok(());
        }
        let (comments, report) = (Arc::clone(&self.comments), report.clone());
        let posted = tokio::spawn(async move {
            tokio::time::sleep(ROUND_TRIP).await;
            comments.lock().unwrap().entry(report.id.clone()).or_default().push(report);
        });
        posted.await.unwrap();
        Ok(())
    }

    fn name(&self) -> &str {
        "review"
    }
}
