//! What all processes share, when the work is done, and what must hold then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::LineSink;
use pushbutton_core::memory::{FakeStage, MemoryEventStore, MemoryExecutor, MemoryQueue};
use pushbutton_core::{
    DeadLetters, EventStore, Executor, JobSpec, Node, OnFailure, Provisioner, Queue, Result, RunId, RunWhen,
    Shutdown, Stage, StageContext, StageOutcome, StageStatus, Sweeper, Verdict,
};
use pushbutton_testkit::faults::FaultPlan;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::TIME_LIMIT;
use crate::cloud::Cloud;
use crate::processes;
use crate::review::Review;
use crate::rng::Rng;
use crate::upstream::{JOBS, Upstream, fails, is_superseded, job_name};

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    pub(crate) seed: u64,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) executor: Arc<CheckedExecutor>,
    pub(crate) review: Arc<Review>,
    pub(crate) event_store: Arc<MemoryEventStore>,
    /// The plan of the handler, and of each operator.
    pub(crate) plans: [FaultPlan; 3],
    /// Begins when every job has ended.
    pub(crate) done: Shutdown,
    errors: Mutex<Vec<String>>,
}

/// What has happened in all, and what was wrong.
pub(crate) struct Outcome {
    pub(crate) errors: Vec<String>,
    commented: usize,
    superseded: usize,
    infrastructure: usize,
    runs: usize,
    injected: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { errors, commented, superseded, infrastructure, runs, injected } = self;
        write!(
            f,
            "triggered {JOBS}, commented {commented} ({infrastructure} infrastructure failures), \
             superseded {superseded}, runs {runs}, faults injected {injected}, errors {}",
            errors.len()
        )
    }
}

impl Lab {
    pub(crate) fn new(seed: u64) -> Self {
        let cloud = Arc::new(Cloud::new(Rng::new(seed, 2)));
        Self {
            seed,
            upstream: Arc::new(Upstream::new(Rng::new(seed, 1))),
            // Faults must not end a job.
            queue: Arc::new(MemoryQueue::with_lease(LEASE).with_max_lost_leases(1000)),
            executor: Arc::new(CheckedExecutor::new(Rng::new(seed, 3), Arc::clone(&cloud))),
            cloud,
            review: Arc::default(),
            event_store: Arc::default(),
            plans: [0, 1, 2].map(|n| processes::fault_plan(seed.wrapping_mul(3).wrapping_add(n))),
            done: Shutdown::new(),
            errors: Mutex::default(),
        }
    }

    pub(crate) fn error(&self, what: String) {
        self.errors.lock().unwrap().push(what);
    }

    /// Runs until every job was reported, then repairs everything and shuts down.
    pub(crate) async fn run(&self) {
        let end = async {
            if timeout(TIME_LIMIT, self.until_all_is_reported()).await.is_err() {
                self.error(format!("not done within {TIME_LIMIT:?}: {:?}", self.queue.depth().await));
            }
            for plan in &self.plans {
                plan.repair_all();
            }
            self.done.begin();
        };
        tokio::join!(
            end,
            processes::handler(self),
            processes::operator(self, 1),
            processes::operator(self, 2)
        );
    }

    /// Waits until every event was handled, every job has a report or is superseded, and no job waits or runs.
    async fn until_all_is_reported(&self) {
        loop {
            let depth = self.queue.depth().await.unwrap();
            let reported = (1..=JOBS)
                .all(|n| is_superseded(n) || !self.review.comments_on(&Upstream::job_of(n)).is_empty());
            if reported && !depth.is_busy() && self.all_events_are_handled().await {
                return;
            }
            sleep(LEASE).await;
        }
    }

    async fn all_events_are_handled(&self) -> bool {
        for event in self.upstream.events().filter(|event| event.kind.name() == "comment-added") {
            if !self.event_store.has_seen(&event.id).await.unwrap() {
                return false;
            }
        }
        true
    }

