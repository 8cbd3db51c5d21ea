//! The pipeline trusts no part: one that breaks its contract costs its own run or call, and nothing else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{MemoryQueue, MemorySource};
use pushbutton_core::{
    CancellationToken, ControlMessage, Error, ErrorKind, Event, EventMatch, EventSource, Executor, Handler,
    Journal, LineSink, Node, NodeRequest, OwnedResource, Position, Provisioner, Queue, Reporter, Result,
    RunId, Shutdown, Stage, StageContext, StageOutcome, StageStatus, Sweeper, Trigger, Triggers, Update,
    UpdateKind, Verdict, async_trait, samples,
};
use pushbutton_testkit::faults::{Fault, FaultPlan, Faulty, Method};

use crate::lab::{Lab, MINUTE, Unstoppable};

/// An executor that misreads its own cancellation in one way.
struct Misreads(fn() -> Result<StageOutcome>);

#[async_trait]
impl Executor for Misreads {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        if stage.name.as_str() != "tempest" {
            return Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO));
        }
        cancel.cancelled().await;
        (self.0)()
    }
}

fn failed() -> Result<StageOutcome> {
    Ok(StageOutcome::new(StageStatus::Failed, Duration::ZERO))
}

fn cancelled() -> Result<StageOutcome> {
    Err(Error::permanent(ErrorKind::Cancelled, "cancelled"))
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stage_that_is_reported_as_failed_is_no_failure_of_the_patch() {
    // core.md S1-4
    for how in [failed, cancelled] {
        let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(Misreads(how)));
        let job = samples::job("tempest");
        let cancel = async {
            tokio::time::sleep(MINUTE).await;
            let message = ControlMessage::Cancel { job: job.id.clone(), by: "ops".into(), at: samples::AT };
            lab.queue.broadcast(&message).await.unwrap();
        };
        tokio::join!(lab.run(&job), cancel);
        assert_eq!(lab.report().verdict, Verdict::Cancelled);
    }
}

/// Passes soon after it was cancelled the first time, and at once later: its last stage ends by itself.
#[derive(Default)]
struct PassesAnyway(AtomicBool);

#[async_trait]
impl Executor for PassesAnyway {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        if stage.name.as_str() == "tempest" && !self.0.swap(true, Ordering::Relaxed) {
            cancel.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO))
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_lease_is_lost_in_its_last_stage_reports_nothing_also_without_always_stages() {
    // core.md S1-4: another operator may hold the job by the time that the stage passes.
    let broker = FaultPlan::none();
    let lab = Lab::where_stage("-", StageStatus::Passed)
        .with_executor(Arc::new(PassesAnyway::default()))
        .with_spec(|spec| spec.stages.truncate(2))
        .with_queue(Arc::new(Faulty::new(Arc::new(MemoryQueue::with_lease(MINUTE)), &broker)));
    let job = samples::job("tempest");
    let away = async {
        tokio::time::sleep(MINUTE).await;
        broker.always(Method::Renew, Fault::unreachable());
        tokio::time::sleep(3 * MINUTE).await;
        broker.repair(Method::Renew);
    };
    tokio::join!(lab.run(&job), away);
    let finished = |update: &Update| matches!(update.kind, UpdateKind::Finished { .. });
    let finals = lab.reporter.updates().iter().filter(|update| finished(update)).count();
    assert_eq!((lab.cloud.request_count(), finals), (2, 1), "only the second run reports");
}

/// core.md S3-5: helpers of an operator that panic start again.
#[tokio::test(start_paused = true)]
async fn s3_5_after_panics_in_the_background_jobs_are_still_cancelled_and_orphans_swept() {
    let broker = FaultPlan::none();
    let panic = || Some(Fault::Fail(|| panic!("a part panics")));
    broker.next(Method::ControlMessages, [panic(), panic()]);
    broker.next(Method::LeasedRuns, [panic()]);
    let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(Unstoppable));
    let lab = lab.with_queue(Arc::new(Faulty::new(Arc::new(MemoryQueue::default()), &broker)));
    // The longest interval that there is.
    let sweeper = Sweeper::new(lab.cloud.clone(), lab.queue.clone())
        .with_interval(Duration::MAX)
        .with_safety_age(Duration::ZERO);
    let job = samples::job("tempest");
    let cancel = async {
        while broker.calls(Method::ControlMessages) < 3 || broker.calls(Method::LeasedRuns) < 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let message = ControlMessage::Cancel { job: job.id.clone(), by: "ops".into(), at: samples::AT };
        lab.queue.broadcast(&message).await.unwrap();
    };
    tokio::join!(lab.run_on(lab.operator().with_sweeper(sweeper), vec![job.clone()]), cancel);
    assert_eq!(lab.report().verdict, Verdict::Cancelled);
    assert_eq!(broker.injected().len(), 3);
}

