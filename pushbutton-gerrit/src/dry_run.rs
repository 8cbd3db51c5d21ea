//! A reporter that writes what Gerrit would get, for trials and replays.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use pushbutton_core::{Error, ErrorKind, Report, Reporter, Result, Update, UpdateKind};

use crate::config::GerritConfig;
use crate::message::mark;
use crate::reporter::review_of;

/// Appends each comment, exactly as Gerrit would get it, to a file: with a line before it that says where it would go and with which vote.
///
/// Like [`GerritReporter`](crate::GerritReporter) it speaks once for each job, also after a restart: it looks for the job's mark in the file.
pub struct DryRunReporter {
    config: GerritConfig,
    file: PathBuf,
    one_at_a_time: Mutex<()>,
}

impl DryRunReporter {
    /// Writes to this file; it is made when there is something to write.
    pub fn new(config: GerritConfig, file: impl Into<PathBuf>) -> Self {
        Self { config, file: file.into(), one_at_a_time: Mutex::new(()) }
    }

    /// Where it writes.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn write(&self, report: &Report) -> std::io::Result<()> {
        let _guard = self.one_at_a_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = std::fs::OpenOptions::new().create(true).read(true).append(true).open(&self.file)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mark = mark(&report.job.id);
        if String::from_utf8_lossy(&text).lines().any(|line| line == mark) {
            return Ok(());
        }
        file.write_all(preview(&self.config, report).as_bytes())?;
        file.sync_all()
    }
}

/// What would be posted for a report, with a heading that says where, with which vote and which tag. The comment after the heading is exact.
pub fn preview(config: &GerritConfig, report: &Report) -> String {
    let review = review_of(config, report);
    let votes: Vec<String> = review.labels.iter().map(|(label, value)| format!("{label}{value:+}")).collect();
    let vote = if votes.is_empty() { "no vote".to_owned() } else { votes.join(" ") };
    let tag = review.tag.unwrap_or_default();
    format!(
        "=== {} on {}: {vote}, tag {tag}\n{}\n",
        report.job.target(),
        report.job.change.project,
        review.message
    )
}

#[async_trait]
impl Reporter for DryRunReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        let UpdateKind::Finished { report } = &update.kind else { return Ok(()) };
        if !report.verdict.is_reported() {
            return Ok(());
        }
        self.write(report).map_err(|error| {
            Error::temporary(ErrorKind::Local, "the comment cannot be written down")
                .during("gerrit::dry_run")
                .with("file", self.file.display())
                .because(error)
        })
    }

    fn name(&self) -> &'static str {
        "dry-run"
    }
}
