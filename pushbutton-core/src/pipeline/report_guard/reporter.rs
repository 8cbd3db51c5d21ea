//! A reporter that obeys the report guard.

use std::sync::Arc;

use async_trait::async_trait;

use super::ReportGuard;
use crate::error::Result;
use crate::report::{Update, UpdateKind};
use crate::traits::Reporter;

/// Wraps a reporter that reports upstream: while reports are muted it gets no updates.
///
/// A withheld report is not an error: the job completes, and reporters that are not wrapped, such as the history, get
/// it. It is not sent later.
pub struct GuardedReporter {
    inner: Box<dyn Reporter>,
    guard: Arc<ReportGuard>,
}

impl GuardedReporter {
    /// Reports through `inner` except while the guard has muted reports.
    pub fn new(inner: impl Reporter + 'static, guard: Arc<ReportGuard>) -> Self {
        Self { inner: Box::new(inner), guard }
    }
}

#[async_trait]
impl Reporter for GuardedReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        if self.guard.muted().is_none() {
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

    fn name(&self) -> &str {
        self.inner.name()
    }
}

impl std::fmt::Debug for GuardedReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedReporter")
            .field("inner", &self.inner.name())
            .field("guard", &self.guard)
            .finish()
    }
}
