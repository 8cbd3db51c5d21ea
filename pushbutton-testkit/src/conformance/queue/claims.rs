//! `claim`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::Queue;
use tokio::task::JoinSet;

use super::{PATIENCE, claim, claim_within, job, nothing_for, publish};

/// A claim that finds nothing waits, and gets the job that comes later.
pub async fn claims_wait_for_a_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("wait").await, open("wait").await);
    let waiting = tokio::spawn(async move { claim_within(&*operator, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "a claim on an empty queue waits");
    publish(&*handler, &job(1)).await;
    let claim = waiting.await.expect("the claimer lives").expect("a waiting claim gets the job that comes");
    assert_eq!(claim.job().id, job(1).id);
}

/// Of many callers on several machines, exactly one gets each job.
pub async fn exactly_one_claim_gets_a_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let operators = [open("one").await, open("one").await];
    let mut claimers = JoinSet::new();
    for operator in operators.iter().cycle().take(12) {
        let operator = Arc::clone(operator);
        claimers.spawn(async move { claim_within(&*operator, PATIENCE).await });
    }
    for n in 0..6 {
        publish(&*operators[0], &job(n)).await;
    }
    let mut held = BTreeMap::new();
    while held.len() < 6 {
        let claim = claimers.join_next().await.expect("claimers are left").expect("the claimer lives");
        let claim = claim.expect("every job is claimed by one of the many that wait");
        claim.renew().await.expect("a lease that has not run out is renewed");
        let twice = held.insert(claim.job().id.clone(), claim);
        assert!(twice.is_none(), "a job is claimed by one caller only");
    }
    let short = held.values().next().expect("six are held").lease() / 4;
    if let Ok(Some(more)) = tokio::time::timeout(short, claimers.join_next()).await {
        let more = more.expect("the claimer lives").map(|claim| claim.job().id.clone());
        panic!("six jobs were published and held, and yet a seventh claim got {more:?}");
    }
}

/// A call that is dropped takes no job, or gives it back.
pub async fn a_dropped_claim_call_loses_nothing(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    const JOBS: u64 = 10;
    let (handler, operator) = (open("cancel").await, open("cancel").await);
    let mut held = BTreeMap::new();
    for n in 0..JOBS {
        // Dropped before the job comes, when it comes, and some moments later.
        for micros in [0, 50, 200, 500, 1_000, 2_000, 4_000] {
            tokio::select! {
                biased;
                claim = operator.claim() => {
                    let claim = claim.expect("waiting for a job ends in no error");
                    held.insert(claim.job().id.clone(), claim);
                }
                () = async {
                    publish(&*handler, &job(n)).await;
                    tokio::time::sleep(Duration::from_micros(micros)).await;
                } => {}
            }
        }
        publish(&*handler, &job(n)).await;
    }
    let mut done = BTreeSet::new();
    for (id, claim) in held {
        // A slow machine may have taken longer than the lease: such a job comes again below.
        if claim.complete().await.is_ok() {
            done.insert(id);
        }
    }
    let mut pause = Duration::ZERO;
    while done.len() < JOBS as usize {
        let claim = claim(&*operator).await;
        pause = claim.lease();
        let id = claim.job().id.clone();
        claim.complete().await.expect("a held job is completed");
        assert!(done.insert(id), "a completed job was claimed again");
    }
    nothing_for(&*operator, pause, "all jobs are completed").await;
}
