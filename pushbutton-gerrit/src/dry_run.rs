//! A reporter that writes comments to a file instead of Gerrit, for tests of a configuration.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use pushbutton_core::{BuildsetReport, Error, ErrorKind, Reporter, Result};

use crate::config::GerritConfig;
use crate::message::dedup_footer;
use crate::reporter::review_of;

/// Appends each comment to a file, exactly as Gerrit would get it, after a line with the change and the vote.
///
/// Like [`GerritReporter`](crate::GerritReporter) it reports each buildset once, also after a restart: it
/// looks for the buildset's footer in the file.
#[derive(Debug)]
pub struct DryRunReporter {
    config: GerritConfig,
    file: PathBuf,
    write_lock: Mutex<()>,
}

impl DryRunReporter {
    /// Writes to this file, which is created with the first comment.
    pub fn new(config: GerritConfig, file: impl Into<PathBuf>) -> Self {
        Self { config, file: file.into(), write_lock: Mutex::new(()) }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn write(&self, report: &BuildsetReport) -> std::io::Result<()> {
        let _guard = self.write_lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = std::fs::OpenOptions::new().create(true).read(true).append(true).open(&self.file)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let footer = dedup_footer(&report.id);
        if String::from_utf8_lossy(&text).lines().any(|line| line == footer) {
            return Ok(());
        }
        file.write_all(preview(&self.config, report).as_bytes())?;
        file.sync_all()
    }
}

/// What would be posted for a report: a line with the change, the vote and the tag, then the exact comment.
pub fn preview(config: &GerritConfig, report: &BuildsetReport) -> String {
    let review = review_of(config, report);
    let votes: Vec<String> = review.labels.iter().map(|(label, value)| format!("{label}{value:+}")).collect();
    let vote = if votes.is_empty() { "no vote".to_owned() } else { votes.join(" ") };
    let tag = review.tag.unwrap_or_default();
    format!("=== {} on {}: {vote}, tag {tag}\n{}\n", report.target(), report.change.project, review.message)
}

#[async_trait]
impl Reporter for DryRunReporter {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        if !self.config.comment.is_for_the_review(report) {
            return Ok(());
        }
        self.write(report).map_err(|error| {
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
