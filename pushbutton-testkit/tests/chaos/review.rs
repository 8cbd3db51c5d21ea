//! The review, with a reporter like Gerrit's: it looks for the job's mark before it posts, and what was sent arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{JobId, Reporter, Result, Update, UpdateKind, Verdict};

/// How long a look takes, and how long a comment is on its way.
const ROUND_TRIP: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Review {
    comments: Arc<Mutex<BTreeMap<JobId, Vec<Verdict>>>>,
    /// Verdicts that are nobody's business upstream.
    unreported: Mutex<BTreeMap<JobId, Verdict>>,
}

impl Review {
    pub(crate) fn comments_on(&self, job: &JobId) -> Vec<Verdict> {
        self.comments.lock().unwrap().get(job).cloned().unwrap_or_default()
    }

    pub(crate) fn unreported_of(&self, job: &JobId) -> Option<Verdict> {
        self.unreported.lock().unwrap().get(job).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.comments.lock().unwrap().values().map(Vec::len).sum()
    }
}

#[async_trait]
impl Reporter for Review {
    async fn report(&self, update: &Update) -> Result<()> {
        let UpdateKind::Finished { report } = &update.kind else { return Ok(()) };
        let (job, verdict) = (report.job.id.clone(), report.verdict.clone());
        if !verdict.is_reported() {
            self.unreported.lock().unwrap().insert(job, verdict);
            return Ok(());
        }
        tokio::time::sleep(ROUND_TRIP).await;
        if self.comments.lock().unwrap().contains_key(&job) {
            return Ok(());
        }
        let comments = Arc::clone(&self.comments);
        let posted = tokio::spawn(async move {
            tokio::time::sleep(ROUND_TRIP).await;
            comments.lock().unwrap().entry(job).or_default().push(verdict);
        });
        posted.await.unwrap();
        Ok(())
    }

    fn name(&self) -> &str {
        "review"
    }
}
