//! `renew`, and leases that run out.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::Queue;
use tokio::time::{Instant, sleep};

use super::{TIME_LIMIT, assert_lost, claim, job, nothing_for, publish};

/// A renewed lease holds for many times its length, and the job can then be completed.
pub async fn renewing_keeps_the_lease(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("renew").await, open("renew").await);
    publish(&*holder, &job(1)).await;
    let held = claim(&*holder).await;
    let lease = held.lease();
    let renewals = async {
        for _ in 0..12 {
            sleep(lease / 4).await;
            held.renew().await.expect("a lease renewed in time is renewed again");
        }
    };
    tokio::join!(renewals, nothing_for(&*other, lease * 3, "the holder renews its lease"));
    held.complete().await.expect("a held job is completed");
    nothing_for(&*other, lease, "the job is completed").await;
}

/// Unless renewed, another gets the job after the lease, uncounted; the old holder is told so.
pub async fn a_lease_that_runs_out_gives_the_job_to_another(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("expire").await, open("expire").await);
    publish(&*holder, &job(1)).await;
    let mut held = claim(&*holder).await;
    // The end of the first lease is missed by a holder that hangs, of the second by one that died.
    for round in ["a holder that hangs", "a holder that died"] {
        let renewed = Instant::now();
        held.renew().await.expect("a lease that has not run out is renewed");
        let lease = held.lease();
        let next = claim(&*other).await;
        let waited = renewed.elapsed();
        assert!(waited >= lease, "{round} lost its job after {waited:?} of a lease of {lease:?}");
        assert!(waited < lease + TIME_LIMIT, "{round} kept its job {waited:?}, lease {lease:?}");
        assert_eq!(next.job().failed_attempts, 0, "a lost lease is no failed attempt");
        if round == "a holder that hangs" {
            assert_lost(held.renew().await, "renewing");
            next.renew().await.expect("the new holder is not disturbed by the old one");
        }
        held = next;
    }
    held.complete().await.expect("the last holder completes the job");
}

/// Once its lease is lost, a holder can no longer complete, retry, hand back or reject the job.
pub async fn a_lost_claim_can_end_nothing(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("lost").await, open("lost").await);
    for n in 0..4 {
        publish(&*holder, &job(n)).await;
    }
    let mut old = Vec::new();
    let mut new = Vec::new();
    for _ in 0..4 {
        old.push(claim(&*holder).await);
    }
    for _ in 0..4 {
        let claim = claim(&*other).await;
        claim.renew().await.expect("a lease that has not run out is renewed");
        new.push(claim);
    }
    let mut old = old.into_iter();
    let mut next = || old.next().expect("four were claimed");
    assert_lost(next().complete().await, "completing");
    assert_lost(next().retry(Duration::ZERO, "no node").await, "retrying");
    assert_lost(next().hand_back().await, "handing back");
    assert_lost(next().reject("malformed").await, "rejecting");
    for claim in &new {
        claim.renew().await.expect("the new holders are not disturbed by the old ones");
    }
    assert_eq!(other.depth().await.expect("counting works").dead, 0, "a lost claim rejects nothing");
    let lease = new[0].lease();
    for claim in new {
        claim.complete().await.expect("the new holders complete the jobs");
    }
    nothing_for(&*holder, lease + lease / 2, "all jobs are completed").await;
}
