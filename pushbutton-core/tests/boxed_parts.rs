//! `Box<dyn Trait>` and `Arc<dyn Trait>` are parts, like the values that they hold.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::{
    MemoryEventStore, MemoryExecutor, MemoryJournal, MemoryProvisioner, MemoryQueue, MemoryReporter,
    MemorySource,
};
use pushbutton_core::{
    Alerter, ChangeStatusLookup, DeadLetters, EventMatch, EventSource, EventStore, Executor, Handler, Job,
    JobFilter, JobSpec, Journal, LogLocation, Operator, PatchsetStatus, Pipeline, Provisioner, Queue,
    ReportGuard, Reporter, Result, Shutdown, Stage, Sweeper, Trigger, Triggers, Verdict, async_trait,
    samples,
};
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

/// An upstream where every patch set is current, which counts lookups, and where no one is alerted.
#[derive(Default)]
struct Upstream(std::sync::atomic::AtomicUsize);

#[async_trait]
impl ChangeStatusLookup for Upstream {
    async fn status(&self, _: &Job) -> Result<PatchsetStatus> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(PatchsetStatus::Current)
    }
}

#[async_trait]
impl Alerter for Upstream {
    async fn alert(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_runs_on_boxed_and_shared_trait_objects() {
    let (reporter, upstream) = (Arc::new(MemoryReporter::default()), Arc::new(Upstream::default()));
    let source: Box<dyn EventSource> = Box::new(MemorySource::of(vec![samples::comment("bob", "recheck")]));
    let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::default());
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::default());
    let cloud: Arc<dyn Provisioner> = Arc::new(MemoryProvisioner::default());
    let executor: Box<dyn Executor> = Box::new(MemoryExecutor::default());
    let boxed_reporter: Box<dyn Reporter> = Box::new(reporter.clone());
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let lookup: Box<dyn ChangeStatusLookup> = Box::new(upstream.clone());
    let alerter: Box<dyn Alerter> = Box::new(upstream.clone());

    let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("recheck", recheck, ["tempest".parse().unwrap()]);
    let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
    let spec = JobSpec::new("devstack".parse().unwrap())
        .stage(Stage::new("run".parse().unwrap(), "run_tempest.yml"));
    let handler = Handler::new(source, triggers, queue.clone())
        .with_event_store(store.clone())
        .with_reporter(reporter.clone())
        .with_alerter(alerter)
        .with_report_guard(Arc::new(ReportGuard::new("handler")));
    let sweeper = Sweeper::new(cloud.clone(), queue.clone()).with_journal(journal.clone());
    let jobs = [("tempest".parse().unwrap(), spec)];
    let operator = Operator::new(queue.clone(), cloud.clone(), executor, jobs, LogLocation::new("logs"))
        .with_reporter(boxed_reporter)
        .with_journal(journal)
        .with_change_status(lookup)
        .with_sweeper(sweeper);
    let (handled, worked) = Pipeline::new(handler, operator).unwrap().run(&Shutdown::new()).await.unwrap();

    assert_eq!((handled.jobs, worked.finished), (1, 1));
    assert_eq!(reporter.results()[0].verdict, Verdict::Success);
    assert_eq!(reporter.delivered()[0].results[0].verdict, Verdict::Success);
    assert_eq!(reporter.name(), (Box::new(reporter.clone()) as Box<dyn Reporter>).name());
    assert_eq!(upstream.0.load(std::sync::atomic::Ordering::Relaxed), 1, "the boxed lookup was called");
    assert!(store.has_seen(&samples::comment("bob", "recheck").id).await.unwrap());
    assert_eq!(cloud.list_owned().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_boxed_provisioner_and_a_shared_queue_keep_their_contracts() {
    let cloud: Box<dyn Provisioner> = Box::new(Arc::new(MemoryProvisioner::default()));
    provision::all(&cloud, &ProvisionerSetup::of("any")).await;

    let queue = Arc::new(MemoryQueue::with_lease(Duration::from_secs(2)));
    let boxed: Box<dyn Queue> = Box::new(queue.clone());
    boxed.publish(&samples::job("tempest")).await.unwrap();
    boxed.claim(&JobFilter::any()).await.unwrap().reject("no such job").await.unwrap();
    let letters: Box<dyn DeadLetters> = Box::new(queue);
    let listed = letters.list(10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(letters.requeue(&listed[0].id).await.unwrap());
    assert_eq!(boxed.depth().await.unwrap().waiting, 1);
    assert!(!letters.remove(&listed[0].id).await.unwrap(), "it was requeued");
}
