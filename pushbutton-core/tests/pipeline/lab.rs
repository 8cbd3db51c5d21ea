//! A lab in memory: an operator, and parts that tests can inspect.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::memory::{FakeStage, MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter};
use pushbutton_core::{
    CancellationToken, Error, ErrorKind, Executor, Job, JobSpec, Journal, LineSink, LogLocation, Node,
    NodeRequest, OnFailure, Operator, OwnedResource, Provisioner, Result, RunId, RunResult, RunWhen,
    Shutdown, Stage, StageContext, StageOutcome, StageStatus, UpdateKind, async_trait,
};
use pushbutton_testkit::conformance::outbox::QueueWithOutbox;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A stage with the defaults: it runs after a success, its failure is the patch's, and its time limit is an hour.
pub(crate) fn stage(name: &str) -> Stage {
    Stage::new(name.parse().unwrap(), format!("{name}.yml"))
}

/// The usual job: install (its failure is the lab's), tempest, and always logs.
pub(crate) fn tempest() -> JobSpec {
    JobSpec::new("devstack".parse().unwrap())
        .stage(stage("install").with_on_failure(OnFailure::Retry))
        .stage(stage("tempest"))
        .stage(stage("logs").with_run(RunWhen::Always).with_timeout(10 * MINUTE))
        .with_boot_timeout(5 * MINUTE)
        .with_timeout(120 * MINUTE)
}

/// A cloud that refuses requests or is slow on command, and records the requests.
#[derive(Default)]
pub(crate) struct Cloud {
    inner: MemoryProvisioner,
    refusal: Mutex<Option<fn() -> Error>>,
    boots_for: Mutex<Duration>,
    pub(crate) requests: Mutex<Vec<RunId>>,
}

impl Cloud {
    /// Sets the error that new requests get; none: they succeed.
    pub(crate) fn refuse(&self, error: Option<fn() -> Error>) {
        *self.refusal.lock().unwrap() = error;
    }

    /// Sets the time that nodes take to boot.
    pub(crate) fn boot_for(&self, time: Duration) {
        *self.boots_for.lock().unwrap() = time;
    }

    /// The number of nodes that were requested.
    pub(crate) fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// The error of a cloud whose nodes do not boot.
pub(crate) fn broken() -> Error {
    Error::temporary(ErrorKind::Remote, "the server went into ERROR")
}

/// The error of a full cloud.
pub(crate) fn full() -> Error {
    Error::temporary(ErrorKind::Exhausted, "No valid host was found")
}

#[async_trait]
impl Provisioner for Cloud {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node> {
        self.requests.lock().unwrap().push(request.run.clone());
        let refusal = *self.refusal.lock().unwrap();
        let boots_for = *self.boots_for.lock().unwrap();
        let node = match refusal {
            Some(error) => Err(error()),
            // The node exists, but has not booted: a call that is dropped now leaves it behind.
            None => self.inner.provision(request, journal).await,
        };
        tokio::time::sleep(boots_for).await;
        node
    }

    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()> {
        self.inner.release(run, journal).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        self.inner.list_owned().await
    }
}

pub(crate) struct Lab {
    pub(crate) queue: Arc<dyn QueueWithOutbox>,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) reporter: Arc<MemoryReporter>,
    pub(crate) shutdown: Shutdown,
    executor: Arc<dyn Executor>,
    spec: JobSpec,
}

impl Lab {
    /// A lab whose stages behave as this function says.
    pub(crate) fn new(plan: impl Fn(&str, &StageContext) -> FakeStage + Send + Sync + 'static) -> Self {
        let executor = MemoryExecutor::new(move |stage, context| plan(stage.name.as_str(), context));
        Self {
            queue: Arc::new(MemoryQueue::default()),
            cloud: Arc::default(),
            reporter: Arc::default(),
            shutdown: Shutdown::new(),
            executor: Arc::new(executor),
            spec: tempest(),
        }
    }

    /// A lab in which the stage with this name ends in this way, and all others pass.
    pub(crate) fn where_stage(name: &'static str, status: StageStatus) -> Self {
        Self::new(move |stage, _| FakeStage::ends(if stage == name { status } else { StageStatus::Passed }))
    }

    pub(crate) fn with_queue(mut self, queue: Arc<dyn QueueWithOutbox>) -> Self {
        self.queue = queue;
        self
    }

    pub(crate) fn with_executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = executor;
        self
    }

    pub(crate) fn with_spec(mut self, change: impl FnOnce(&mut JobSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    pub(crate) fn refuse_nodes(self, error: fn() -> Error) -> Self {
        self.cloud.refuse(Some(error));
        self
    }

    pub(crate) fn operator(&self) -> Operator {
        self.operator_without_reporter().with_reporter(self.reporter.clone())
    }

    /// An operator on this cloud instead of the lab's.
    pub(crate) fn operator_with(&self, cloud: impl Provisioner + 'static) -> Operator {
        self.operator_on(cloud).with_reporter(self.reporter.clone())
    }

    pub(crate) fn operator_without_reporter(&self) -> Operator {
        self.operator_on(self.cloud.clone())
    }

    fn operator_on(&self, cloud: impl Provisioner + 'static) -> Operator {
        let logs = LogLocation::new("logs").with_url("https://logs.example.org".to_owned());
        let (queue, executor) = (self.queue.clone(), self.executor.clone());
        let jobs = [("tempest".parse().unwrap(), self.spec.clone())];
        Operator::new(queue, cloud, executor, jobs, logs).with_retry_delays(MINUTE, 15 * MINUTE)
    }

    /// Runs one job to its end, and checks that no node is left.
    pub(crate) async fn run(&self, job: &Job) {
        self.run_on(self.operator(), vec![job.clone()]).await;
    }

    /// The same with this operator and several jobs.
    pub(crate) async fn run_on(&self, operator: Operator, jobs: Vec<Job>) {
        for job in &jobs {
            self.queue.publish(job).await.unwrap();
        }
        let end = async {
            self.wait_until_idle().await;
            self.shutdown.begin();
        };
        let (result, ()) = tokio::join!(operator.run(&self.shutdown), end);
        result.unwrap();
        self.assert_clean().await;
    }

    /// Waits until no job waits and none is leased.
    pub(crate) async fn wait_until_idle(&self) {
        loop {
            let depth = self.queue.depth().await.unwrap();
            if depth.waiting + depth.leased == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) async fn assert_clean(&self) {
        assert_eq!(self.cloud.list_owned().await.unwrap(), [], "a node was left behind");
    }

    /// The only report.
    pub(crate) fn report(&self) -> RunResult {
        let mut reports = self.reporter.results();
        assert_eq!(reports.len(), 1, "one report, not {reports:#?}");
        reports.remove(0)
    }

    /// The stages that ran in all attempts, in order.
    pub(crate) fn stages(&self) -> Vec<String> {
        let started = |kind: UpdateKind| match kind {
            UpdateKind::StageStarted { stage } => Some(stage.to_string()),
            _ => None,
        };
        self.reporter.updates().into_iter().filter_map(|update| started(update.kind)).collect()
    }
}

/// An executor whose stage tempest ignores its time limit and its cancellation.
pub(crate) struct Unstoppable;

#[async_trait]
impl Executor for Unstoppable {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        match stage.name.as_str() {
            "tempest" => std::future::pending().await,
            _ => Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO)),
        }
    }
}