/// Panics at one stage.
struct Panics(&'static str);

#[async_trait]
impl Executor for Panics {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        assert!(stage.name.as_str() != self.0, "a defect of this executor");
        Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_executor_is_an_infrastructure_failure_that_leaks_no_node() {
    // core.md S2-2
    for stage in ["install", "tempest", "logs"] {
        let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(Panics(stage)));
        // It also asserts that no node is left.
        lab.run(&samples::job("tempest")).await;
        assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::RetryLimit, 3), "{stage}");
        assert_eq!(lab.cloud.request_count(), 3);
    }
}

/// A reporter that panics, or never returns, at steps of this kind.
struct Broken {
    at: fn(&UpdateKind) -> bool,
    panics: bool,
    calls: AtomicUsize,
}

#[async_trait]
impl Reporter for Broken {
    async fn report(&self, update: &Update) -> Result<()> {
        if (self.at)(&update.kind) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "a defect of this reporter");
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "broken"
    }
}

#[tokio::test(start_paused = true)]
async fn a_reporter_that_panics_or_hangs_costs_its_own_call_and_no_run() {
    // core.md S2-4
    let any_step = |kind: &UpdateKind| !matches!(kind, UpdateKind::Finished { .. });
    let only_final = |kind: &UpdateKind| matches!(kind, UpdateKind::Finished { .. });
    for (at, panics) in [(any_step as fn(&UpdateKind) -> bool, true), (any_step, false), (only_final, true)] {
        let lab = Lab::where_stage("-", StageStatus::Passed);
        let broken = Arc::new(Broken { at, panics, calls: AtomicUsize::new(0) });
        lab.run_on(lab.operator().with_reporter(broken.clone()), vec![samples::job("tempest")]).await;
        assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::Success, 1));
        assert!(broken.calls.load(Ordering::Relaxed) > 0);
    }
}

type ReleaseEnd = fn() -> Result<()>;

/// A cloud whose `release` fails, hangs or panics, and that counts the calls.
struct Stuck {
    how: ReleaseEnd,
    hangs: bool,
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl Provisioner for Stuck {
    async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        Ok(Node::ssh("x", request.label.clone(), "127.0.0.1", "nobody"))
    }

