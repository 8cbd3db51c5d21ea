//! `publish` and `depth`.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::{Job, JobFilter, NodeLabel, Queue, QueueDepth, WaitingJobs, samples};

use super::{TIME_LIMIT, claim, complete, job, nothing_for, publish};

/// `Ok` means durable: the job is still there after the publisher has ended, with what it depends on.
pub async fn published_jobs_survive_a_restart(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let publisher = open("durable").await;
    let published = job(1).with_dependencies(vec![samples::dependency(8), samples::dependency(7)]);
    publish(&*publisher, &published).await;
    drop(publisher);
    let operator = open("durable").await;
    assert_eq!(*claim(&*operator).await.job(), published, "the job is as it was published");
}

/// Jobs are claimed in the order in which they were published.
pub async fn jobs_are_claimed_in_the_order_of_publishing(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("order").await, open("order").await);
    for n in 0..20 {
        publish(&*handler, &job(n)).await;
    }
    for n in 0..20 {
        let claim = claim(&*operator).await;
        assert_eq!(claim.job().change.number.0, n, "jobs are claimed in the order of publishing");
        complete(&*claim).await.expect("a claimed job is completed");
    }
}

/// A job that is queued, leased, waiting for a retry or completed does not run a second time.
pub async fn a_known_job_does_not_run_again(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, other, operator) = (open("once").await, open("once").await, open("once").await);
    publish(&*handler, &job(1)).await;
    publish(&*other, &job(1)).await;
    let claimed = claim(&*operator).await;
    let short = claimed.lease() / 4;
    nothing_for(&*operator, short, "a queued job was published again").await;

    claimed.renew().await.expect("a lease that has not expired is renewed");
    publish(&*handler, &job(1)).await;
    publish(&*other, &job(1)).await;
    nothing_for(&*operator, short, "a leased job was published again").await;

    claimed.retry(short * 8, "the node did not boot").await.expect("a claimed job is returned");
    publish(&*handler, &job(1)).await;
    nothing_for(&*operator, short, "a job that waits for its retry was published again").await;

    let claimed = claim(&*operator).await;
    complete(&*claimed).await.expect("a claimed job is completed");
    publish(&*handler, &job(1)).await;
    publish(&*other, &job(1)).await;
    nothing_for(&*operator, short * 6, "a completed job was published again").await;
}

/// Every handle counts the jobs that wait, are leased and are dead letters.
pub async fn depth_counts_jobs_by_state(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("depth").await, open("depth").await);
    depth_is(&*handler, QueueDepth::default()).await;
    for n in 0..4 {
        publish(&*handler, &job(n)).await;
    }
    depth_is(&*operator, QueueDepth::new(4, 0, 0)).await;
    let (held, rejected, retried) =
        (claim(&*operator).await, claim(&*operator).await, claim(&*operator).await);
    rejected.reject("malformed").await.expect("a claimed job is rejected");
    retried.retry(Duration::from_secs(60), "no node").await.expect("a claimed job is returned");
    held.renew().await.expect("a lease that has not expired is renewed");
    let settled = QueueDepth::new(2, 1, 1);
    depth_is(&*handler, settled).await;
    depth_is(&*operator, settled).await;
    complete(&*held).await.expect("a claimed job is completed");
    depth_is(&*handler, QueueDepth::new(2, 0, 1).with_reports(1u64)).await;
}

/// Jobs that wait are counted by name and label, those that wait for a retry too; claimed jobs, dead letters and
/// completed jobs are not.
pub async fn waiting_jobs_are_counted_by_name_and_label(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("waiting").await, open("waiting").await);
    waiting_is(&*handler, Vec::new()).await;
    let label: NodeLabel = "devstack".parse().expect("a label");
    let tempest = |n| job(n).with_label(label.clone());
    let jobs = [
        tempest(1),
        tempest(2),
        tempest(3),
        tempest(4),
        samples::job_on(5, "rally"),
        samples::job_on(6, "unit"),
    ];
    for job in &jobs {
        publish(&*handler, job).await;
    }
    let kind = |job: &Job, count| WaitingJobs::new(job.name.clone(), job.label.clone(), count, job.created);
    let kinds = |labelled| vec![kind(&jobs[4], 1), kind(&jobs[0], labelled), kind(&jobs[5], 1)];
    waiting_is(&*operator, kinds(4)).await;
    waiting_is(&*handler, kinds(4)).await;
    let filter = JobFilter::names([jobs[0].name.clone()]).with_labels([label.clone()]);
    let claim = async || operator.claim(&filter).await.expect("a waiting job is claimed");
    let rejected = claim().await;
    rejected.reject("malformed").await.expect("a claimed job is rejected");
    let retried = claim().await;
    retried.retry(Duration::from_secs(600), "no node").await.expect("a claimed job is returned");
    let completed = claim().await;
    complete(&*completed).await.expect("a claimed job is completed");
    let held = claim().await;
    held.renew().await.expect("a lease that has not expired is renewed");
    waiting_is(&*operator, kinds(1)).await;
    held.hand_back().await.expect("a claimed job is handed back");
    waiting_is(&*handler, kinds(2)).await;
}

/// As [`depth_is`].
async fn waiting_is(queue: &dyn Queue, wanted: Vec<WaitingJobs>) {
    let mut seen = None;
    let settled = async {
        loop {
            let waiting = queue.waiting().await.expect("counting works");
            if waiting == wanted {
                return;
            }
            seen = Some(waiting);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let settled = tokio::time::timeout(TIME_LIMIT, settled).await;
    assert!(settled.is_ok(), "the waiting jobs must become {wanted:?}; they stayed {seen:?}");
}

/// Counts of a distributed queue may be late by a moment.
async fn depth_is(queue: &dyn Queue, wanted: QueueDepth) {
    let mut seen = None;
    let settled = async {
        loop {
            let depth = queue.depth().await.expect("counting works");
            if depth == wanted {
                return;
            }
            seen = Some(depth);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let settled = tokio::time::timeout(TIME_LIMIT, settled).await;
    assert!(settled.is_ok(), "the depth must become {wanted:?}; it stayed {seen:?}");
}
