//! Sends a step of a run to every reporter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::panics::catch_panic;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Update, UpdateKind};
use crate::retry::RetryPolicy;
use crate::traits::Reporter;

/// How long one call of a reporter may take. In the worst case a step of a run waits so long.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long `Finished` is retried: a history should not show a run without its end, but the slot must not wait for it.
const FINISHED_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends an update to all reporters, side by side. A reporter that does not return in time, or panics, has failed.
pub(super) async fn notify(reporters: &[Arc<dyn Reporter>], update: &Update) {
    join_all(reporters.iter().map(async |reporter| {
        let result = match update.kind {
            UpdateKind::Finished { .. } => report_with_retries(reporter.as_ref(), update).await,
            _ => report(reporter.as_ref(), update).await,
        };
        if let Err(error) = result {
            tracing::warn!(reporter = reporter.name(), job = %update.job.id, "could not report a step: {error}");
        }
    }))
    .await;
}

async fn report_with_retries(reporter: &dyn Reporter, update: &Update) -> Result<()> {
    let retries = RetryPolicy::UNTIL_SUCCESS.run("reporter::report", || report(reporter, update));
    let timed_out = || Err(Error::temporary(ErrorKind::TimedOut, "the reporter failed again and again"));
    tokio::time::timeout(FINISHED_TIMEOUT, retries).await.unwrap_or_else(|_| timed_out())
}

async fn report(reporter: &dyn Reporter, update: &Update) -> Result<()> {
    let call = tokio::time::timeout(CALL_TIMEOUT, reporter.report(update));
    match catch_panic(call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::temporary(ErrorKind::TimedOut, "the reporter did not return in time")),
        Err(panic) => Err(Error::permanent(ErrorKind::Unexpected, format!("the reporter panicked: {panic}"))),
    }
}
