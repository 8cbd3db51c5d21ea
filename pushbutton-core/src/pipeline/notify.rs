//! Sends an update to every reporter, each by the contract: a final report is retried, anything else is sent once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::panics::catch_panic;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Update, UpdateKind};
use crate::retry::RetryPolicy;
use crate::traits::Reporter;

/// How long one call of a reporter may take. It is a step's delay in the worst case, and one try of a final report.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one try of a final report may take: it may look up the review before it posts.
const FINAL_CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Sends an update to all reporters, side by side. A `Finished` is retried while the error is temporary, without a
/// limit: the caller bounds it. A reporter that does not return in time, or panics, has failed.
pub(super) async fn notify(reporters: &[Arc<dyn Reporter>], update: &Update) {
    let is_final = matches!(update.kind, UpdateKind::Finished { .. });
    join_all(reporters.iter().map(async |reporter| {
        if is_final {
            report_until_success(reporter.as_ref(), update).await;
        } else if let Err(error) = report(reporter.as_ref(), update, CALL_TIMEOUT).await {
            tracing::warn!(reporter = reporter.name(), job = %update.job.id, "could not report a step: {error}");
        }
    }))
    .await;
}

async fn report_until_success(reporter: &dyn Reporter, update: &Update) {
    let report = || report(reporter, update, FINAL_CALL_TIMEOUT);
    if let Err(error) = RetryPolicy::UNTIL_SUCCESS.run("reporter::report", report).await {
        // The verdict is not lost: the other reporters and the log have it.
        tracing::error!(
            reporter = reporter.name(),
            job = %update.job.id,
            target = %update.job.target(),
            "the report was refused: {error}"
        );
    }
}

async fn report(reporter: &dyn Reporter, update: &Update, limit: Duration) -> Result<()> {
    let call = tokio::time::timeout(limit, reporter.report(update));
    match catch_panic(call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::temporary(ErrorKind::TimedOut, "the reporter did not return in time")),
        Err(panic) => Err(Error::permanent(ErrorKind::Unexpected, format!("the reporter panicked: {panic}"))),
    }
}
