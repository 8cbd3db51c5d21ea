//! [`Reporter`] on Gerrit: one comment for each job, when its run has a verdict.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{Account, Error, JobId, Report, Reporter, Result, Update, UpdateKind};

use crate::client::Gerrit;
use crate::client::review::{Posted, Review, Target};
use crate::message::{comment, dedup_footer};

/// How long to wait for a review whose answer was lost, after Gerrit answers again: a server that was frozen may
/// start the old command and the new query at the same time.
const LOST_ANSWER_DELAY: Duration = Duration::from_secs(5);

/// Comments on the change when a run is finished, if people there need its verdict. Ignores all other updates.
///
/// Before it posts, it looks for the job's [footer](crate::message::dedup_footer) in the account's messages on the
/// change. So a job gets one comment, also if an update is repeated, or an operator dies between posting and
/// completing the job. After a post whose answer was lost, it first waits until Gerrit must have carried it out.
///
/// # Cancel safety
/// A dropped call may have posted the comment. The next call for the same job finds it.
#[derive(Debug)]
pub struct GerritReporter {
    gerrit: Arc<Gerrit>,
    /// Jobs with a post whose answer was lost.
    unconfirmed: Mutex<HashSet<JobId>>,
}

impl GerritReporter {
    /// A reporter on this server.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self { gerrit, unconfirmed: Mutex::default() }
    }

    fn unconfirmed(&self) -> std::sync::MutexGuard<'_, HashSet<JobId>> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until Gerrit answers, and then until it must have carried out the earlier post.
    async fn wait_for_lost_post(&self, job: &JobId) -> Result<()> {
        if self.unconfirmed().contains(job) {
            self.gerrit.version().await?;
            tokio::time::sleep(LOST_ANSWER_DELAY).await;
        }
        Ok(())
    }

    async fn has_reported(&self, report: &Report) -> Result<bool> {
        let footer = dedup_footer(&report.job.id);
        let own = self.gerrit.config().own_names();
        // Only in the account's own messages: anybody can type the footer.
        let matches = |author: &Account, text: &str| {
            own.iter().any(|name| author.is(name)) && text.lines().any(|line| line == footer)
        };
        self.gerrit.has_message(report.job.change.number, matches).await
    }
}

/// The report in this update, if people on the change need it.
pub(crate) fn report_to_post(update: &Update) -> Option<&Report> {
    match &update.kind {
        UpdateKind::Finished { report } if report.verdict.is_reported() => Some(report),
        _ => None,
    }
}

/// The review for a report: the comment, the tag, and the vote that the vote mode allows.
pub(crate) fn review_of(gerrit: &crate::GerritConfig, report: &Report) -> Review {
    let config = &gerrit.comment;
    let review = Review::new(comment(config, &gerrit.user, report))
        .with_tag(config.tag_for(&gerrit.user))
        .with_notify(config.notify);
    match config.vote_for(&report.verdict) {
        Some(value) => review.with_vote(&config.label, value),
        None => review,
    }
}

#[async_trait]
impl Reporter for GerritReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        let Some(report) = report_to_post(update) else { return Ok(()) };
        let target = report.job.target();
        let context = |error: Error| error.during("gerrit::report").with("change", &target);
        self.wait_for_lost_post(&report.job.id).await.map_err(context)?;
        if self.has_reported(report).await.map_err(context)? {
            self.unconfirmed().remove(&report.job.id);
            tracing::info!(change = %target, job = %report.job.id, "the change already has the comment");
            return Ok(());
        }
        let review = review_of(self.gerrit.config(), report);
        let on = Target::Patchset(report.job.change.number, report.job.patchset.number);
        let posted = self.gerrit.review(&on, &review).await;
        if posted.as_ref().is_err_and(Error::is_temporary) {
            self.unconfirmed().insert(report.job.id.clone());
        } else {
            self.unconfirmed().remove(&report.job.id);
        }
        match posted.map_err(context)? {
            Posted::Complete => tracing::info!(change = %target, verdict = %report.verdict, "commented"),
            Posted::WithoutVote(why) => {
                tracing::warn!(change = %target, verdict = %report.verdict, "commented without a vote: {why}")
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "gerrit"
    }
}
