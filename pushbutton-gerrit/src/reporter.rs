//! [`Reporter`] on Gerrit: one comment for each job, when its run has a verdict.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{JobId, Report, Reporter, Result, Update, UpdateKind};

use crate::client::Gerrit;
use crate::message::{comment, mark};
use crate::review::{Posted, Review, Target};

/// After a post whose answer never came, a Gerrit that answers again may still be about to carry it out: a server that was frozen finds
/// the old command and our new question at the same moment.
const SETTLE: Duration = Duration::from_secs(5);

/// Comments on the change when a run is finished, if its verdict is of use to the people there; takes note of nothing else.
///
/// Before it posts it looks for the job's mark among our own messages on the change. So it speaks once, also when it is told twice or
/// an operator has died between posting and completing the job. After a post whose answer was lost it gives Gerrit some seconds first.
pub struct GerritReporter {
    gerrit: Arc<Gerrit>,
    /// Jobs whose comment may have been posted, or may yet be.
    doubtful: Mutex<HashSet<JobId>>,
}

impl GerritReporter {
    /// A reporter on this server, with the comments as the server's configuration says.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self { gerrit, doubtful: Mutex::default() }
    }

    fn doubtful(&self) -> std::sync::MutexGuard<'_, HashSet<JobId>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until Gerrit answers, and then until what it was told before must have happened.
    async fn settle(&self, job: &JobId) -> Result<()> {
        if self.doubtful().contains(job) {
            self.gerrit.version().await?;
            tokio::time::sleep(SETTLE).await;
        }
        Ok(())
    }

    async fn has_spoken(&self, report: &Report) -> Result<bool> {
        let mark = mark(&report.job.id);
        let own = self.gerrit.config().own_names();
        let messages = self.gerrit.messages(report.job.change.number).await?;
        // Only our own: anybody can type the mark.
        Ok(messages.iter().any(|message| {
            own.iter().any(|name| message.author.is(name)) && message.text.lines().any(|line| line == mark)
        }))
    }
}

/// The review that tells of a report: the comment, the tag, and the vote that the mode allows.
pub(crate) fn review_of(gerrit: &crate::GerritConfig, report: &Report) -> Review {
    let config = &gerrit.comment;
    let vote = config.vote_for(&report.verdict).map(|value| (config.label.clone(), value));
    Review {
        message: comment(config, &gerrit.user, report),
        tag: Some(config.tag_for(&gerrit.user)),
        labels: vote.into_iter().collect::<BTreeMap<_, _>>(),
        notify: config.notify,
    }
}

#[async_trait]
impl Reporter for GerritReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        let UpdateKind::Finished { report } = &update.kind else { return Ok(()) };
        if !report.verdict.is_reported() {
            return Ok(());
        }
        let target = report.job.target();
        let place = |error: pushbutton_core::Error| error.during("gerrit::report").with("change", &target);
        self.settle(&report.job.id).await.map_err(place)?;
        if self.has_spoken(report).await.map_err(place)? {
            self.doubtful().remove(&report.job.id);
            tracing::info!(change = %target, job = %report.job.id, "the verdict stands on the change already");
            return Ok(());
        }
        let review = review_of(self.gerrit.config(), report);
        let on = Target::Patchset(report.job.change.number, report.job.patchset.number);
        let posted = self.gerrit.review(&on, &review).await;
        if posted.as_ref().is_err_and(pushbutton_core::Error::is_temporary) {
            self.doubtful().insert(report.job.id.clone());
        } else {
            self.doubtful().remove(&report.job.id);
        }
        match posted.map_err(place)? {
            Posted::Whole => tracing::info!(change = %target, verdict = %report.verdict, "commented"),
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
