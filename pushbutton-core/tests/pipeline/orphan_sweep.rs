//! The sweep deletes what a crash has left behind once its lease has expired, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{MemoryJournal, MemoryProvisioner, MemoryQueue};
use pushbutton_core::samples;
use pushbutton_core::{
    Claim, Error, ErrorKind, Journal, Node, NodeRequest, OwnedResource, Provisioner, Queue, ResourceKind,
    Result, RunId, Shutdown, StageStatus, Sweeper,
};
use pushbutton_testkit::faults::{Fault, FaultPlan, FaultyQueue, Method};

use crate::lab::{Lab, MINUTE};

const LEASE: Duration = MINUTE;

/// A cloud, a journal and a queue, for runs of an operator that crashes.
struct Harness {
    cloud: Arc<MemoryProvisioner>,
    journal: Arc<MemoryJournal>,
    queue: Arc<MemoryQueue>,
    changes: std::ops::RangeFrom<u64>,
}

impl Harness {
    fn new() -> Self {
        let queue = Arc::new(MemoryQueue::with_lease(LEASE));
        Self { cloud: Arc::default(), journal: Arc::default(), queue, changes: 1.. }
    }

    /// Starts a run that has a node.
    async fn run(&mut self) -> Box<dyn Claim> {
        let job = samples::job_on(self.changes.next().unwrap(), "tempest");
        self.queue.publish(&job).await.unwrap();
        let claim = self.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
        boot(self.cloud.as_ref(), claim.run()).await;
        self.journal.intend(claim.run(), ResourceKind::Server, "pushbutton-x").await.unwrap();
        claim
    }

    /// A sweeper whose clock is ahead by this time, as if the resources were that old.
    fn sweeper(&self, age: Duration) -> Sweeper {
        let now = jiff::Timestamp::now() + age;
        Sweeper::new(self.cloud.clone(), self.queue.clone())
            .with_journal(self.journal.clone())
            .with_clock(FixedClock::at(now))
    }

    async fn runs_in_the_cloud(&self) -> BTreeSet<RunId> {
        self.cloud.list_owned().await.unwrap().into_iter().filter_map(|owned| owned.run).collect()
    }
}

