//! [`Reporter`] on Gerrit: one comment for each job, when its run has a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::{Report, Reporter, Result, Update, UpdateKind};

use crate::client::Gerrit;
use crate::message::{comment, mark};
use crate::review::{Posted, Review, Target};

/// Comments on the change when a run is finished, if its verdict is of use to the people there; takes note of nothing else.
///
/// Before it posts it looks for the job's mark among our own messages on the change. So it speaks once, also when it is told twice or
/// an operator has died between posting and completing the job.
pub struct GerritReporter {
    gerrit: Arc<Gerrit>,
}

impl GerritReporter {
    /// A reporter on this server, with the comments as the server's configuration says.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self { gerrit }
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
        if !report.verdict.is_told() {
            return Ok(());
        }
        let target = report.job.target();
        let place = |error: pushbutton_core::Error| error.during("gerrit::report").with("change", &target);
        if self.has_spoken(report).await.map_err(place)? {
            tracing::info!(change = %target, job = %report.job.id, "the verdict stands on the change already");
            return Ok(());
        }
        let review = review_of(self.gerrit.config(), report);
        let on = Target::Patchset(report.job.change.number, report.job.patchset.number);
        match self.gerrit.review(&on, &review).await.map_err(place)? {
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