    /// Checks what must hold.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.queue_is_empty().await;
        self.nothing_is_left().await;
        let (mut superseded, mut infrastructure) = (0, 0);
        for n in 1..=JOBS {
            let job = Upstream::job_of(n);
            match &self.review.comments_on(&job)[..] {
                [verdict] => match verdict {
                    Verdict::Success if !fails(n) => {}
                    Verdict::Failure { stage } if fails(n) && stage.as_str() == "tempest" => {}
                    // Failures of the lab, such as a stage that hangs: none of these carries a vote.
                    Verdict::NodeFailure
                    | Verdict::RetryLimit
                    | Verdict::PostFailure
                    | Verdict::TimedOut { .. } => infrastructure += 1,
                    other => self.error(format!("change {n} has the false verdict {other:?}")),
                },
                [] if is_superseded(n) => superseded += 1,
                [] => self.error(format!("change {n} has no comment")),
                many => self.error(format!("change {n} has {} comments: {many:?}", many.len())),
            }
        }
        let mut errors = self.errors.lock().unwrap().clone();
        errors.extend(self.executor.seen().errors.iter().cloned());
        Outcome {
            errors,
            commented: self.review.count(),
            superseded,
            infrastructure,
            runs: self.executor.seen().runs.len(),
            injected: self.plans.iter().map(|plan| plan.injected().len()).sum(),
        }
    }

    async fn queue_is_empty(&self) {
        let depth = self.queue.depth().await.unwrap();
        if depth != pushbutton_core::QueueDepth::default() {
            self.error(format!("the queue is not empty: {depth:?}, {:?}", self.queue.list(10).await));
        }
        for event in self.upstream.events() {
            // Published again, as after the loss of the event store: the queue knows the jobs, and none may run again.
            if event.kind.name() == "comment-added" {
                let job = pushbutton_core::Job::new(job_name(), event, "recheck", jiff::Timestamp::now());
                self.queue.publish(&job).await.unwrap();
            }
        }
        let depth = self.queue.depth().await.unwrap();
        if depth.waiting != 0 {
            self.error(format!("{} jobs would run again", depth.waiting));
        }
    }

    /// A sweep deletes everything that crashes have left behind.
    async fn nothing_is_left(&self) {
        // Requests of processes that have ended are complete by then.
        sleep(LEASE).await;
        let sweeper = Sweeper::new(self.cloud.clone(), self.queue.clone()).with_safety_age(Duration::ZERO);
        let swept = sweeper.sweep().await.unwrap();
        let left = self.cloud.list_owned().await.unwrap();
        if !left.is_empty() || !swept.left.is_empty() {
            self.error(format!("left behind: {left:?}, {:?}", swept.left));
        }
    }
}

/// The job of every change: install (a failure of the lab is retried), tempest, and always logs.
pub(crate) fn spec() -> JobSpec {
    let stage = |name: &str| {
        let timeout = Duration::from_secs(1800);
        Stage::new(name.parse().unwrap(), format!("{name}.yml")).with_timeout(timeout)
    };
    JobSpec::new("devstack".parse().unwrap())
        .stage(stage("install").with_on_failure(OnFailure::Retry))
        .stage(stage("tempest"))
        .stage(stage("logs").with_run(RunWhen::Always).with_timeout(Duration::from_secs(300)))
        .with_attempts(5u32)
        .with_boot_timeout(Duration::from_secs(300))
        .with_timeout(Duration::from_secs(3600))
}

/// An executor that records two runs of one job at the same time, and a run whose node was deleted, as errors.
pub(crate) struct CheckedExecutor {
    inner: MemoryExecutor,
    cloud: Arc<Cloud>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub(crate) struct Seen {
    running: BTreeMap<String, RunId>,
    runs: BTreeSet<RunId>,
    errors: Vec<String>,
}

impl CheckedExecutor {
    fn new(rng: Rng, cloud: Arc<Cloud>) -> Self {
        let rng = Mutex::new(rng);
        let inner = MemoryExecutor::new(move |stage, context| {
            let mut rng = rng.lock().unwrap();
            let takes = match stage.name.as_str() {
                "logs" => rng.between(Duration::from_secs(1), Duration::from_secs(30)),
                _ => rng.between(Duration::from_secs(20), Duration::from_secs(600)),
            };
            let failed = stage.name.as_str() == "tempest" && fails(context.job.change.number.0);
            let status = if rng.percent(2) {
                StageStatus::Unreachable
            } else if failed {
                StageStatus::Failed
            } else {
                StageStatus::Passed
            };
            FakeStage::ends(status).after(takes)
        });
        Self { inner, cloud, seen: Arc::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// Removes the run from the running ones when the stage ends, also when it is dropped.
struct Running(Arc<Mutex<Seen>>, String);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap().running.remove(&self.1);
    }
}

#[async_trait]
impl Executor for CheckedExecutor {
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        if cancel.is_cancelled() {
            return Ok(StageOutcome::new(StageStatus::Cancelled, Duration::ZERO));
        }
        let job = context.job.id.to_string();
        {
            let mut seen = self.seen();
            seen.runs.insert(context.run.clone());
            if let Some(other) = seen.running.insert(job.clone(), context.run.clone()) {
                let change = context.job.change.number;
                seen.errors
                    .push(format!("change {change}: runs {other} and {} at the same time", context.run));
            }
        }
        let _running = Running(Arc::clone(&self.seen), job);
        let outcome = self.inner.execute(stage, nodes, context, lines, cancel).await;
        if !self.cloud.has(&context.run) {
            let change = context.job.change.number;
            self.seen()
                .errors
                .push(format!("change {change}: the node of {} was deleted while it ran", context.run));
        }
        outcome
    }
}
