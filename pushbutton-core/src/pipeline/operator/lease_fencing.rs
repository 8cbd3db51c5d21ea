//! Renews a lease while a run goes on, and fences the run when that fails: it stops before another operator can hold
//! the job.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::stop_signal::{StopReason, StopSignal};
use crate::traits::Claim;

/// Renews the lease until `work` ends. When it cannot be renewed, `work` is stopped while a third of the lease is
/// left: enough time to end its processes before another operator can hold the job. If it has not ended by then, it
/// is dropped.
pub(super) async fn with_lease<T>(claim: &dyn Claim, stop: &StopSignal, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        result = work => result,
        never = renew_lease(claim, stop) => match never {},
    }
}

async fn renew_lease(claim: &dyn Claim, stop: &StopSignal) -> std::convert::Infallible {
    let lease = claim.lease();
    let mut held_since = Instant::now();
    loop {
        sleep_until(held_since + lease / 3).await;
        loop {
            let began = Instant::now();
            // Two thirds of the lease may pass without a renewal; then the run must end.
            let last = held_since + lease * 2 / 3;
            let refused = match tokio::time::timeout_at(last, claim.renew()).await {
                Ok(Ok(())) => {
                    held_since = began;
                    break;
                }
                Ok(Err(error)) if error.is_temporary() => error.to_string(),
                Ok(Err(error)) => {
                    tracing::error!(job = %claim.job().id, "the lease is lost: {error}");
                    // Another operator may hold the job already.
                    fence(stop, Instant::now()).await
                }
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(job = %claim.job().id, "could not renew the lease: {refused}");
            let again = Instant::now() + (lease / 20).max(Duration::from_millis(10));
            if again >= last {
                tracing::error!(job = %claim.job().id, "the lease could not be renewed in time: stopping the run");
                fence(stop, held_since + lease * 19 / 20).await;
            }
            sleep_until(again).await;
        }
    }
}

async fn fence(stop: &StopSignal, end: Instant) -> ! {
    stop.set(StopReason::LeaseLost);
    sleep_until(end).await;
    stop.lease_ended();
    std::future::pending().await
}
