//! Renews a lease while a run goes on, and fences the run when that fails: it stops before another operator can hold
//! the job.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::stop_signal::{StopReason, StopSignal};
use crate::traits::Claim;

/// Renews the lease until `work` ends. When it cannot be renewed, `work` is stopped late, at [`Timing::stop_margin`]
/// before the end of the lease: enough time to end its processes before another operator can hold the job. If it has
/// not ended by then, it is dropped.
pub(super) async fn with_lease<T>(claim: &dyn Claim, stop: &StopSignal, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        result = work => result,
        never = renew_lease(claim, stop) => match never {},
    }
}

/// When what is done about a lease. All parts are fractions of the lease, so that none is negative for a short one;
/// for leases of ten minutes and more their upper limits decide.
///
/// An outage of four fifths of the lease, which begins just before a renewal, leaves a tenth of the lease to reconnect
/// and to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timing {
    /// From one renewal to the next.
    interval: Duration,
    /// How long one renewal may take; after that it is tried again.
    call: Duration,
    /// From a failed renewal to the next try.
    pause: Duration,
    /// The run is stopped so long before the end of the lease. Its processes get TERM, and KILL after the executor's
    /// grace time (`kill_grace` of Ansible: 10 seconds).
    stop_margin: Duration,
    /// What still runs so long before the end of the lease is dropped, which kills its processes.
    drop_margin: Duration,
    /// How long a renewal may take that begins late: this process was suspended, or the disk stalled. The answer says
    /// whether another operator has got the job meanwhile.
    late_call: Duration,
}

impl Timing {
    fn of(lease: Duration) -> Self {
        let seconds = Duration::from_secs;
        Self {
            interval: (lease / 20).min(seconds(30)),
            call: (lease / 10).clamp(Duration::from_millis(10), seconds(60)),
            pause: (lease / 50).clamp(Duration::from_millis(10), seconds(5)),
            stop_margin: (lease / 20).min(seconds(60)),
            drop_margin: (lease / 100).min(seconds(5)),
            late_call: (lease / 40).min(seconds(5)),
        }
    }
}

async fn renew_lease(claim: &dyn Claim, stop: &StopSignal) -> Infallible {
    let lease = claim.lease();
    let timing = Timing::of(lease);
    loop {
        // From the grant, not from now: the answer may have been long on its way.
        let (now, left) = (Instant::now(), claim.expires_in().min(lease));
        let stop_at = now + left.saturating_sub(timing.stop_margin);
        let drop_at = now + left.saturating_sub(timing.drop_margin);
        sleep(left.saturating_sub(lease - timing.interval)).await;
        loop {
            let began = Instant::now();
            let until = (began + timing.call).min(stop_at).max(began + timing.late_call);
            let refused = match tokio::time::timeout_at(until, claim.renew()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if error.is_temporary() => error.to_string(),
                Ok(Err(error)) => {
                    tracing::error!(job = %claim.job().id, "the lease is lost: {error}");
                    // Another operator may hold the job already.
                    fence(stop, Instant::now()).await
                }
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(job = %claim.job().id, "could not renew the lease: {refused}");
            let again = Instant::now() + timing.pause;
            if again >= stop_at {
                tracing::error!(job = %claim.job().id, "the lease could not be renewed in time: stopping the run");
                fence(stop, drop_at).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobFilter;
    use crate::memory::MemoryQueue;
    use crate::samples;
    use crate::traits::Queue;

    #[tokio::test(start_paused = true)]
    async fn a_claim_whose_answer_came_late_is_renewed_before_its_lease_ends() {
        let lease = Duration::from_secs(900);
        let (queue, any) = (MemoryQueue::with_lease(lease), JobFilter::any());
        queue.publish(&samples::job("tempest")).await.unwrap();
        let claim = queue.claim(&any).await.unwrap();
        sleep(lease * 9 / 10).await;
        let stop = StopSignal::new();
        tokio::select! {
            () = with_lease(claim.as_ref(), &stop, sleep(lease * 3)) => {}
            _ = queue.claim(&any) => panic!("another operator got the job"),
        }
        assert!(!stop.is_set());
        claim.complete(&samples::success(claim.job())).await.unwrap();
    }

    #[test]
    fn a_run_survives_an_outage_of_four_fifths_of_any_lease_and_stops_before_its_end() {
        for seconds in [0, 1, 20, 60, 120, 900, 3600, 24 * 3600] {
            let lease = Duration::from_secs(seconds);
            let Timing { interval, stop_margin, drop_margin, late_call, .. } = Timing::of(lease);
            let outage = interval + lease * 4 / 5;
            assert!(outage + lease / 10 <= lease - stop_margin, "{lease:?}");
            assert!(stop_margin >= drop_margin + late_call, "a late renewal ends before the drop: {lease:?}");
        }
        let usual = Timing::of(Duration::from_secs(900));
        assert_eq!(usual.interval, Duration::from_secs(30));
        let to_end = usual.stop_margin - usual.drop_margin;
        assert!(to_end >= Duration::from_secs(30), "three times the executor's usual grace time: {to_end:?}");
    }
}
