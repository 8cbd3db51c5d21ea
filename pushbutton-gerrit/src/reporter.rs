//! [`Reporter`] on Gerrit: one comment for each buildset.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pushbutton_core::{
    Account, Alerter, BuildsetId, BuildsetReport, Current, Error, Reporter, Result, RunHistory,
};

use crate::client::Gerrit;
use crate::client::review::{Posted, REVIEW, Review, Target};
use crate::error::is_unknown_refusal;
use crate::message::{CommentConfig, dedup_footer};
use crate::template::{EarlierFailures, render};

/// How long to wait for a review whose answer was lost, after Gerrit answers again: a server that was frozen may
/// start the old command and the new query at the same time.
const LOST_ANSWER_DELAY: Duration = Duration::from_secs(5);

/// How long a refusal with an unknown text is retried by default: longer than Gerrit needs to restart.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How far Gerrit's clock may be behind ours. Only messages since the first job was made can be about a buildset: an
/// older one with the same id is of an earlier run, by an installation that has lost its state. Gerrit's own time of the event is no better bound: the position of an event stays behind every gap in the stream.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(10);

/// How long a history may take to answer. A comment without what it knows is better than a late one.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an alert may take.
const ALERT_TIMEOUT: Duration = Duration::from_secs(30);

/// A template that does not work is reported to the lab's people once within this time.
const ALERT_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Failed posts that are remembered. One that is forgotten is only a little less safe: its next try does not wait for a
/// lost answer, and its refusals are counted from then on.
const MAX_FAILED: usize = 1000;

/// Comments on the change when all jobs of a buildset have ended.
///
/// Before it posts, it looks for the buildset's [footer](crate::message::dedup_footer) in the account's messages on the
/// change since the first of its jobs was made. So a buildset gets one comment, also if its report is delivered again,
/// or a handler dies between posting and settling the delivery. After a post whose answer was lost, it first waits
/// until Gerrit must have carried it out.
///
/// Where Gerrit refuses the vote, the comment is posted without it. A refusal with an unknown text is retried for 15
/// minutes, then once without the vote, and is then permanent.
///
/// # Cancel safety
/// A dropped call may have posted the comment. The next call for the same buildset finds it.
pub struct GerritReporter {
    gerrit: Arc<Gerrit>,
    comment: Current<CommentConfig>,
    refusal_limit: Duration,
    failed: Mutex<HashMap<BuildsetId, FailedPost>>,
    history: Option<Arc<dyn RunHistory>>,
    alerter: Option<Arc<dyn Alerter>>,
    /// When the lab's people were last told that the template does not work.
    alerted: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for GerritReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GerritReporter")
            .field("gerrit", &self.gerrit)
            .field("refusal_limit", &self.refusal_limit)
            .finish_non_exhaustive()
    }
}

/// The last try to deliver a report failed, or has not ended.
#[derive(Debug)]
struct FailedPost {
    /// Since when Gerrit refuses it with an unknown text. None: it was another error, and the post may have arrived.
    refused_since: Option<Instant>,
    /// When the last try was made.
    tried: Instant,
}

