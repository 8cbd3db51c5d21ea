//! `complete`, `retry` and `hand_back`.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::Queue;
use tokio::time::Instant;

use super::{TIME_LIMIT, claim, complete, job, nothing_for, publish};

/// A completed job does not run again: not after the lease, and not when it is published again.
pub async fn completing_is_final(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (operator, other) = (open("complete").await, open("complete").await);
    publish(&*operator, &job(1)).await;
    let held = claim(&*operator).await;
    let lease = held.lease();
    held.renew().await.expect("a lease that has not expired is renewed");
    complete(&*held).await.expect("a claimed job is completed");
    publish(&*other, &job(1)).await;
    nothing_for(&*other, lease + lease / 2, "the job is completed").await;
    drop((operator, other));
    let later = open("complete").await;
    publish(&*later, &job(1)).await;
    nothing_for(&*later, lease / 4, "the job was completed before the restart").await;
}

/// A job to be retried is not claimed before its delay has passed, and then with one more failed attempt.
pub async fn a_retry_is_delayed_and_counted(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (operator, other) = (open("retry").await, open("retry").await);
    publish(&*operator, &job(1)).await;
    for attempt in 0..3 {
        let held = claim(&*operator).await;
        assert_eq!(held.job().failed_attempts, attempt, "each retry counts one failed attempt");
        let after = held.lease() * attempt.min(1) / 2 + held.lease() / 2;
        let returned = Instant::now();
        held.retry(after, "no valid host was found").await.expect("a claimed job is returned");
        let next = claim(&*other).await;
        let waited = returned.elapsed();
        assert!(waited >= after, "a job to be retried after {after:?} was claimed after {waited:?}");
        assert!(waited < after + TIME_LIMIT, "a job to be retried after {after:?} took {waited:?}");
        assert_eq!(next.job().failed_attempts, attempt + 1, "each retry counts one failed attempt");
        next.hand_back().await.expect("a claimed job is handed back");
    }
    let held = claim(&*operator).await;
    held.retry(Duration::ZERO, "at once").await.expect("a claimed job is returned");
    assert_eq!(claim(&*other).await.job().failed_attempts, 4, "a retry without delay counts too");
}

/// Delays survive the end of the handle, and a long one does not hold up a shorter one.
pub async fn a_retry_delay_survives_a_restart_and_blocks_no_other_job(
    open: impl AsyncFn(&str) -> Arc<dyn Queue>,
) {
    let operator = open("delay").await;
    publish(&*operator, &job(1)).await;
    publish(&*operator, &job(2)).await;
    let (long, short) = (claim(&*operator).await, claim(&*operator).await);
    let lease = long.lease();
    let returned = Instant::now();
    long.retry(lease * 3, "quota exceeded").await.expect("a claimed job is returned");
    short.retry(lease, "node did not boot").await.expect("a claimed job is returned");
    drop(operator);
    let later = open("delay").await;
    let first = claim(&*later).await;
    assert_eq!(first.job().id, job(2).id, "the shorter delay ends first");
    complete(&*first).await.expect("a claimed job is completed");
    let second = claim(&*later).await;
    assert_eq!(second.job().id, job(1).id, "the longer delay ends too");
    let waited = returned.elapsed();
    assert!(waited >= lease * 3, "a delay of {:?} was over after {waited:?}", lease * 3);
    complete(&*second).await.expect("a claimed job is completed");
}

/// A job that is handed back can be claimed at once, as if it had not been claimed.
pub async fn a_job_that_is_handed_back_is_not_counted(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (operator, other) = (open("hand-back").await, open("hand-back").await);
    publish(&*operator, &job(1)).await;
    let mut waited_in_all = Duration::ZERO;
    // A backend that returns a job only after the lease is slow each time; a busy machine is slow only sometimes.
    let (next, lease) = loop {
        let held = claim(&*operator).await;
        let lease = held.lease();
        let returned = Instant::now();
        held.hand_back().await.expect("a claimed job is handed back");
        let next = claim(&*other).await;
        let waited = returned.elapsed();
        if waited < lease {
            break (next, lease);
        }
        waited_in_all += waited;
        assert!(
            waited_in_all < TIME_LIMIT,
            "a job that was handed back was claimed after {waited:?}: not at once, but after the lease"
        );
        next.hand_back().await.expect("a claimed job is handed back");
    };
    assert_eq!(*next.job(), job(1), "a job that was handed back is as it was published");
    next.renew().await.expect("a lease that has not expired is renewed");
    complete(&*next).await.expect("a claimed job is completed");
    nothing_for(&*operator, lease, "the job is completed").await;
}
