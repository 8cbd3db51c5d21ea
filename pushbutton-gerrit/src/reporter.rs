//! [`Reporter`] on Gerrit: one comment for each job, when its run has a verdict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::SignedDuration;
use pushbutton_core::{Account, Error, JobId, Report, Reporter, Result, Update, UpdateKind};

use crate::client::Gerrit;
use crate::client::review::{Posted, REVIEW, Review, Target};
use crate::error::is_unknown_refusal;
use crate::message::{comment, dedup_footer};

/// How long to wait for a review whose answer was lost, after Gerrit answers again: a server that was frozen may
/// start the old command and the new query at the same time.
const LOST_ANSWER_DELAY: Duration = Duration::from_secs(5);

/// How long a refusal with an unknown text is retried by default: longer than Gerrit needs to restart.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How far Gerrit's clock may be behind ours. Only messages since the job was made can be about it: an older one with
/// the same job id is of an earlier run, by an installation that has lost its state, or another one of this account.
/// Gerrit's own time of the event is no better bound: the position of an event stays behind every gap in the stream.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(10);

/// Comments on the change when a run is finished, if people there need its verdict. Ignores all other updates.
///
/// Before it posts, it looks for the job's [footer](crate::message::dedup_footer) in the account's messages on the
/// change since the job was made. So a job gets one comment, also if an update is repeated, or an operator dies between
/// posting and completing the job. After a post whose answer was lost, it first waits until Gerrit must have carried it
/// out.
///
/// Where Gerrit refuses the vote, the comment is posted without it. A refusal with an unknown text is retried for 15
/// minutes, then once without the vote, and is then permanent.
///
/// # Cancel safety
/// A dropped call may have posted the comment. The next call for the same job finds it.
#[derive(Debug)]
pub struct GerritReporter {
    gerrit: Arc<Gerrit>,
    refusal_limit: Duration,
    failed: Mutex<HashMap<JobId, FailedPost>>,
}

/// The last try to post the report of a job failed.
#[derive(Debug, Default)]
struct FailedPost {
    /// Since when Gerrit refuses it with an unknown text. None: it was another error, and the post may have arrived.
    refused_since: Option<Instant>,
}

impl GerritReporter {
    /// A reporter on this server.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self { gerrit, refusal_limit: REFUSAL_LIMIT, failed: Mutex::default() }
    }

    /// For how long a refusal with an unknown text is retried. Default: 15 minutes.
    #[must_use]
    pub fn with_refusal_limit(mut self, limit: Duration) -> Self {
        self.refusal_limit = limit;
        self
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, FailedPost>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until Gerrit answers, and then until it must have carried out the earlier post.
    async fn wait_for_lost_post(&self, job: &JobId) -> Result<()> {
        let is_unconfirmed = self.failed().get(job).is_some_and(|post| post.refused_since.is_none());
        if is_unconfirmed {
            self.gerrit.version().await?;
            tokio::time::sleep(LOST_ANSWER_DELAY).await;
        }
        Ok(())
    }

    async fn has_reported(&self, report: &Report) -> Result<bool> {
        let footer = dedup_footer(&report.job.id);
        let user = &self.gerrit.config().user;
        // Only in messages of the login that posts: anybody can type the footer.
        let matches =
            |author: &Account, text: &str| author.is(user) && text.lines().any(|line| line == footer);
        let since = report.job.created.checked_sub(CLOCK_DIFFERENCE).unwrap_or(report.job.created);
        self.gerrit.has_message(report.job.change.number, since, matches).await
    }

    /// Posts the report unless the change has it already: then the result is none.
    async fn try_report(&self, report: &Report, target: &Target, review: &Review) -> Result<Option<Posted>> {
        self.wait_for_lost_post(&report.job.id).await?;
        if self.has_reported(report).await? {
            return Ok(None);
        }
        self.gerrit.review(target, review).await.map(Some)
    }

    /// Remembers that a try failed. Returns true if Gerrit has refused it for so long that it is not tried again.
    fn is_refused_for_good(&self, job: &JobId, error: &Error) -> bool {
        let mut failed = self.failed();
        let post = failed.entry(job.clone()).or_default();
        if !is_unknown_refusal(error) {
            post.refused_since = None;
            return false;
        }
        post.refused_since.get_or_insert_with(Instant::now).elapsed() >= self.refusal_limit
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
        let review = review_of(self.gerrit.config(), report);
        let on = Target::Patchset(report.job.change.number, report.job.patchset.number);
        let mut result = self.try_report(report, &on, &review).await;
        if let Err(error) = &result {
            if self.is_refused_for_good(&report.job.id, error) {
                let is_vote_the_trouble = !review.labels.is_empty() && error.context(REVIEW).is_some();
                result = match is_vote_the_trouble {
                    true => self.gerrit.review_without_vote(&on, &review, error).await.map(Some),
                    false => result,
                }
                .map_err(Error::retried_out);
            }
        }
        if !result.as_ref().is_err_and(Error::is_temporary) {
            self.failed().remove(&report.job.id);
        }
        match result.map_err(context)? {
            None => {
                tracing::info!(change = %target, job = %report.job.id, "the change already has the comment")
            }
            Some(Posted::Complete) => {
                tracing::info!(change = %target, verdict = %report.verdict, "commented")
            }
            Some(Posted::WithoutVote(why)) => {
                tracing::warn!(change = %target, verdict = %report.verdict, "commented without a vote: {why}")
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "gerrit"
    }
}
