//! A lease is kept for hours, and a run that cannot keep it is stopped before another may begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::memory::{MemoryQueue, Script, sample};
use pushbutton_core::seam::DeadLetter;
use pushbutton_core::{
    Claim, Error, ErrorKind, Job, Notice, Notices, Queue, QueueDepth, Result, RunId, StageStatus, UpdateKind,
    Verdict,
};

use crate::lab::{Deaf, Lab, MINUTE};

/// A queue whose renewals and lists of runs can be made to fail, as when the broker is away.
pub(crate) struct Flaky {
    pub(crate) inner: MemoryQueue,
    pub(crate) away: Arc<AtomicBool>,
}

struct FlakyClaim {
    inner: Box<dyn Claim>,
    away: Arc<AtomicBool>,
}

#[async_trait]
impl Queue for Flaky {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.inner.publish(job).await
    }
    async fn claim(&self) -> Result<Box<dyn Claim>> {
        let inner = self.inner.claim().await?;
        Ok(Box::new(FlakyClaim { inner, away: self.away.clone() }))
    }
    async fn announce(&self, notice: &Notice) -> Result<()> {
        self.inner.announce(notice).await
    }
    async fn notices(&self) -> Result<Box<dyn Notices>> {
        self.inner.notices().await
    }
    async fn depth(&self) -> Result<QueueDepth> {
        self.inner.depth().await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.inner.dead_letters(limit).await
    }
    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool> {
        self.inner.requeue_dead_letter(letter).await
    }
    async fn drop_dead_letter(&self, letter: &str) -> Result<bool> {
        self.inner.drop_dead_letter(letter).await
    }
    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::temporary(ErrorKind::Unreachable, "the broker is away"));
        }
        self.inner.leased_runs().await
    }
}

#[async_trait]
impl Claim for FlakyClaim {
    fn job(&self) -> &Job {
        self.inner.job()
    }
    fn run(&self) -> &RunId {
        self.inner.run()
    }
    fn lease(&self) -> Duration {
        self.inner.lease()
    }
    async fn renew(&self) -> Result<()> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::temporary(ErrorKind::Unreachable, "the broker is away"));
        }
        self.inner.renew().await
    }
    async fn complete(self: Box<Self>) -> Result<()> {
        self.inner.complete().await
    }
    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        self.inner.retry(after, why).await
    }
    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.inner.hand_back().await
    }
    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.inner.reject(why).await
    }
}

const LEASE: Duration = MINUTE;

fn lab(away: &Arc<AtomicBool>) -> Lab {
    Lab::new(|stage, context| {
        let first = stage == "tempest" && context.job.failed_attempts == 0;
        Script::ends(StageStatus::Passed).after(if first { 50 * MINUTE } else { Duration::ZERO })
    })
    .with_queue(Arc::new(Flaky { inner: MemoryQueue::with_lease(LEASE), away: Arc::clone(away) }))
}

async fn broker_is_away(away: &AtomicBool, how_long: Duration) {
    tokio::time::sleep(5 * MINUTE).await;
    away.store(true, Ordering::SeqCst);
    tokio::time::sleep(how_long).await;
    away.store(false, Ordering::SeqCst);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_leases_keeps_its_job() {
    let away = Arc::default();
    let lab = lab(&away);
    lab.run(&sample::job("tempest")).await;
    assert_eq!((lab.report().verdict, lab.cloud.asked.lock().unwrap().len()), (Verdict::Success, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_shorter_than_the_lease_disturbs_no_run() {
    let away = Arc::default();
    let lab = lab(&away);
    let job = sample::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&away, LEASE / 4));
    assert_eq!((lab.report().verdict, lab.cloud.asked.lock().unwrap().len()), (Verdict::Success, 1));
}

/// The job came back, and its first run had ended before the second began.
fn assert_fenced(lab: &Lab) {
    let runs = lab.cloud.asked.lock().unwrap().clone();
    assert!(runs.len() > 1, "the job came back");
    let updates = lab.reporter.updates();
    let at = |run, wanted: fn(&UpdateKind) -> bool| {
        updates.iter().position(|update| update.run.as_ref() == Some(run) && wanted(&update.kind)).unwrap()
    };
    let ended = at(&runs[0], |kind| matches!(kind, UpdateKind::HandedBack { .. }));
    let began = at(&runs[1], |kind| matches!(kind, UpdateKind::Started));
    assert!(ended < began, "the first run had ended before the second began");
}

#[tokio::test(start_paused = true)]
async fn a_longer_cut_fences_the_run_before_its_lease_ends_and_it_runs_once_more() {
    let away = Arc::default();
    let lab = lab(&away);
    let job = sample::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&away, 3 * LEASE));
    assert_fenced(&lab);
    assert_eq!(lab.report().verdict, Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_does_not_end_in_time_is_dropped_before_the_lease_ends() {
    let away = Arc::default();
    let lab = lab(&away).with_executor(Arc::new(Deaf));
    let job = sample::job("tempest");
    tokio::join!(lab.run(&job), broker_is_away(&away, 3 * LEASE));
    assert_fenced(&lab);
}