impl GerritReporter {
    /// A reporter on this server.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self {
            comment: Current::new(gerrit.config().comment.clone()),
            gerrit,
            refusal_limit: REFUSAL_LIMIT,
            failed: Mutex::default(),
            history: None,
            alerter: None,
            alerted: Mutex::default(),
        }
    }

    /// The form of comments, which may be replaced meanwhile. Default: that of the server's configuration.
    #[must_use]
    pub fn with_comment(mut self, comment: Current<CommentConfig>) -> Self {
        self.comment = comment;
        self
    }

    /// Says of each failed test how often it failed in earlier runs of the job on other changes. Default: nothing is
    /// said of earlier runs.
    #[must_use]
    pub fn with_history(mut self, history: impl RunHistory + 'static) -> Self {
        self.history = Some(Arc::new(history));
        self
    }

    /// Tells the lab's people, at most once a day, that the template of comments does not work and the default one was
    /// used. Default: that is only logged.
    #[must_use]
    pub fn with_alerter(mut self, alerter: impl Alerter + 'static) -> Self {
        self.alerter = Some(Arc::new(alerter));
        self
    }

    /// For how long a refusal with an unknown text is retried. Default: 15 minutes.
    #[must_use]
    pub fn with_refusal_limit(mut self, limit: Duration) -> Self {
        self.refusal_limit = limit;
        self
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, HashMap<BuildsetId, FailedPost>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is remembered of a report's last try.
    fn remember(&self, buildset: &BuildsetId, change: impl FnOnce(&mut FailedPost)) {
        let (mut failed, now) = (self.failed(), Instant::now());
        if failed.len() >= MAX_FAILED && !failed.contains_key(buildset) {
            let oldest = failed.iter().min_by_key(|(_, post)| post.tried).map(|(id, _)| id.clone());
            oldest.map(|id| failed.remove(&id));
        }
        let post = failed.entry(buildset.clone()).or_insert(FailedPost { refused_since: None, tried: now });
        post.tried = now;
        change(post);
    }

    /// Waits until Gerrit answers, and then until it must have carried out the earlier post.
    async fn wait_for_lost_post(&self, buildset: &BuildsetId) -> Result<()> {
        let is_unconfirmed = self.failed().get(buildset).is_some_and(|post| post.refused_since.is_none());
        if is_unconfirmed {
            self.gerrit.version().await?;
            tokio::time::sleep(LOST_ANSWER_DELAY).await;
        }
        Ok(())
    }

    async fn has_reported(&self, report: &BuildsetReport) -> Result<bool> {
        let footer = dedup_footer(&report.id);
        let user = &self.gerrit.config().user;
        // Only in messages of the login that posts: anybody can type the footer.
        let matches =
            |author: &Account, text: &str| author.is(user) && text.lines().any(|line| line == footer);
        let created = report.results.iter().map(|result| result.job.created).min();
        let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
        let since = created.checked_sub(CLOCK_DIFFERENCE).unwrap_or(created);
        self.gerrit.has_message(report.change.number, since, matches).await
    }

    /// Posts the report unless the change has it already: then the result is none.
    async fn try_deliver(
        &self,
        report: &BuildsetReport,
        target: &Target,
        review: &Review,
    ) -> Result<Option<Posted>> {
        self.wait_for_lost_post(&report.id).await?;
        if self.has_reported(report).await? {
            return Ok(None);
        }
        // The call may be dropped before the answer comes.
        self.remember(&report.id, |_| {});
        self.gerrit.review(target, review).await.map(Some)
    }

    /// Tells the lab's people that the template does not work.
    async fn report_template(&self, target: &str, problem: &str) {
        tracing::error!(patchset = %target, "the template of comments was not used: {problem}");
        let Some(alerter) = &self.alerter else { return };
        {
            let mut alerted = self.alerted.lock().unwrap_or_else(PoisonError::into_inner);
            if alerted.is_some_and(|at| at.elapsed() < ALERT_PAUSE) {
                return;
            }
            *alerted = Some(Instant::now());
        }
        let text = format!(
            "The comment on {target} was made from the default template, because that of `gerrit.comment.template` \
             does not work for it: {problem}.\n\n\
             Nothing is lost. `pushbutton-bin check` tries the template on examples.\n"
        );
        let alert = alerter.alert("pushbutton: the template of comments does not work", &text);
        match tokio::time::timeout(ALERT_TIMEOUT, alert).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("could not alert a person: {error}"),
            Err(_) => tracing::error!("could not alert a person: no answer in time"),
        }
    }

    /// Remembers that a try failed. Returns true if Gerrit has refused it for so long that it is not tried again.
    fn is_refused_for_good(&self, buildset: &BuildsetId, error: &Error) -> bool {
        let mut refused_since = None;
        self.remember(buildset, |post| {
            let since = is_unknown_refusal(error).then(|| post.refused_since.unwrap_or_else(Instant::now));
            (post.refused_since, refused_since) = (since, since);
        });
        refused_since.is_some_and(|since| since.elapsed() >= self.refusal_limit)
    }
}

/// The review for a report: the comment, the tag, and the vote that the vote mode allows; and why the template was not
/// used, if it was not.
pub(crate) fn review_of(
    config: &CommentConfig,
    user: &str,
    report: &BuildsetReport,
    earlier: &EarlierFailures,
) -> (Review, Option<String>) {
    let rendered = render(config, user, report, earlier);
    let review = Review::new(rendered.text).with_tag(config.tag_for(user)).with_notify(config.notify);
    let review = match config.vote_for(report) {
        Some(value) => review.with_vote(&config.label, value),
        None => review,
    };
    (review, rendered.problem)
}

