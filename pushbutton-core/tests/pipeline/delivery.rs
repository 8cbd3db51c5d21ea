//! Every buildset is reported once, whatever happens to reviews, brokers and processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::memory::{MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource};
use pushbutton_core::samples;
use pushbutton_core::{
    Alerter, BuildsetReport, Error, ErrorKind, EventMatch, Handler, JobSpec, LogLocation, Operator, Pipeline,
    Queue, Reporter, Result, Shutdown, StageStatus, Trigger, Triggers, UndeliveredReports, Verdict,
    async_trait,
};
use pushbutton_testkit::faults::{Fault, FaultPlan, FaultyQueue, Method};
use tokio::time::Instant;

use crate::lab::{Lab, MINUTE, stage};

const HOUR: Duration = Duration::from_secs(3600);

/// A review that answers as it is told, and counts the calls.
#[derive(Default)]
struct Review {
    inner: MemoryReporter,
    answer: Mutex<Option<fn() -> Error>>,
    hangs: AtomicBool,
    panics: AtomicBool,
    calls: AtomicU32,
}

impl Review {
    fn answer(&self, error: Option<fn() -> Error>) {
        *self.answer.lock().unwrap() = error;
    }
}

#[async_trait]
impl Reporter for Review {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "a defect of this reporter");
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let answer = *self.answer.lock().unwrap();
        match answer {
            Some(error) => Err(error()),
            None => self.inner.deliver(report).await,
        }
    }

    fn name(&self) -> &str {
        "review"
    }
}

#[derive(Default)]
struct Pager(Mutex<Vec<String>>);

