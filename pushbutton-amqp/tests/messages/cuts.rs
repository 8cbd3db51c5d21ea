//! Connections that are cut while jobs are taken, held and ended.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::samples;
use pushbutton_core::samples::job_on;
use pushbutton_core::{DeadLetters, ErrorKind, JobFilter, Queue, QueueDepth};
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::{JoinSet, block_in_place};

use crate::common::proxy::Proxy;
use crate::{common, config};

/// Connections cut at any moment lose no job, run none twice at once, and complete none twice.
async fn cut_connections_lose_and_double_nothing(version: Version) {
    const JOBS: u64 = 60;
    const CUTS: u32 = 12;
    let url = block_in_place(|| rabbitmq(version).url.clone());
    let config = config(&url, "cut", 15);
    let handler = common::connect(&config).await;
    let shifts = Arc::new(Shifts::default());
    let mut proxies = Vec::new();
    let mut working = JoinSet::new();
    for _ in 0..2 {
        let proxy = Proxy::before(&url).await;
        let mut config = config.clone();
        config.url = Some(proxy.url.clone().into());
        let operator = common::connect(&config).await;
        for _ in 0..2 {
            working.spawn(Arc::clone(&shifts).work(Arc::clone(&operator)));
        }
        working.spawn(Arc::clone(&shifts).deliver(operator));
        proxies.push(proxy);
    }
    // Moments that fall into every step of a claim.
    let cutting = async {
        for n in 0u64.. {
            tokio::time::sleep(Duration::from_millis(150 + n * 37 % 500)).await;
            proxies[(n % 2) as usize].cut();
        }
    };
    let cuts = || proxies.iter().map(Proxy::cuts).sum::<u32>();
    let settled = async {
        let mut jobs = 0;
        // A quick machine needs more jobs for as many cuts.
        while jobs < JOBS || cuts() < CUTS {
            common::publish(&handler, &job_on(jobs, "tempest")).await;
            jobs += 1;
            common::depth_until(&handler, |depth| depth.waiting < JOBS).await;
        }
        common::depth_until(&handler, |depth| depth == QueueDepth::default()).await;
        jobs
    };
    let jobs = tokio::select! {
        () = cutting => unreachable!("it goes on"),
        jobs = settled => jobs,
        ended = working.join_next() => panic!("an operator ended: {ended:?}"),
    };
    // All are known as completed: published again, none is run.
    let before = shifts.claimed();
    for n in 0..jobs {
        common::publish(&handler, &job_on(n, "tempest")).await;
    }
    // One that nobody has done yet comes after all of them.
    common::publish(&handler, &job_on(jobs, "tempest")).await;
    common::soon(shifts.has_completed(jobs)).await;
    common::depth_until(&handler, |depth| depth == QueueDepth::default()).await;
    assert_eq!(shifts.completed.lock().unwrap().len() as u64, jobs + 1);
    // The answer to who delivered the last one may still be on its way.
    common::soon(shifts.has_reported(jobs + 1)).await;
    assert_eq!(*shifts.reported.lock().unwrap(), *shifts.completed.lock().unwrap());
    assert!(handler.list(1).await.unwrap().is_empty());
    tracing::info!("{jobs} jobs in {before} claims, {} connections cut", cuts());
    working.shutdown().await;
    common::delete(&url, [&config.prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_to_rabbitmq_3_10_lose_and_double_nothing() {
    cut_connections_lose_and_double_nothing(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_to_rabbitmq_4_lose_and_double_nothing() {
    cut_connections_lose_and_double_nothing(Version::V4).await;
}

/// Who works on what.
#[derive(Default)]
struct Shifts {
    running: Mutex<BTreeSet<u64>>,
    completed: Mutex<BTreeSet<u64>>,
    reported: Mutex<BTreeSet<u64>>,
    claimed: AtomicU32,
}

impl Shifts {
    fn claimed(&self) -> u32 {
        self.claimed.load(Ordering::SeqCst)
    }

    async fn has_completed(&self, job: u64) {
        while !self.completed.lock().unwrap().contains(&job) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn has_reported(&self, count: u64) {
        while (self.reported.lock().unwrap().len() as u64) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Delivers reports, as a handler does.
    async fn deliver(self: Arc<Self>, queue: Arc<AmqpQueue>) {
        loop {
            let due = queue.claim_report().await.expect("waiting for a report ends in no error");
            let job = due.report().change.number.0;
            match due.done().await {
                Ok(()) => {
                    assert!(self.reported.lock().unwrap().insert(job), "job {job} was reported twice")
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
            }
        }
    }

    async fn work(self: Arc<Self>, queue: Arc<AmqpQueue>) {
        loop {
            let claim = queue.claim(&JobFilter::any()).await.expect("waiting for a job ends in no error");
            let job = claim.job().change.number.0;
            self.claimed.fetch_add(1, Ordering::SeqCst);
            assert!(self.running.lock().unwrap().insert(job), "job {job} is run twice at once");
            tokio::time::sleep(Duration::from_millis(30)).await;
            let renewed = claim.renew().await;
            self.running.lock().unwrap().remove(&job);
            if renewed.is_err_and(|error| error.kind() == ErrorKind::LeaseLost) {
                continue;
            }
            let mut completed = claim.complete(&samples::success(claim.job())).await;
            while completed.as_ref().is_err_and(|error| error.is_temporary()) {
                completed = claim.complete(&samples::success(claim.job())).await;
            }
            match completed {
                Ok(()) => {
                    assert!(self.completed.lock().unwrap().insert(job), "job {job} was completed twice")
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
            }
        }
    }
}