    async fn release(&self, _: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        (self.how)()
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_released_holds_neither_the_slot_nor_the_claim() {
    // backends.md L6: ten tries of three minutes each held the slot for up to 35 minutes.
    let refuses = || Err(Error::temporary(ErrorKind::Remote, "the server is locked"));
    let panics = || panic!("a defect of this provisioner");
    let cases: [(ReleaseEnd, bool, Duration); 3] = [
        (refuses, false, Duration::from_secs(1)),
        (|| Ok(()), true, 6 * MINUTE),
        (panics, false, Duration::from_secs(1)),
    ];
    for (how, hangs, limit) in cases {
        let lab = Lab::where_stage("-", StageStatus::Passed);
        let calls = Arc::new(AtomicUsize::new(0));
        let operator = lab.operator_with(Stuck { how, hangs, calls: Arc::clone(&calls) });
        let began = tokio::time::Instant::now();
        lab.run_on(operator, vec![samples::job("tempest")]).await;
        assert!(began.elapsed() <= limit + Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!((lab.report().verdict, calls.load(Ordering::Relaxed)), (Verdict::Success, 1));
    }
}

/// A queue on which it can be seen what came first.
#[tokio::test(start_paused = true)]
async fn the_claim_is_settled_before_a_slow_reporter_hears_that_the_job_is_retried() {
    // core.md S2-4
    let lab = Lab::where_stage("install", StageStatus::Failed);
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let looks = Looks { queue: lab.queue.clone(), waiting: Arc::clone(&waiting) };
    lab.run_on(lab.operator().with_reporter(looks), vec![samples::job("tempest")]).await;
    assert_eq!(*waiting.lock().unwrap(), [1, 1], "the job waits again when its retry is reported");
}

struct Looks {
    queue: Arc<dyn pushbutton_testkit::conformance::outbox::QueueWithOutbox>,
    waiting: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Reporter for Looks {
    async fn report(&self, update: &Update) -> Result<()> {
        if matches!(update.kind, UpdateKind::Retrying { .. }) {
            let waiting = self.queue.depth().await?.waiting;
            self.waiting.lock().unwrap().push(waiting);
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "looks"
    }
}

/// A source whose calls fail for a while, as when its store's disk is full.
struct Flaky {
    inner: MemorySource,
    failures: u32,
}

#[async_trait]
impl EventSource for Flaky {
    async fn next(&mut self) -> Result<Option<Event>> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(Error::temporary(ErrorKind::Local, "no space left on device"));
        }
        self.inner.next().await
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.inner.commit(position).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_of_the_source_does_not_end_the_intake() {
    // core.md S2-1
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("recheck", on, ["tempest".parse().unwrap()]);
    let queue = MemoryQueue::default();
    let inner = MemorySource::of(vec![samples::comment("bob", "recheck")]);
    let handler = Handler::new(
        Flaky { inner, failures: 20 },
        Triggers::compile(vec![trigger], vec![]).unwrap(),
        queue.clone(),
    )
    .with_clock(FixedClock::at(samples::AT));
    let stats = handler.run(&Shutdown::new()).await.unwrap();
    assert_eq!((stats.events, stats.jobs), (1, 1));
}

/// An executor on a host where nothing can be run, until it is repaired.
struct BrokenHost {
    repaired: Arc<AtomicBool>,
    /// The stage that finds out.
    at: &'static str,
    /// How long it has run by then.
    after: Duration,
}

#[async_trait]
impl Executor for BrokenHost {
    async fn execute(
        &self,
        stage: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        if stage.name.as_str() == self.at && !self.repaired.load(Ordering::Relaxed) {
            tokio::time::sleep(self.after).await;
            return Err(Error::temporary(ErrorKind::Local, "ansible-playbook is not installed"));
        }
        Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO))
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_host_stops_claiming_and_costs_no_job_an_attempt() {
    // backends.md V7: the fastest failing operator sent the whole queue to the dead letters.
    let repaired = Arc::new(AtomicBool::new(false));
    let broken = BrokenHost { repaired: Arc::clone(&repaired), at: "install", after: Duration::ZERO };
    let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(broken));
    let repair = async {
        tokio::time::sleep(30 * MINUTE).await;
        let requests = lab.cloud.request_count();
        assert!((2..=7).contains(&requests), "a probe after each pause, which doubles: {requests}");
        repaired.store(true, Ordering::Relaxed);
    };
    let jobs = (1..=10).map(|change| samples::job_on(change, "tempest")).collect();
    tokio::join!(lab.run_on(lab.operator(), jobs), repair);
    let reports = lab.reporter.results();
    assert_eq!((reports.len(), lab.queue.depth().await.unwrap().dead), (10, 0));
    for report in reports {
        assert_eq!((report.verdict, report.attempts), (Verdict::Success, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_may_have_broken_the_host_is_counted() {
    // A later stage, or the first one when it has run for a while.
    for (at, after) in [("tempest", Duration::ZERO), ("install", 2 * MINUTE)] {
        let broken = BrokenHost { repaired: Arc::default(), at, after };
        let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(broken));
        lab.run(&samples::job("tempest")).await;
        assert_eq!((lab.report().verdict, lab.report().attempts), (Verdict::RetryLimit, 3), "{at}");
    }
}

/// Keeps every sink that it gets, as an executor with a thread of its own may.
#[derive(Default)]
struct KeepsSinks(Mutex<Vec<LineSink>>);

#[async_trait]
impl Executor for KeepsSinks {
    async fn execute(
        &self,
        _: &Stage,
        _: &[Node],
        _: &StageContext,
        lines: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        self.0.lock().unwrap().push(lines.clone());
        Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO))
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_an_executor_keeps_holds_no_run() {
    let lab = Lab::where_stage("-", StageStatus::Passed).with_executor(Arc::new(KeepsSinks::default()));
    lab.run(&samples::job("tempest")).await;
    assert_eq!(lab.report().verdict, Verdict::Success);
}
