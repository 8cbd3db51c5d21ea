//! `renew`, and leases that expire.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::clock::{Clock, FixedClock};
use pushbutton_core::{Queue, samples};
use tokio::time::{Instant, sleep};

use super::{TIME_LIMIT, assert_lost, claim, claim_within, complete, job, nothing_for, publish};

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

/// The end of a lease is counted from its grant or its last renewal, and `expires_in` says it.
pub async fn a_claim_says_when_its_lease_ends(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let queue = open("expires").await;
    publish(&*queue, &job(1)).await;
    let asked = Instant::now();
    let held = claim(&*queue).await;
    let lease = held.lease();
    // Granted or renewed between the question and the answer. A queue may count in milliseconds.
    let assert_counted_from = |asked: Instant, what: &str| {
        let (left, elapsed) = (held.expires_in(), asked.elapsed() + Duration::from_millis(20));
        assert!(
            left <= lease && left + elapsed >= lease,
            "{what}: {left:?} are left of {lease:?} after {elapsed:?}"
        );
    };
    assert_counted_from(asked, "granted");
    sleep(lease / 4).await;
    let left = held.expires_in();
    assert!(left <= lease - lease / 5, "a quarter of the lease later {left:?} are left of {lease:?}");
    let asked = Instant::now();
    held.renew().await.expect("a lease is renewed in time");
    assert_counted_from(asked, "renewed");
    complete(&*held).await.expect("a held job is completed");
}

/// A holder that is silent for four fifths of the lease, again and again, keeps its job, with another operator waiting
/// for one.
pub async fn a_silence_of_four_fifths_of_the_lease_disturbs_no_claim(
    open: impl AsyncFn(&str) -> Arc<dyn Queue>,
) {
    // On a busy machine the silence may become longer than the lease: that round proves nothing, and is repeated.
    'rounds: for round in 0..20 {
        let name = format!("silence-{round}");
        let (holder, other) = (open(&name).await, open(&name).await);
        publish(&*holder, &job(1)).await;
        let held = claim(&*holder).await;
        let lease = held.lease();
        for _ in 0..3 {
            let taken = claim_within(&*other, lease * 4 / 5).await.is_some();
            let (left, renewed) = (held.expires_in(), held.renew().await);
            if left.is_zero() {
                continue 'rounds;
            }
            assert!(!taken, "another operator got the job while {left:?} of the lease were left");
            // The answer may come too late, too.
            if renewed.as_ref().is_err_and(|_| held.expires_in().is_zero()) {
                continue 'rounds;
            }
            renewed.expect("a lease that has not ended is renewed");
        }
        complete(&*held).await.expect("a held job is completed");
        nothing_for(&*other, lease, "the job is completed").await;
        return;
    }
    panic!("in twenty rounds the holder was never in time: use a longer lease");
}

/// A holder whose lease ran out can renew it and end the job, as long as nobody else has claimed it.
pub async fn a_late_holder_keeps_a_job_that_nobody_claimed(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let queue = open("late").await;
    for n in 0..2 {
        publish(&*queue, &job(n)).await;
    }
    let (renewed, completed) = (claim(&*queue).await, claim(&*queue).await);
    let lease = renewed.lease();
    sleep(lease + lease / 4).await;
    assert_eq!(renewed.expires_in(), Duration::ZERO, "the lease has ended");
    renewed.renew().await.expect("nobody has claimed the job: a late renewal works");
    assert!(renewed.expires_in() > Duration::ZERO, "a renewed lease lasts");
    complete(&*completed).await.expect("nobody has claimed the job: it can be completed late");
    complete(&*renewed).await.expect("a held job is completed");
    nothing_for(&*queue, lease, "both jobs are completed").await;
}

/// A clock that is set forward or back by days disturbs no run. `open` opens queues whose time of day is that of the
/// clock. It has no meaning for a queue that does not read the time of day.
pub async fn a_clock_step_disturbs_no_claim(open: impl AsyncFn(&str, Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let day = jiff::SignedDuration::from_hours(24);
    for (name, step) in [("forward", day), ("back", -day)] {
        let clock = FixedClock::at(samples::AT);
        let (holder, other) =
            (open(name, Arc::new(clock.clone())).await, open(name, Arc::new(clock.clone())).await);
        publish(&*holder, &job(1)).await;
        let held = claim(&*holder).await;
        let lease = held.lease();
        clock.set(samples::AT + step);
        let steps = async {
            for round in 0..8 {
                sleep(lease / 4).await;
                held.renew().await.unwrap_or_else(|error| panic!("{name}, renewal {round}: {error:?}"));
                let runs = other.leased_runs().await.expect("listing leased runs works");
                assert_eq!(runs, std::slice::from_ref(held.run()), "{name}: the run is listed");
            }
        };
        tokio::join!(steps, nothing_for(&*other, lease * 2, "the holder renews its lease"));
        // A lease of a dead holder ends in time, also one that was granted before a step.
        clock.set(samples::AT);
        let dropped = Instant::now();
        drop(held);
        let next = claim(&*other).await;
        assert!(dropped.elapsed() < lease + TIME_LIMIT, "{name}: the lease of a dead holder ends in time");
        complete(&*next).await.expect("a claimed job is completed");
    }
}
