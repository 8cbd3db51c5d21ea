//! Sends an update to every reporter, each by the contract: a final report is retried, anything else is sent once.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::report::{Update, UpdateKind};
use crate::retry::RetryPolicy;
use crate::traits::Reporter;

/// Sends an update to all reporters. A `Finished` is retried while the error is temporary, without a limit: the
/// caller bounds it.
pub(super) async fn notify(reporters: &[Arc<dyn Reporter>], update: &Update) {
    if matches!(update.kind, UpdateKind::Finished { .. }) {
        join_all(reporters.iter().map(|reporter| report_until_success(reporter.as_ref(), update))).await;
        return;
    }
    for reporter in reporters {
        if let Err(error) = reporter.report(update).await {
            tracing::warn!(reporter = reporter.name(), job = %update.job.id, "could not report a step: {error}");
        }
    }
}

async fn report_until_success(reporter: &dyn Reporter, update: &Update) {
    if let Err(error) = RetryPolicy::UNTIL_SUCCESS.run("reporter::report", || reporter.report(update)).await {
        // The verdict is not lost: the other reporters and the log have it.
        tracing::error!(reporter = reporter.name(), job = %update.job.id, target = %update.job.target(), "the report was refused: {error}");
    }
}
