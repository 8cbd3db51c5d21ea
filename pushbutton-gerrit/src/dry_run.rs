//! A reporter that writes comments to a file instead of Gerrit, for tests of a configuration.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pushbutton_core::{BuildsetReport, Current, Error, ErrorKind, Reporter, Result, RunHistory};

use crate::config::GerritConfig;
use crate::message::{CommentConfig, dedup_footer};
use crate::reporter::{earlier_failures, review_of};
use crate::template::EarlierFailures;

/// Appends each comment to a file, exactly as Gerrit would get it, after a line with the change and the vote.
///
/// Like [`GerritReporter`](crate::GerritReporter) it reports each buildset once, also after a restart: it
/// looks for the buildset's footer in the file.
pub struct DryRunReporter {
    user: String,
    comment: Current<CommentConfig>,
    file: PathBuf,
    write_lock: Mutex<()>,
    history: Option<Arc<dyn RunHistory>>,
}

impl std::fmt::Debug for DryRunReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRunReporter").field("file", &self.file).finish_non_exhaustive()
    }
}

impl DryRunReporter {
    /// Writes to this file, which is created with the first comment.
    pub fn new(config: GerritConfig, file: impl Into<PathBuf>) -> Self {
        let (user, comment) = (config.user, Current::new(config.comment));
        Self { user, comment, file: file.into(), write_lock: Mutex::new(()), history: None }
    }

    /// As [`GerritReporter::with_comment`](crate::GerritReporter::with_comment).
    #[must_use]
    pub fn with_comment(mut self, comment: Current<CommentConfig>) -> Self {
        self.comment = comment;
        self
    }

    /// As [`GerritReporter::with_history`](crate::GerritReporter::with_history).
    #[must_use]
    pub fn with_history(mut self, history: impl RunHistory + 'static) -> Self {
        self.history = Some(Arc::new(history));
        self
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn write(
        &self,
        comment: &CommentConfig,
        report: &BuildsetReport,
        earlier: &EarlierFailures,
    ) -> std::io::Result<()> {
        let _guard = self.write_lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = std::fs::OpenOptions::new().create(true).read(true).append(true).open(&self.file)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let footer = dedup_footer(&report.id);
        if String::from_utf8_lossy(&text).lines().any(|line| line == footer) {
            return Ok(());
        }
        file.write_all(shown(comment, &self.user, report, earlier).as_bytes())?;
        file.sync_all()
    }
}

/// What would be posted for a report: a line with the change, the vote and the tag, then the exact comment.
pub fn preview(config: &GerritConfig, report: &BuildsetReport) -> String {
    shown(&config.comment, &config.user, report, &EarlierFailures::default())
}

fn shown(comment: &CommentConfig, user: &str, report: &BuildsetReport, earlier: &EarlierFailures) -> String {
    let (review, problem) = review_of(comment, user, report, earlier);
    if let Some(problem) = problem {
        tracing::warn!(patchset = %report.target(), "the template of comments was not used: {problem}");
    }
    let votes: Vec<String> = review.labels.iter().map(|(label, value)| format!("{label}{value:+}")).collect();
    let vote = if votes.is_empty() { "no vote".to_owned() } else { votes.join(" ") };
    let tag = review.tag.unwrap_or_default();
    format!("=== {} on {}: {vote}, tag {tag}\n{}\n", report.target(), report.change.project, review.message)
}

#[async_trait]
impl Reporter for DryRunReporter {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let comment = self.comment.get();
        if !comment.is_for_the_review(report) {
            return Ok(());
        }
        let earlier = earlier_failures(&comment, report, self.history.as_deref()).await;
        self.write(&comment, report, &earlier).map_err(|error| {
            Error::temporary(ErrorKind::Local, "the comment cannot be written to the file")
                .during("gerrit::dry_run")
                .with("file", self.file.display())
                .because(error)
        })
    }

    fn name(&self) -> &'static str {
        "dry-run"
    }
}
