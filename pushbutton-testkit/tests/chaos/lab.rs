//! What all share, when it is done, and what must hold then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::LineSink;
use pushbutton_core::memory::{FakeStage, MemoryExecutor, MemoryQueue};
use pushbutton_core::{
    DeadLetters, Executor, JobSpec, Node, OnFailure, Provisioner, Queue, Result, RunId, RunWhen, Shutdown,
    Stage, StageContext, StageOutcome, StageStatus, Sweeper, Verdict,
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
    pub(crate) bench: Arc<Bench>,
    pub(crate) review: Arc<Review>,
    /// The handler's, and each operator's.
    pub(crate) schedules: [FaultPlan; 3],
    /// Begun once every job has ended.
    pub(crate) done: Shutdown,
    faults: Mutex<Vec<String>>,
}

/// What became of it all.
pub(crate) struct Outcome {
    pub(crate) faults: Vec<String>,
    commented: usize,
    superseded: usize,
    on_the_lab: usize,
    runs: usize,
    injected: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, commented, superseded, on_the_lab, runs, injected } = self;
        write!(
            f,
            "triggered {JOBS}, commented {commented} ({on_the_lab} on the lab), superseded {superseded}, \
             runs {runs}, faults injected {injected}, broken {}",
            faults.len()
        )
    }
}

impl Lab {
    pub(crate) fn new(seed: u64) -> Self {
        let cloud = Arc::new(Cloud::new(Rng::new(seed, 2)));
        Self {
            seed,
            upstream: Arc::new(Upstream::new(Rng::new(seed, 1))),
            queue: Arc::new(MemoryQueue::with_lease(LEASE)),
            bench: Arc::new(Bench::new(Rng::new(seed, 3), Arc::clone(&cloud))),
            cloud,
            review: Arc::default(),
            schedules: [0, 1, 2].map(|n| processes::schedule(seed.wrapping_mul(3).wrapping_add(n))),
            done: Shutdown::new(),
            faults: Mutex::default(),
        }
    }

    pub(crate) fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// Runs until every job has had its say, mends everything, and ends.
    pub(crate) async fn run(&self) {
        let end = async {
            if timeout(TIME_LIMIT, self.until_all_is_reported()).await.is_err() {
                self.fault(format!("not done within {TIME_LIMIT:?}: {:?}", self.queue.depth().await));
            }
            for schedule in &self.schedules {
                schedule.repair_all();
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

    /// Every job has ended by what the review shows, and nothing waits or runs that would add to it.
    async fn until_all_is_reported(&self) {
        loop {
            let depth = self.queue.depth().await.unwrap();
            let said = (1..=JOBS).all(|n| {
                let job = Upstream::job_of(n);
                !self.review.comments_on(&job).is_empty() || self.review.unreported_of(&job).is_some()
            });
            if said && depth.waiting + depth.leased == 0 {
                return;
            }
            sleep(LEASE).await;
        }
    }

    /// Looks at what must hold.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.queue_is_empty().await;
        self.nothing_is_left().await;
        let (mut superseded, mut on_the_lab) = (0, 0);
        for n in 1..=JOBS {
            let job = Upstream::job_of(n);
            let (said, untold) = (self.review.comments_on(&job), self.review.unreported_of(&job));
            match (&said[..], untold) {
                ([verdict], _) => match verdict {
                    Verdict::Success if !fails(n) => {}
                    Verdict::Failure { stage } if fails(n) && stage.as_str() == "tempest" => {}
                    // The lab's own troubles, a stage that hangs among them: none of these carries a vote.
                    Verdict::NodeFailure
                    | Verdict::RetryLimit
                    | Verdict::PostFailure
                    | Verdict::TimedOut { .. } => on_the_lab += 1,
                    other => self.fault(format!("change {n} was told {other:?}, which is false")),
                },
                ([], Some(Verdict::Superseded)) if is_superseded(n) => superseded += 1,
                ([], verdict) => self.fault(format!("change {n} was told nothing: {verdict:?}")),
                (many, _) => self.fault(format!("change {n} was told {} times: {many:?}", many.len())),
            }
        }
        let mut faults = self.faults.lock().unwrap().clone();
        faults.extend(self.bench.seen().broken.iter().cloned());
        Outcome {
            faults,
            commented: self.review.count(),
            superseded,
            on_the_lab,
            runs: self.bench.seen().runs.len(),
            injected: self.schedules.iter().map(|schedule| schedule.injected().len()).sum(),
        }
    }

    async fn queue_is_empty(&self) {
        let depth = self.queue.depth().await.unwrap();
        if depth != pushbutton_core::QueueDepth::default() {
            self.fault(format!("the queue is not empty: {depth:?}, {:?}", self.queue.list(10).await));
        }
        for event in self.upstream.events() {
            // Published again, as after a lost ledger: nothing may run again. The queue remembers.
            if event.kind.name() == "comment-added" {
                let job = pushbutton_core::Job::new(job_name(), event, "recheck", jiff::Timestamp::now());
                self.queue.publish(&job).await.unwrap();
            }
        }
        let depth = self.queue.depth().await.unwrap();
        if depth.waiting != 0 {
            self.fault(format!("{} jobs would run again", depth.waiting));
        }
    }

    /// A sweep clears away all that crashes have left.
    async fn nothing_is_left(&self) {
        // What the cloud was asked by those who have gone is there by now.
        sleep(LEASE).await;
        let sweeper = Sweeper::new(self.cloud.clone(), self.queue.clone()).with_safety_age(Duration::ZERO);
        let swept = sweeper.sweep().await.unwrap();
        let left = self.cloud.list_owned().await.unwrap();
        if !left.is_empty() || !swept.left.is_empty() {
            self.fault(format!("left behind: {left:?}, {:?}", swept.left));
        }
    }
}

/// The job of every change: install (a failure is the lab's), tempest, and logs always.
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

/// An executor that knows who runs: no two runs of a job may, at once, and none without its machine.
pub(crate) struct Bench {
    inner: MemoryExecutor,
    cloud: Arc<Cloud>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub(crate) struct Seen {
    running: BTreeMap<String, RunId>,
    runs: BTreeSet<RunId>,
    broken: Vec<String>,
}

impl Bench {
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

/// Ends with the stage, also when that is dropped.
struct Running(Arc<Mutex<Seen>>, String);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap().running.remove(&self.1);
    }
}

#[async_trait]
impl Executor for Bench {
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
                seen.broken.push(format!("change {change}: runs {other} and {} at once", context.run));
            }
        }
        let _running = Running(Arc::clone(&self.seen), job);
        let outcome = self.inner.execute(stage, nodes, context, lines, cancel).await;
        if !self.cloud.has(&context.run) {
            let change = context.job.change.number;
            self.seen()
                .broken
                .push(format!("change {change}: the machine of {} was taken away", context.run));
        }
        outcome
    }
}
