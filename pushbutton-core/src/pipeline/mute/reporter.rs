//! A reporter that obeys.

use std::sync::Arc;

use async_trait::async_trait;

use super::Mute;
use crate::error::Result;
use crate::report::{Update, UpdateKind};
use crate::seam::Reporter;

/// Wraps a reporter that speaks upstream: during a silence it is told nothing.
///
/// A withheld report is a decision, not an error: the job completes, and reporters that are not wrapped, such as the history, hear of
/// it. It is not made up for when the silence ends.
pub struct MutingReporter {
    inner: Arc<dyn Reporter>,
    mute: Arc<Mute>,
}

impl MutingReporter {
    /// Speaks through `inner` except while muted.
    pub fn new(inner: Arc<dyn Reporter>, mute: Arc<Mute>) -> Self {
        Self { inner, mute }
    }
}

#[async_trait]
impl Reporter for MutingReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        if self.mute.silence().is_none() {
            return self.inner.report(update).await;
        }
        if let UpdateKind::Finished { report } = &update.kind {
            tracing::warn!(
                reporter = self.name(),
                run = %report.run,
                job = %update.job.name,
                target = %update.job.target(),
                verdict = %report.verdict,
                "muted: this report is withheld"
            );
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}
