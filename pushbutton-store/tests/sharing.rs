//! Several processes on one file, and processes that die.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pushbutton_core::{DeadLetters, ErrorKind, JobFilter, Queue, QueueDepth, samples};
use pushbutton_store::{Store, StoreConfig};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_file_never_claim_the_same_job() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.db");
    let publisher = Store::open(&file).await.unwrap().queue();
    for n in 0..40 {
        publisher.publish(&samples::job_on(n, "tempest")).await.unwrap();
    }
    let mut operators = Vec::new();
    for _ in 0..4 {
        let queue = Store::open(&file).await.unwrap().queue();
        operators.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            // Until nothing has come for a while; the claims are dropped, and their leases go on.
            while let Ok(claim) = timeout(Duration::from_millis(700), queue.claim(&JobFilter::any())).await {
                taken.push(claim.unwrap().job().change.number.0);
            }
            taken
        }));
    }
    let mut taken = Vec::new();
    for operator in operators {
        taken.extend(operator.await.unwrap());
    }
    taken.sort_unstable();
    assert_eq!(taken, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_that_another_process_publishes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.db");
    let (here, there) = (Store::open(&file).await.unwrap(), Store::open(&file).await.unwrap());
    let queue = here.queue();
    let waiting = tokio::spawn(async move { queue.claim(&JobFilter::any()).await.unwrap().job().clone() });
    // The claim has looked, and found nothing, once this call has come through the same thread behind it.
    tokio::task::yield_now().await;
    assert_eq!(here.queue().depth().await.unwrap(), QueueDepth::default());
    there.queue().publish(&samples::job("tempest")).await.unwrap();
    // No notification crosses the process: it comes with the next poll.
    let job = timeout(Duration::from_secs(10), waiting).await.expect("the job is noticed").unwrap();
    assert_eq!(job, samples::job("tempest"));
}

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.db");
    {
        let queue = Store::open(&file).await.unwrap().queue();
        for n in 0..4 {
            queue.publish(&samples::job_on(n, "tempest")).await.unwrap();
        }
        let first = queue.claim(&JobFilter::any()).await.unwrap();
        first.complete(&samples::success(first.job())).await.unwrap();
        queue.claim(&JobFilter::any()).await.unwrap().reject("no such job").await.unwrap();
        drop(queue.claim(&JobFilter::any()).await.unwrap());
    }
    let queue = Store::open(&file).await.unwrap().queue();
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::new(1, 1, 1).with_reports(1u64));
    assert_eq!(queue.list(10).await.unwrap()[0].why, "no such job");
}

/// The test is its own child: with the file's path in the environment it claims a job and waits to be killed.
#[tokio::test]
async fn the_job_of_a_killed_process_comes_back_after_its_lease() {
    const CHILD: &str = "PUSHBUTTON_STORE_TEST_CHILD";
    let lease = Duration::from_secs(2);
    if let Some(file) = std::env::var_os(CHILD) {
        let config = StoreConfig::new(PathBuf::from(file)).with_lease(lease);
        let queue = Store::open_with(config).await.unwrap().queue();
        let claim = queue.claim(&JobFilter::any()).await.unwrap();
        println!("\nclaimed {}", claim.job().id);
        std::future::pending::<()>().await;
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.db");
    let queue = Store::open_with(StoreConfig::new(&file).with_lease(lease)).await.unwrap().queue();
    queue.publish(&samples::job("tempest")).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_job_of_a_killed_process_comes_back_after_its_lease", "--nocapture"])
        .env(CHILD, &file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let claimed = lines.find(|line| line.starts_with("claimed ")).expect("the child claims the job");
    let claimed_at = Instant::now();
    assert_eq!(claimed, format!("claimed {}", samples::job("tempest").id));
    child.kill().unwrap();
    child.wait().unwrap();

    let claim = timeout(TIMEOUT, queue.claim(&JobFilter::any())).await.expect("the job comes back").unwrap();
    assert!(claimed_at.elapsed() > lease / 2, "the lease was not kept");
    assert_eq!(claim.job().failed_attempts, 0);
    claim.complete(&samples::success(claim.job())).await.unwrap();
}

#[tokio::test]
async fn a_holder_whose_lease_ran_out_keeps_the_job_until_another_claim_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(folder.path().join("x.db")).with_lease(Duration::from_millis(300));
    let queue = Store::open_with(config).await.unwrap().queue();
    queue.publish(&samples::job("tempest")).await.unwrap();
    let claim = queue.claim(&JobFilter::any()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::new(1, 0, 0), "others may claim it");
    claim.renew().await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::new(0, 1, 0));
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second = timeout(TIMEOUT, queue.claim(&JobFilter::any())).await.unwrap().unwrap();
    for lost in [claim.renew().await, claim.complete(&samples::success(claim.job())).await] {
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::LeaseLost);
    }
    second.complete(&samples::success(second.job())).await.unwrap();
}

#[tokio::test]
async fn a_job_claimed_for_a_cancelled_call_is_returned_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Store::open(folder.path().join("x.db")).await.unwrap().queue();
    queue.publish(&samples::job("tempest")).await.unwrap();
    let (any, mut cancelled) = (JobFilter::any(), 0);
    while cancelled < 20 {
        // Polled once: the worker thread has the call, and as a rule nobody awaits its result any more.
        tokio::select! {
            biased;
            claim = queue.claim(&any) => claim.unwrap().hand_back().await.unwrap(),
            () = std::future::ready(()) => cancelled += 1,
        }
    }
    let claim = timeout(TIMEOUT, queue.claim(&JobFilter::any()))
        .await
        .expect("the job is not held by anyone")
        .unwrap();
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::new(0, 1, 0));
    claim.complete(&samples::success(claim.job())).await.unwrap();
}