async fn boot(cloud: &dyn Provisioner, run: &RunId) {
    let (job, label) = (samples::job("tempest").id, "devstack".parse().unwrap());
    let request = NodeRequest::new(run.clone(), job, label, "pushbutton-x", MINUTE);
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    cloud.provision(&request, &journal).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_node_of_a_crashed_run_is_swept_after_its_lease_and_the_node_of_a_live_run_is_not() {
    let mut harness = Harness::new();
    let crashed = harness.run().await.run().clone();
    assert_eq!(harness.sweeper(60 * MINUTE).plan().await.unwrap(), [], "its lease has not ended");
    tokio::time::sleep(LEASE).await;
    // The job is claimed again, and runs.
    let live = harness.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
    boot(harness.cloud.as_ref(), live.run()).await;

    let sweeper = harness.sweeper(60 * MINUTE);
    let plan = sweeper.plan().await.unwrap();
    assert_eq!(plan.iter().map(|orphan| &orphan.run).collect::<Vec<_>>(), [&crashed]);
    assert_eq!((plan[0].resources.len(), plan[0].entries.len()), (1, 1));
    assert_eq!(harness.runs_in_the_cloud().await.len(), 2, "a plan changes nothing");

    let swept = sweeper.sweep().await.unwrap();
    assert_eq!((swept.released.len(), swept.left.len()), (1, 0));
    assert_eq!(harness.runs_in_the_cloud().await, [live.run().clone()].into());
    assert_eq!(harness.journal.open().await.unwrap(), []);
    assert_eq!(sweeper.plan().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn resources_younger_than_the_safety_age_are_kept() {
    let mut harness = Harness::new();
    drop(harness.run().await);
    tokio::time::sleep(LEASE).await;
    assert_eq!(harness.sweeper(9 * MINUTE).plan().await.unwrap(), []);
    assert_eq!(harness.sweeper(11 * MINUTE).plan().await.unwrap().len(), 1);
    assert_eq!(harness.sweeper(11 * MINUTE).with_safety_age(20 * MINUTE).plan().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn journal_entries_without_a_resource_are_closed() {
    let harness = Harness::new();
    let (crashed, entry) = (RunId::generate(), ResourceKind::FloatingIp);
    harness.journal.intend(&crashed, entry, "203.0.113.7").await.unwrap();
    assert_eq!(harness.sweeper(60 * MINUTE).sweep().await.unwrap().released[0].run, crashed);
    assert_eq!(harness.journal.open().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_when_the_leases_cannot_be_listed() {
    let mut harness = Harness::new();
    drop(harness.run().await);
    tokio::time::sleep(LEASE).await;
    let broker = FaultPlan::none();
    broker.always(Method::LeasedRuns, Fault::unreachable());
    let queue = FaultyQueue::new(harness.queue.clone(), &broker);
    let sweeper = Sweeper::new(harness.cloud.clone(), queue).with_safety_age(Duration::ZERO);
    let error = sweeper.sweep().await.unwrap_err();
    assert_eq!(error.operation(), Some("queue::leased_runs"));
    assert_eq!(harness.runs_in_the_cloud().await.len(), 1);
}

/// A cloud that calls a hook before some of its methods.
struct Hooked<H> {
    inner: Arc<MemoryProvisioner>,
    hook: H,
}

#[async_trait]
impl<H: Hook> Provisioner for Hooked<H> {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node> {
        self.inner.provision(request, journal).await
    }
    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()> {
        self.hook.before_release(run).await?;
        self.inner.release(run, journal).await
    }
    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        self.hook.before_list().await;
        self.inner.list_owned().await
    }
}

/// Runs before a method of the cloud.
#[async_trait]
trait Hook: Send + Sync {
    async fn before_list(&self) {}
    async fn before_release(&self, _: &RunId) -> Result<()> {
        Ok(())
    }
}

/// Claims a job and boots its node just before the cloud is listed.
struct BootBeforeList {
    cloud: Arc<MemoryProvisioner>,
    queue: Arc<MemoryQueue>,
}

#[async_trait]
impl Hook for BootBeforeList {
    async fn before_list(&self) {
        self.queue.publish(&samples::job("tempest")).await.unwrap();
        let claim = self.queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
        boot(self.cloud.as_ref(), claim.run()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_starts_during_a_sweep_is_not_an_orphan() {
    let harness = Harness::new();
    let hook = BootBeforeList { cloud: harness.cloud.clone(), queue: harness.queue.clone() };
    let cloud = Hooked { inner: harness.cloud.clone(), hook };
    // Only the order of the queries protects the run: first the resources, then the leases.
    let sweeper = Sweeper::new(cloud, harness.queue.clone()).with_safety_age(Duration::ZERO);
    assert_eq!(sweeper.plan().await.unwrap(), []);
    assert_eq!(harness.runs_in_the_cloud().await.len(), 1);
}

/// The node of one run cannot be deleted.
struct Stuck(RunId);

#[async_trait]
impl Hook for Stuck {
    async fn before_release(&self, run: &RunId) -> Result<()> {
        if *run == self.0 {
            return Err(Error::temporary(ErrorKind::Remote, "the server is locked"));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_cannot_be_released_is_listed_and_does_not_delay_the_others() {
    let mut harness = Harness::new();
    let stuck = harness.run().await.run().clone();
    for _ in 0..6 {
        drop(harness.run().await);
    }
    tokio::time::sleep(LEASE).await;
    let cloud = Hooked { inner: harness.cloud.clone(), hook: Stuck(stuck.clone()) };
    let sweeper = Sweeper::new(cloud, harness.queue.clone())
        .with_journal(harness.journal.clone())
        .with_safety_age(Duration::ZERO);
    let swept = sweeper.sweep().await.unwrap();
    assert_eq!(swept.released.len(), 6);
    assert_eq!(swept.left.iter().map(|left| &left.orphan.run).collect::<Vec<_>>(), [&stuck]);
    assert!(swept.left[0].error.to_string().contains("the server is locked"));
    assert_eq!(harness.journal.open().await.unwrap().len(), 1, "its entry stays open");
}

/// The release of one run hangs, and that of another panics.
struct Broken {
    hangs: RunId,
    panics: RunId,
}

#[async_trait]
impl Hook for Broken {
    async fn before_release(&self, run: &RunId) -> Result<()> {
        if *run == self.hangs {
            std::future::pending::<()>().await;
        }
        assert!(*run != self.panics, "a defect of this provisioner");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_hangs_or_panics_is_reported_and_does_not_end_the_sweep() {
    let mut harness = Harness::new();
    let (hangs, panics) = (harness.run().await.run().clone(), harness.run().await.run().clone());
    for _ in 0..6 {
        drop(harness.run().await);
    }
    tokio::time::sleep(LEASE).await;
    let hook = Broken { hangs: hangs.clone(), panics: panics.clone() };
    let cloud = Hooked { inner: harness.cloud.clone(), hook };
    let sweeper = Sweeper::new(cloud, harness.queue.clone())
        .with_journal(harness.journal.clone())
        .with_safety_age(Duration::ZERO);
    let swept =
        tokio::time::timeout(10 * MINUTE, sweeper.sweep()).await.expect("it has a time limit").unwrap();
    assert_eq!(swept.released.len(), 6);
    let why = |run: &RunId| swept.left.iter().find(|left| left.orphan.run == *run).unwrap().error.to_string();
    assert!(why(&hangs).contains("was not done within 5m"), "{}", why(&hangs));
    assert!(why(&panics).contains("a defect of this provisioner"), "{}", why(&panics));
    assert_eq!(harness.journal.open().await.unwrap().len(), 2, "their entries stay open");
}

/// The list of resources hangs, or panics.
struct NoList {
    panics: bool,
}

#[async_trait]
impl Hook for NoList {
    async fn before_list(&self) {
        assert!(!self.panics, "a defect of this provisioner");
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_or_panics_is_an_error_of_the_sweep() {
    for (panics, why) in [(false, "was not done within 5m"), (true, "a defect of this provisioner")] {
        let harness = Harness::new();
        let cloud = Hooked { inner: harness.cloud.clone(), hook: NoList { panics } };
        let sweeper = Sweeper::new(cloud, harness.queue.clone());
        let planned = tokio::time::timeout(10 * MINUTE, sweeper.plan()).await.expect("it has a time limit");
        let error = planned.unwrap_err();
        assert_eq!(error.operation(), Some("provisioner::list_owned"));
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_concurrent_sweepers_do_not_disturb_each_other() {
    let mut harness = Harness::new();
    for _ in 0..5 {
        drop(harness.run().await);
    }
    tokio::time::sleep(LEASE).await;
    let (one, two) = (harness.sweeper(60 * MINUTE), harness.sweeper(60 * MINUTE));
    let (one, two) = tokio::join!(one.sweep(), two.sweep());
    assert!(one.unwrap().left.is_empty() && two.unwrap().left.is_empty());
    assert!(harness.runs_in_the_cloud().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_operator_sweeps_at_its_start_and_at_intervals() {
    let lab = Lab::where_stage("-", StageStatus::Passed);
    let sweeper = Sweeper::new(lab.cloud.clone(), lab.queue.clone()).with_safety_age(Duration::ZERO);
    // An orphan from before the start, whose run was never claimed on this queue, and one from while the operator runs.
    boot(lab.cloud.as_ref(), &RunId::generate()).await;
    let operator = lab.operator().with_sweeper(sweeper);
    let steps = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.assert_clean().await;
        boot(lab.cloud.as_ref(), &RunId::generate()).await;
        tokio::time::sleep(10 * MINUTE).await;
        lab.assert_clean().await;
        lab.shutdown.begin();
    };
    tokio::join!(operator.run(&lab.shutdown), steps).0.unwrap();
}

/// Remembers which runs the sweeper releases.
#[derive(Default)]
struct Released(std::sync::Mutex<Vec<RunId>>);

#[async_trait]
impl Hook for Arc<Released> {
    async fn before_release(&self, run: &RunId) -> Result<()> {
        self.0.lock().unwrap().push(run.clone());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_its_operator_is_deleting_after_the_run_is_left_to_it() {
    let mut harness = Harness::new();
    // Each run has freed its lease. The operator of the first is gone, that of the second deletes its node.
    let (crashed, ended) = (harness.run().await, harness.run().await);
    for claim in [&crashed, &ended] {
        claim.complete(&samples::success(claim.job())).await.unwrap();
    }
    let released = Arc::new(Released::default());
    let cloud = Hooked { inner: harness.cloud.clone(), hook: released.clone() };
    let sweeper = Sweeper::new(cloud, harness.queue.clone())
        .with_clock(FixedClock::at(jiff::Timestamp::now() + 60 * MINUTE));
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let journal: Arc<dyn Journal> = harness.journal.clone();
        harness.cloud.release(ended.run(), &journal).await.unwrap();
        while !harness.runs_in_the_cloud().await.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        shutdown.begin();
    };
    tokio::join!(sweeper.run(&shutdown), operator);
    assert_eq!(*released.0.lock().unwrap(), [crashed.run().clone()]);
}

#[tokio::test(start_paused = true)]
async fn the_sweeps_of_an_operator_never_disturb_a_run() {
    let lab =
        Lab::new(|_, _| pushbutton_core::memory::FakeStage::ends(StageStatus::Passed).after(50 * MINUTE));
    let sweeper = Sweeper::new(lab.cloud.clone(), lab.queue.clone())
        .with_safety_age(Duration::ZERO)
        .with_interval(Duration::from_secs(7));
    let operator = lab.operator().with_slots(5).with_sweeper(sweeper);
    lab.run_on(operator, (0..10).map(|change| samples::job_on(change, "tempest")).collect()).await;
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 10);
    assert_eq!(lab.cloud.request_count(), 10, "each run had one node");
}
