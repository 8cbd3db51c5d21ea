//! `renew`, and leases that expire.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::Queue;
use tokio::time::{Instant, sleep};

use super::{TIME_LIMIT, assert_lost, claim, complete, job, nothing_for, publish};

/// A lease that is renewed in time lasts, and the job can then be completed.
pub async fn renewing_keeps_the_lease(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("renew").await, open("renew").await);
    publish(&*holder, &job(1)).await;
    let held = claim(&*holder).await;
    let lease = held.lease();
    let renewals = async {
        for _ in 0..12 {
            sleep(lease / 4).await;
            held.renew().await.expect("a lease is renewed in time");
        }
    };
    tokio::join!(renewals, nothing_for(&*other, lease * 3, "the holder renews its lease"));
    complete(&*held).await.expect("a held job is completed");
    nothing_for(&*other, lease, "the job is completed").await;
}

/// A lease that is not renewed expires: another operator gets the job, no failed attempt is counted, and the old claim
/// is lost.
pub async fn an_expired_lease_returns_the_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("expire").await, open("expire").await);
    publish(&*holder, &job(1)).await;
    let mut held = claim(&*holder).await;
    // The first lease expires because its operator hangs, the second because its operator has crashed.
    for round in ["an operator that hangs", "an operator that crashed"] {
        let renewed = Instant::now();
        held.renew().await.expect("a lease that has not expired is renewed");
        let lease = held.lease();
        let next = claim(&*other).await;
        let waited = renewed.elapsed();
        assert!(waited >= lease, "{round} lost its job after {waited:?} of a lease of {lease:?}");
        assert!(waited < lease + TIME_LIMIT, "{round} kept its job for {waited:?} with a lease of {lease:?}");
        assert_eq!(next.job().failed_attempts, 0, "a lost lease is not a failed attempt");
        if round == "an operator that hangs" {
            assert_lost(held.renew().await, "renewing");
            next.renew().await.expect("the lost claim does not affect the new one");
        }
        held = next;
    }
    complete(&*held).await.expect("the last claim completes the job");
}

/// A lost claim cannot complete, retry, hand back or reject the job.
pub async fn a_lost_claim_cannot_end_the_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
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
        claim.renew().await.expect("a lease that has not expired is renewed");
        new.push(claim);
    }
    let mut old = old.into_iter();
    let mut next = || old.next().expect("four were claimed");
    assert_lost(complete(&*next()).await, "completing");
    assert_lost(next().retry(Duration::ZERO, "no node").await, "retrying");
    assert_lost(next().hand_back().await, "handing back");
    assert_lost(next().reject("malformed").await, "rejecting");
    for claim in &new {
        claim.renew().await.expect("the lost claims do not affect the new ones");
    }
    assert_eq!(other.depth().await.expect("counting works").dead, 0, "a lost claim rejects nothing");
    let lease = new[0].lease();
    for claim in new {
        complete(&*claim).await.expect("the new claims complete the jobs");
    }
    nothing_for(&*holder, lease + lease / 2, "all jobs are completed").await;
}
