//! `claim`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::{JobFilter, JobName, NodeLabel, Queue};
use tokio::task::JoinSet;

use super::{TIME_LIMIT, claim, claim_within, complete, job, nothing_for, publish};

/// A claim on an empty queue waits, and gets the job that is published later.
pub async fn claims_wait_for_a_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("wait").await, open("wait").await);
    let waiting = tokio::spawn(async move { claim_within(&*operator, TIME_LIMIT).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "a claim on an empty queue waits");
    publish(&*handler, &job(1)).await;
    let claim = waiting
        .await
        .expect("the claiming task does not panic")
        .expect("a waiting claim gets the job that is published");
    assert_eq!(claim.job().id, job(1).id);
}

/// Exactly one of many callers, on several machines, gets each job.
pub async fn exactly_one_claim_gets_a_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let operators = [open("one").await, open("one").await];
    let mut claimers = JoinSet::new();
    for operator in operators.iter().cycle().take(12) {
        let operator = Arc::clone(operator);
        claimers.spawn(async move { claim_within(&*operator, TIME_LIMIT).await });
    }
    for n in 0..6 {
        publish(&*operators[0], &job(n)).await;
    }
    let mut held = BTreeMap::new();
    while held.len() < 6 {
        let claim =
            claimers.join_next().await.expect("claimers are left").expect("the claiming task does not panic");
        let claim = claim.expect("every job is claimed by a waiting caller");
        claim.renew().await.expect("a lease that has not expired is renewed");
        let twice = held.insert(claim.job().id.clone(), claim);
        assert!(twice.is_none(), "a job is claimed by one caller only");
    }
    let short = held.values().next().expect("six are held").lease() / 4;
    if let Ok(Some(more)) = tokio::time::timeout(short, claimers.join_next()).await {
        let more = more.expect("the claiming task does not panic").map(|claim| claim.job().id.clone());
        panic!("six jobs were published and claimed, but a seventh claim got {more:?}");
    }
}

/// A dropped call takes no job, or returns it.
pub async fn a_dropped_claim_call_loses_no_job(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    const JOBS: u64 = 10;
    let any = JobFilter::any();
    let (handler, operator) = (open("cancel").await, open("cancel").await);
    let mut held = BTreeMap::new();
    for n in 0..JOBS {
        // Dropped before the job arrives, when it arrives, and shortly after.
        for micros in [0, 50, 200, 500, 1_000, 2_000, 4_000] {
            tokio::select! {
                biased;
                claim = operator.claim(&any) => {
                    let claim = claim.expect("waiting for a job returns no error");
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
        // On a slow machine the lease may have expired: that job is claimed again below.
        if complete(&*claim).await.is_ok() {
            done.insert(id);
        }
    }
    let mut pause = Duration::ZERO;
    while done.len() < JOBS as usize {
        let claim = claim(&*operator).await;
        pause = claim.lease();
        let id = claim.job().id.clone();
        complete(&*claim).await.expect("a claimed job is completed");
        assert!(done.insert(id), "a completed job was claimed again");
    }
    nothing_for(&*operator, pause, "all jobs are completed").await;
}

/// A job that a filter does not match stays in its place for others, and blocks no job behind it.
pub async fn a_filter_leaves_other_jobs_in_their_place(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("filter").await, open("filter").await);
    let name = |name: &str| JobName::new(name).expect("a name");
    let label = |label: &str| NodeLabel::new(label).expect("a label");
    let mut other = job(1);
    other.name = name("nightly");
    let (first, multinode) = (job(0), job(2).with_label(label("multinode")));
    for job in [&other, &multinode, &first, &job(3)] {
        publish(&*handler, job).await;
    }
    let mine = JobFilter::names([first.name.clone()]).with_labels([label("devstack")]);
    for expected in [&first, &job(3)] {
        let claim = tokio::time::timeout(TIME_LIMIT, operator.claim(&mine)).await;
        let claim =
            claim.expect("a job behind others is claimed").expect("waiting for a job returns no error");
        assert_eq!(claim.job().id, expected.id, "the first job that matches the filter is claimed");
        complete(&*claim).await.expect("a claimed job is completed");
    }
    assert_eq!(
        handler.depth().await.expect("counting works").waiting,
        2,
        "jobs that do not match still wait"
    );
    let waits = tokio::spawn({
        let operator = Arc::clone(&operator);
        let nightly = JobFilter::names([name("nightly"), name("weekly")]);
        async move {
            let claim = operator.claim(&nightly).await.expect("waiting for a job returns no error");
            claim.job().id.clone()
        }
    });
    let claimed = tokio::time::timeout(TIME_LIMIT, waits).await.expect("a filter that matches gets the job");
    assert_eq!(claimed.expect("the claiming task does not panic"), other.id);
    let rest = claim(&*operator).await;
    assert_eq!(
        (&rest.job().id, &rest.job().label),
        (&multinode.id, &multinode.label),
        "without a filter any job is claimed"
    );
}
