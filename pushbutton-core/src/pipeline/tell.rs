//! Telling every reporter, each by the contract: a final report until it is heard, anything else once.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::report::{Update, UpdateKind};
use crate::retry::RetryPolicy;
use crate::seam::Reporter;

/// Tells all reporters. A `Finished` is tried again while the error is temporary, without end: the caller bounds it.
pub(super) async fn tell(reporters: &[Arc<dyn Reporter>], update: &Update) {
    if matches!(update.kind, UpdateKind::Finished { .. }) {
        join_all(reporters.iter().map(|reporter| tell_for_sure(reporter.as_ref(), update))).await;
        return;
    }
    for reporter in reporters {
        if let Err(error) = reporter.report(update).await {
            tracing::warn!(reporter = reporter.name(), job = %update.job.id, "could not tell a step: {error}");
        }
    }
}

async fn tell_for_sure(reporter: &dyn Reporter, update: &Update) {
    if let Err(error) = RetryPolicy::FOR_EVER.run("reporter::report", || reporter.report(update)).await {
        // The verdict is not lost: the other reporters and the log have it.
        tracing::error!(reporter = reporter.name(), job = %update.job.id, target = %update.job.target(), "the report was refused: {error}");
    }
}