/// What the history knows of the failed tests of a report. Nothing when it does not answer: the report does not wait.
pub(crate) async fn earlier_failures(
    config: &CommentConfig,
    report: &BuildsetReport,
    history: Option<&dyn RunHistory>,
) -> EarlierFailures {
    let Some(history) = history else { return EarlierFailures::default() };
    let asked = tokio::time::timeout(HISTORY_TIMEOUT, EarlierFailures::of(report, config, history)).await;
    let problem = match asked {
        Ok(Ok(earlier)) => return earlier,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(buildset = %report.id, "the comment says nothing about earlier runs: {problem}");
    EarlierFailures::default()
}

#[async_trait]
impl Reporter for GerritReporter {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let (target, comment) = (report.target(), self.comment.get());
        if !comment.is_for_the_review(report) {
            tracing::info!(patchset = %target, results = report.summary(), "no comment on a merge conflict");
            return Ok(());
        }
        let context = |error: Error| error.during("gerrit::deliver").with("change", &target);
        let earlier = earlier_failures(&comment, report, self.history.as_deref()).await;
        let (review, problem) = review_of(&comment, &self.gerrit.config().user, report, &earlier);
        let on = Target::Patchset(report.change.number, report.patchset.number);
        let mut result = self.try_deliver(report, &on, &review).await;
        if let Err(error) = &result {
            if self.is_refused_for_good(&report.id, error) {
                let is_vote_the_trouble = !review.labels.is_empty() && error.context(REVIEW).is_some();
                result = match is_vote_the_trouble {
                    true => self.gerrit.review_without_vote(&on, &review, error).await.map(Some),
                    false => result,
                }
                .map_err(Error::retried_out);
            }
        }
        if !result.as_ref().is_err_and(Error::is_temporary) {
            self.failed().remove(&report.id);
        }
        if let (Some(problem), Ok(Some(_))) = (problem, &result) {
            // After the post, which does not wait for a mail server.
            self.report_template(&target, &problem).await;
        }
        let results = report.summary();
        match result.map_err(context)? {
            None => {
                tracing::info!(patchset = %target, buildset = %report.id, "the change already has the comment")
            }
            Some(Posted::Complete) => tracing::info!(patchset = %target, results, "commented"),
            Some(Posted::WithoutVote(why)) => {
                tracing::warn!(patchset = %target, results, "commented without a vote: {why}")
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "gerrit"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pushbutton_core::{
        ControlMessage, DeliveryRecord, ErrorKind, FailureCount, FailureQuery, ParticipantRecord, RunId,
        RunRecord,
    };

    use super::*;
    use crate::{GerritConfig, sample_reports};

    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl Alerter for Counting {
        async fn alert(&self, _: &str, text: &str) -> Result<()> {
            assert!(text.contains("12345,2") && text.contains("line 3: undefined value"), "{text}");
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_template_that_does_not_work_is_told_once_a_day() {
        let gerrit = Gerrit::new(GerritConfig::new("127.0.0.1", "acme-ci", "key")).unwrap();
        let alerts = Arc::new(Counting::default());
        let reporter = GerritReporter::new(gerrit).with_alerter(Arc::clone(&alerts));
        for _ in 0..3 {
            reporter.report_template("12345,2", "line 3: undefined value").await;
        }
        assert_eq!(alerts.0.load(Ordering::Relaxed), 1);
        let long_ago = Instant::now().checked_sub(ALERT_PAUSE);
        *reporter.alerted.lock().unwrap() = Some(long_ago.unwrap());
        reporter.report_template("12345,2", "line 3: undefined value").await;
        assert_eq!(alerts.0.load(Ordering::Relaxed), 2);
    }

    /// A history that fails, or never answers.
    struct Broken(bool);

    #[async_trait]
    impl RunHistory for Broken {
        async fn recent(&self, _: usize) -> Result<Vec<RunRecord>> {
            Ok(Vec::new())
        }

        async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
            Ok(Vec::new())
        }

        async fn last_success(&self) -> Result<Option<Timestamp>> {
            Ok(None)
        }

        async fn find_run(&self, _: &RunId) -> Result<Option<RunRecord>> {
            Ok(None)
        }

        async fn actions(&self, _: usize) -> Result<Vec<ControlMessage>> {
            Ok(Vec::new())
        }

        async fn deliveries(&self, _: usize) -> Result<Vec<DeliveryRecord>> {
            Ok(Vec::new())
        }

        async fn participants(&self) -> Result<Vec<ParticipantRecord>> {
            Ok(Vec::new())
        }

        async fn failure_counts(&self, _: &FailureQuery) -> Result<Vec<FailureCount>> {
            match self.0 {
                true => std::future::pending().await,
                false => Err(Error::temporary(ErrorKind::Local, "the disk has failed")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_that_does_not_answer_delays_no_comment() {
        let config = CommentConfig::default();
        let (_, report, _) = sample_reports().unwrap().remove(1);
        let plain = render(&config, "acme-ci", &report, &EarlierFailures::default());
        for hangs in [false, true] {
            let began = tokio::time::Instant::now();
            let earlier = earlier_failures(&config, &report, Some(&Broken(hangs))).await;
            assert!(began.elapsed() <= HISTORY_TIMEOUT);
            assert_eq!(render(&config, "acme-ci", &report, &earlier), plain);
        }
    }
}