#[async_trait]
impl Alerter for Pager {
    async fn alert(&self, _: &str, text: &str) -> Result<()> {
        self.0.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

fn away() -> Error {
    Error::temporary(ErrorKind::Unreachable, "no route to host")
}

fn refused() -> Error {
    Error::permanent(ErrorKind::Denied, "the label is not permitted")
}

/// A handler of this queue that gets no events.
fn handler(queue: &Arc<MemoryQueue>) -> (tokio::sync::mpsc::Sender<pushbutton_core::Event>, Handler) {
    let (events, source) = MemorySource::channel(1);
    (events, Handler::new(source, Triggers::compile(vec![], vec![]).unwrap(), queue.clone()))
}

/// Makes the report of a change due, as an operator does.
async fn complete(queue: &MemoryQueue, change: u64) {
    queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
    let claim = queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
    claim.complete(&samples::success(claim.job())).await.unwrap();
}

async fn until_nothing_is_due(queue: &dyn Queue) {
    while queue.depth().await.unwrap().is_busy() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Runs the handler until these steps have ended.
async fn with(handler: Handler, steps: impl Future<Output = ()>) {
    let shutdown = Shutdown::new();
    let steps = async {
        steps.await;
        shutdown.begin();
    };
    tokio::join!(handler.run(&shutdown), steps).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_one_event_make_one_report_with_a_line_for_each() {
    let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let names = ["tempest", "unit"].map(|name| name.parse().unwrap());
    let triggers = Triggers::compile(vec![Trigger::new("recheck", recheck, names.clone())], vec![]).unwrap();
    let (queue, review) = (MemoryQueue::default(), Arc::new(MemoryReporter::default()));
    let handler =
        Handler::new(MemorySource::of(vec![samples::comment("bob", "recheck")]), triggers, queue.clone())
            .with_reporter(review.clone());
    let spec = JobSpec::new("devstack".parse().unwrap()).stage(stage("run"));
    let jobs = names.map(|name| (name, spec.clone()));
    let logs = LogLocation::new("logs");
    let operator = Operator::new(queue, MemoryProvisioner::default(), MemoryExecutor::default(), jobs, logs);
    Pipeline::new(handler, operator).unwrap().run(&Shutdown::new()).await.unwrap();
    let delivered = review.delivered();
    assert_eq!(delivered.len(), 1, "{delivered:#?}");
    assert_eq!(delivered[0].summary(), "tempest SUCCESS, unit SUCCESS");
}

#[tokio::test(start_paused = true)]
async fn a_review_that_is_away_for_longer_than_many_runs_costs_no_slot_and_no_run() {
    let queue = Arc::new(MemoryQueue::default());
    let lab = Lab::where_stage("none", StageStatus::Passed).with_queue(queue.clone());
    let (review, (_events, handler)) = (Arc::new(Review::default()), handler(&queue));
    review.answer(Some(away));
    let steps = async {
        let began = Instant::now();
        lab.run_on(lab.operator(), (1..=10).map(|change| samples::job_on(change, "tempest")).collect()).await;
        assert!(began.elapsed() < HOUR, "one slot ran all of them meanwhile: {:?}", began.elapsed());
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.leased, depth.reports), (0, 10));
        tokio::time::sleep(20 * HOUR).await;
        review.answer(None);
        until_nothing_is_due(queue.as_ref()).await;
    };
    Box::pin(with(handler.with_reporter(review.clone()), steps)).await;
    assert_eq!(review.inner.delivered().len(), 10);
    assert_eq!(lab.cloud.request_count(), 10, "no run was repeated");
    let calls = review.calls.load(Ordering::Relaxed);
    assert!(calls < 10 * 250, "the delay between tries grows: {calls} calls in 20 hours");
}

#[tokio::test(start_paused = true)]
async fn a_refused_report_is_kept_and_a_person_is_alerted_once() {
    let queue = Arc::new(MemoryQueue::default());
    let (review, mail, pager) =
        (Arc::new(Review::default()), Arc::new(MemoryReporter::default()), Arc::new(Pager::default()));
    review.answer(Some(refused));
    let (_events, handler) = handler(&queue);
    let handler =
        handler.with_reporter(review.clone()).with_reporter(mail.clone()).with_alerter(pager.clone());
    let steps = async {
        complete(&queue, 7).await;
        until_nothing_is_due(queue.as_ref()).await;
        tokio::time::sleep(HOUR).await;
        let kept = queue.list_undelivered(10).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].why, "review: the label is not permitted");
        assert_eq!((mail.delivered().len(), review.calls.load(Ordering::Relaxed)), (1, 1));
        let alerts = pager.0.lock().unwrap().clone();
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert!(alerts[0].contains("The results of change 7,2 (tempest SUCCESS) were refused"), "{alerts:?}");

        review.answer(None);
        assert!(queue.retry_undelivered(&kept[0].report.id).await.unwrap());
        until_nothing_is_due(queue.as_ref()).await;
    };
    with(handler, steps).await;
    assert_eq!((review.inner.delivered().len(), mail.updates().len()), (1, 0));
    assert_eq!(queue.list_undelivered(10).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reporter_that_hangs_or_panics_costs_its_own_report_and_no_other() {
    let queue = Arc::new(MemoryQueue::with_lease(15 * MINUTE));
    let (review, mail) = (Arc::new(Review::default()), Arc::new(MemoryReporter::default()));
    let (_events, handler) = handler(&queue);
    let steps = async {
        review.hangs.store(true, Ordering::Relaxed);
        for change in 1..=6 {
            complete(&queue, change).await;
        }
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(mail.delivered().len(), 6, "the other reporter gets each of them");
        assert_eq!(queue.depth().await.unwrap().reports, 6, "tried again later");
        review.hangs.store(false, Ordering::Relaxed);
        until_nothing_is_due(queue.as_ref()).await;
        review.panics.store(true, Ordering::Relaxed);
        complete(&queue, 7).await;
        until_nothing_is_due(queue.as_ref()).await;
    };
    with(handler.with_reporter(review.clone()).with_reporter(mail.clone()), steps).await;
    let kept = queue.list_undelivered(10).await.unwrap();
    assert_eq!((kept.len(), review.inner.delivered().len(), mail.delivered().len()), (1, 6, 7));
    assert!(kept[0].why.contains("the reporter panicked: a defect of this reporter"), "{}", kept[0].why);
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_handler_dies_is_delivered_by_the_next_one() {
    let queue = Arc::new(MemoryQueue::default());
    let review = Arc::new(Review::default());
    review.hangs.store(true, Ordering::Relaxed);
    complete(&queue, 1).await;
    let (_events, first) = handler(&queue);
    let run = first.with_reporter(review.clone());
    assert!(
        tokio::time::timeout(10 * MINUTE / 20, run.run(&Shutdown::new())).await.is_err(),
        "it was killed"
    );
    review.hangs.store(false, Ordering::Relaxed);
    let (_events, second) = handler(&queue);
    with(second.with_reporter(review.clone()), until_nothing_is_due(queue.as_ref())).await;
    assert_eq!(review.inner.delivered().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_at_the_end_of_a_run_loses_no_result() {
    let plan = FaultPlan::none();
    let queue = Arc::new(MemoryQueue::with_lease(15 * MINUTE));
    let lab = Lab::where_stage("tempest", StageStatus::Failed).with_queue(queue.clone());
    let faulty = Arc::new(FaultyQueue::new(queue.clone(), &plan));
    plan.next(
        Method::Complete,
        [Some(Fault::Fail(away)), Some(Fault::Fail(away)), Some(Fault::LoseResponse(away))],
    );
    let jobs = [("tempest".parse().unwrap(), crate::lab::tempest())];
    let operator =
        Operator::new(faulty, lab.cloud.clone(), MemoryExecutor::default(), jobs, LogLocation::new("logs"))
            .with_reporter(lab.reporter.clone());
    lab.run_on(operator, vec![samples::job("tempest")]).await;
    assert_eq!((lab.report().verdict, lab.cloud.request_count()), (Verdict::Success, 1), "it ran once");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.leased, depth.waiting, depth.reports), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn each_of_many_buildsets_is_delivered_once_by_two_handlers_that_fail_at_random() {
    let queue = Arc::new(MemoryQueue::with_lease(5 * MINUTE));
    let review = Arc::new(Counting::default());
    for change in 0..50 {
        complete(&queue, change).await;
    }
    let ((_one_events, one), (_two_events, two)) = (handler(&queue), handler(&queue));
    let other = with(two.with_reporter(review.clone()), until_nothing_is_due(queue.as_ref()));
    tokio::join!(with(one.with_reporter(review.clone()), until_nothing_is_due(queue.as_ref())), other);
    let counts = review.0.lock().unwrap().clone();
    assert_eq!(counts.len(), 50);
    assert!(
        counts.values().all(|count| *count == 1),
        "a report that succeeded is not delivered again: {counts:?}"
    );
}

/// A review that fails two times of three, and counts the successes for each change.
#[derive(Default)]
struct Counting(Mutex<BTreeMap<u64, u32>>, AtomicU32);

#[async_trait]
impl Reporter for Counting {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            return Err(away());
        }
        *self.0.lock().unwrap().entry(report.change.number.0).or_default() += 1;
        Ok(())
    }

    fn name(&self) -> &str {
        "counting"
    }
}
