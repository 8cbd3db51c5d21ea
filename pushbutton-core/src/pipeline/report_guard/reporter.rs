//! A reporter that obeys the report guard.

use std::sync::Arc;

use async_trait::async_trait;

use super::ReportGuard;
use crate::buildset::BuildsetReport;
use crate::error::{Error, ErrorKind, Result};
use crate::report::Update;
use crate::traits::Reporter;

/// Wraps a reporter that reports upstream: while reports are muted it delivers none.
///
/// A withheld report is kept as undelivered, and can be retried once a person has unmuted the reports.
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
        self.inner.report(update).await
    }

    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        match self.guard.muted() {
            None => self.inner.deliver(report).await,
            Some(muted) => {
                let message = format!("reports are muted by {} since {}", muted.by, muted.since);
                Err(Error::permanent(ErrorKind::Cancelled, message))
            }
        }
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
